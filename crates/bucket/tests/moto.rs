//! The same on a server that others have written: moto, in Python.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use nigh_bucket::{Bucket, BucketConfig, Cause, Claim, Content};

/// A running `moto_server`; it ends with the test.
struct Moto {
    child: Child,
    endpoint: String,
    credentials: tempfile::NamedTempFile,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn moto() -> Moto {
    let mut child = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/install brings moto_server");
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let endpoint =
        lines.find_map(|line| line.split_once("Running on ").map(|(_, url)| url.trim().to_owned()));
    // Read on, so that the server never waits for somebody to take what it says.
    std::thread::spawn(move || lines.for_each(drop));
    let credentials = tempfile::NamedTempFile::new().unwrap();
    let keys = "[default]\naws_access_key_id = any\naws_secret_access_key = any\n";
    std::fs::write(credentials.path(), keys).unwrap();
    Moto { child, endpoint: endpoint.unwrap(), credentials }
}

impl Moto {
    fn config(&self, name: &str) -> BucketConfig {
        BucketConfig {
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            prefix: "nigh/".to_owned(),
            credentials_file: Some(self.credentials.path().to_owned()),
            ..BucketConfig::new(name)
        }
    }

    fn curl(&self, args: &[&str]) -> String {
        let output = Command::new("curl").args(["-s", "-S"]).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_parts_lists_urls_and_leftovers_work_there_too() {
    let moto = moto();
    moto.curl(&["-X", "PUT", &format!("{}/blobs", moto.endpoint)]);
    let bucket = Bucket::open(&moto.config("blobs")).await.unwrap();
    assert_eq!(bucket.claim("fleet", false).await.unwrap(), Claim::New);
    assert_eq!(bucket.claim("fleet", true).await.unwrap(), Claim::Own);

    let raw: Bytes = (0..(17 << 20) + 7).map(|at: u32| (at * 31 % 251) as u8).collect();
    bucket.put("blobs/large", &Content::Bytes(raw.clone())).await.unwrap();
    let edge = (16 << 20) - 3..(16 << 20) + 3;
    let read = bucket.get("blobs/large", edge.clone()).await.unwrap().collect().await.unwrap();
    assert_eq!(read, raw.slice(edge.start as usize..edge.end as usize));

    bucket.put("packs/a", &Content::Bytes(Bytes::from_static(b"0123456789"))).await.unwrap();
    let url = bucket.url("packs/a", Duration::from_secs(60)).await.unwrap();
    assert_eq!(moto.curl(&["-H", "Range: bytes=2-4", &url]), "234");
    let keys = |after: Option<&'static str>| {
        let bucket = bucket.clone();
        async move {
            let listed = bucket.list(after).await.unwrap();
            listed.into_iter().map(|object| object.key).collect::<Vec<_>>()
        }
    };
    assert_eq!(keys(None).await, ["blobs/large", "nigh-fleet.json", "packs/a"]);
    assert_eq!(keys(Some("nigh-fleet.json")).await, ["packs/a"]);

    // An upload that nobody ends.
    moto.curl(&["-X", "POST", &format!("{}/blobs/nigh/blobs/left?uploads", moto.endpoint)]);
    let left = bucket.uploads().await.unwrap();
    assert_eq!(left.iter().map(|upload| &*upload.key).collect::<Vec<_>>(), ["blobs/left"]);
    bucket.abort(&left[0].key, &left[0].id).await.unwrap();
    assert_eq!(bucket.uploads().await.unwrap(), []);

    bucket.remove(&["packs/a".to_owned(), "packs/gone".to_owned()]).await.unwrap();
    assert_eq!(bucket.head("packs/a").await.unwrap(), None);
    assert_eq!(bucket.get("packs/a", 0..1).await.unwrap_err().cause, Cause::Missing);
    let absent = Bucket::open(&moto.config("absent")).await.unwrap();
    let error = absent.put("packs/a", &Content::Bytes(Bytes::from_static(b"x"))).await.unwrap_err();
    assert_eq!(error.cause, Cause::NoBucket, "{error}");
}
