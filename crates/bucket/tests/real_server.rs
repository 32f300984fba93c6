//! What a bucket on a real server does, and what it says when the server fails. `NIGH_TEST_BUCKET`
//! says which server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use bytes::Bytes;
use nigh_bucket::{
    Bucket, BucketConfig, Cause, Claim, ClaimError, Content, PART_BYTES,
    server::{BUCKET, Fault, Server},
};

/// A server and a client of it.
struct Fixture {
    server: Server,
    bucket: Bucket,
    _dir: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await.unwrap();
    let bucket = Bucket::open(&server.config()).await.unwrap();
    Fixture { server, bucket, _dir: dir }
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

fn content(text: &'static str) -> Content {
    Content::Bytes(Bytes::from_static(text.as_bytes()))
}

async fn read(bucket: &Bucket, key: &str, range: std::ops::Range<u64>) -> Bytes {
    bucket.get(key, range).await.unwrap().collect().await.unwrap()
}

#[tokio::test]
async fn objects_are_put_found_read_in_part_and_removed() {
    let Fixture { bucket, .. } = &fixture().await;
    assert_eq!(bucket.head("packs/a").await.unwrap(), None);
    bucket.put("packs/a", &content("0123456789")).await.unwrap();
    assert_eq!(bucket.head("packs/a").await.unwrap(), Some(10));
    assert_eq!(&read(bucket, "packs/a", 0..10).await[..], b"0123456789");
    assert_eq!(&read(bucket, "packs/a", 3..5).await[..], b"34");
    let missing = bucket.get("packs/b", 0..1).await.unwrap_err();
    assert_eq!(missing.cause, Cause::Missing);
    bucket.remove(&["packs/a".to_owned(), "packs/b".to_owned()]).await.unwrap();
    assert_eq!(bucket.head("packs/a").await.unwrap(), None);
}

/// Three parts, the last one short.
fn large() -> (Bytes, Content) {
    let raw = bytes((2 * PART_BYTES) as usize + 12_345);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &raw).unwrap();
    let content = Content::File { file: file.into(), bytes: raw.len() as u64 };
    (raw, content)
}

#[tokio::test]
async fn a_large_object_from_a_file_arrives_in_parts_in_any_order() {
    let Fixture { server, bucket, .. } = &fixture().await;
    let (raw, content) = large();
    let length = raw.len() as u64;
    assert_eq!(bucket.parts_of("blobs/large", length).unwrap(), 3);
    let id = bucket.begin("blobs/large").await.unwrap();
    let mut parts = Vec::new();
    for number in [3, 1] {
        parts.push(bucket.put_part("blobs/large", &id, &content, number).await.unwrap());
    }
    // Another client goes on: what it needs to know is what it was told.
    let other = Bucket::open(&server.config()).await.unwrap();
    parts.push(other.put_part("blobs/large", &id, &content, 2).await.unwrap());
    parts.sort_by_key(|part| part.number);
    assert_eq!(other.head("blobs/large").await.unwrap(), None, "it is not whole yet");
    other.put_together("blobs/large", &id, &parts, length).await.unwrap();
    assert_eq!(server.parts(), 3);
    assert_eq!(read(bucket, "blobs/large", 0..length).await, raw);
    let middle = PART_BYTES - 5..PART_BYTES + 5;
    let (start, end) = (middle.start as usize, middle.end as usize);
    assert_eq!(read(bucket, "blobs/large", middle).await, raw.slice(start..end));
    // Whoever did not hear that it is whole finds that out, whatever the server says of the upload.
    drop(bucket.put_together("blobs/large", &id, &parts, length).await);
    assert_eq!(bucket.head("blobs/large").await.unwrap(), Some(length));
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let Fixture { server, bucket, .. } = &fixture().await;
    let id = server.leave_upload("blobs/left").await.unwrap();
    if server.kind().lists_uploads() {
        let left = bucket.uploads().await.unwrap();
        assert_eq!(left.iter().map(|upload| &*upload.key).collect::<Vec<_>>(), ["blobs/left"]);
        assert_eq!(left[0].id, id);
    } else {
        assert_eq!(bucket.uploads().await.unwrap_err().cause, Cause::Unsupported);
    }
    bucket.abort("blobs/left", &id).await.unwrap();
    let (_, content) = large();
    bucket.put_part("blobs/left", &id, &content, 1).await.unwrap_err();
    if server.kind().lists_uploads() {
        assert_eq!(bucket.uploads().await.unwrap(), []);
    }
    assert_eq!(bucket.head("blobs/left").await.unwrap(), None);
    // Whoever gives it up again, such as another control, is told of no error that stays.
    if let Err(error) = bucket.abort("blobs/left", &id).await {
        assert_eq!(error.cause, Cause::Denied, "{error}");
    }
}

#[tokio::test]
async fn objects_outside_of_the_prefix_are_neither_seen_nor_touched() {
    let Fixture { server, bucket, .. } = &fixture().await;
    bucket.put("packs/foreign", &content("theirs")).await.unwrap();
    let config = BucketConfig { prefix: "nigh/a/".to_owned(), ..server.config() };
    let own = Bucket::open(&config).await.unwrap();
    own.put("packs/own", &content("ours")).await.unwrap();
    own.remove(&["packs/foreign".to_owned()]).await.unwrap();
    let keys = |listed: Vec<nigh_bucket::Listed>| {
        listed.into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(own.list(None).await.unwrap()), ["packs/own"]);
    assert!(own.list(Some("packs/own")).await.unwrap().is_empty());
    assert_eq!(keys(bucket.list(None).await.unwrap()), ["nigh/a/packs/own", "packs/foreign"]);
}

#[tokio::test]
async fn a_url_lets_anyone_read_one_object_for_a_while() {
    let Fixture { server, bucket, .. } = &fixture().await;
    bucket.put("packs/a", &content("0123456789")).await.unwrap();
    let url = bucket.url("packs/a", Duration::from_secs(60)).await.unwrap();
    assert!(url.contains("/packs/a?") && url.contains("X-Amz-Signature="), "{url}");
    let get = |url: String| async move {
        let text = tokio::process::Command::new("curl")
            .args(["-s", "-o", "-", "-w", "\n%{http_code}", "-H", "Range: bytes=2-4", &url])
            .output()
            .await
            .unwrap();
        String::from_utf8(text.stdout).unwrap()
    };
    assert_eq!(get(url.clone()).await, "234\n206");
    // Another object with the same signature.
    bucket.put("packs/b", &content("0123456789")).await.unwrap();
    let other = get(url.replace("/packs/a?", "/packs/b?")).await;
    assert_eq!(other.ends_with("\n403"), server.kind().checks_signatures(), "{other}");
}

#[tokio::test]
async fn a_bucket_belongs_to_one_fleet() {
    let Fixture { server, bucket, .. } = &fixture().await;
    let empty = bucket.claim("one", true).await.unwrap_err();
    assert!(matches!(empty, ClaimError::Empty { .. }), "{empty}");
    assert_eq!(bucket.claim("one", false).await.unwrap(), Claim::New);
    assert_eq!(bucket.claim("one", true).await.unwrap(), Claim::Own);
    let foreign = bucket.claim("two", false).await.unwrap_err();
    assert!(foreign.to_string().contains("another fleet, one"), "{foreign}");
    server.plant("nigh-fleet.json", "not ours").await.unwrap();
    assert!(matches!(bucket.claim("one", true).await, Err(ClaimError::Unknown { .. })));
}

#[tokio::test]
async fn a_fault_that_passes_is_tried_again_and_nobody_notices() {
    let Fixture { server, bucket, .. } = &fixture().await;
    for fault in [Fault::SlowDown, Fault::Internal, Fault::Gone] {
        let key = format!("packs/{fault:?}");
        server.fail(fault, 2);
        bucket.put(&key, &content("text")).await.unwrap();
        assert_eq!(bucket.head(&key).await.unwrap(), Some(4), "{fault:?}");
    }
}

#[tokio::test]
async fn a_fault_that_stays_is_named_after_a_few_tries() {
    let Fixture { server, bucket, .. } = &fixture().await;
    for (fault, cause, requests_max) in [
        (Fault::SlowDown, Cause::Busy, 4),
        (Fault::Internal, Cause::Busy, 4),
        (Fault::Gone, Cause::Unreachable, 8),
        (Fault::Denied, Cause::Denied, 1),
        (Fault::Clock, Cause::Clock, 4),
    ] {
        // A client of its own: one that has seen many faults tries less.
        let bucket = Bucket::open(&server.config()).await.unwrap();
        let before = server.requests();
        server.set_fault(fault);
        let error = bucket.put("packs/x", &content("text")).await.unwrap_err();
        server.set_fault(Fault::None);
        assert_eq!(error.cause, cause, "{fault:?}: {error}");
        let requests = server.requests() - before;
        assert!((1..=requests_max).contains(&requests), "{fault:?}: {requests} requests");
    }
    bucket.put("packs/x", &content("text")).await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_bucket_or_address_is_told_apart() {
    let Fixture { server, .. } = &fixture().await;
    let put = async |config: BucketConfig| {
        let bucket = Bucket::open(&config).await.unwrap();
        bucket.put("packs/x", &content("text")).await.unwrap_err()
    };
    if server.kind().checks_signatures() {
        let wrong_key = BucketConfig { profile: Some("wrong".to_owned()), ..server.config() };
        assert_eq!(put(wrong_key).await.cause, Cause::Denied);
    }
    let no_profile = BucketConfig { profile: Some("absent".to_owned()), ..server.config() };
    let error = put(no_profile).await;
    assert_eq!(error.cause, Cause::NoCredentials, "{error}");
    let wrong_bucket = BucketConfig { name: "absent".to_owned(), ..server.config() };
    let error = Bucket::open(&wrong_bucket).await.unwrap().list(None).await.unwrap_err();
    assert_eq!(error.cause, Cause::NoBucket, "{error}");
    assert!(error.to_string().contains("bucket absent"), "{error}");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = BucketConfig { endpoint: Some(format!("http://{free}")), ..server.config() };
    assert_eq!(put(nowhere).await.cause, Cause::Unreachable);
}

#[tokio::test]
async fn an_object_that_shrank_is_not_taken_for_whole() {
    let Fixture { server, bucket, .. } = &fixture().await;
    bucket.put("packs/a", &content("0123456789")).await.unwrap();
    server.plant("packs/a", "0123").await.unwrap();
    let error = bucket.get("packs/a", 2..10).await.unwrap_err();
    assert_eq!(error.cause, Cause::Damaged, "{error}");
    assert_eq!(BUCKET, bucket.name());
}
