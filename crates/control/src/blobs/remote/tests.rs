//! What the folder, the bucket and the database make of each other, on a real S3 server.

use std::time::Duration;

use nigh_bucket::{PART_BYTES, server::Fault};
use nigh_core::blob::ReadError;
use nigh_proto::{Digest, api::ReleaseState};

use super::*;
use crate::{
    app::{
        AppError,
        fixture::{Fixture, docs},
    },
    blobs::{Blobs, PartOutcome, Stands, pipe},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn remote(fixture: &Fixture) -> &Arc<Remote> {
    fixture.app.blobs().remote().unwrap()
}

/// Empties the folder of what the bucket has.
async fn forget_folder(fixture: &Fixture) {
    // What was asked for of late outlives the first time.
    for _ in 0..2 {
        fixture.app.evict(remote(fixture), 1).await.unwrap();
    }
    let left = fixture.app.blobs().store().digests();
    assert_eq!(remote(fixture).places(&left).await.unwrap(), []);
}

/// The names of all objects but the marker.
async fn objects(fixture: &Fixture) -> Vec<String> {
    let mut names = fixture.s3().names().await.unwrap();
    names.retain(|name| name.starts_with("packs/") || name.starts_with("blobs/"));
    names
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Where the digest is in the bucket.
async fn place(fixture: &Fixture, digest: Digest) -> Option<PlaceRow> {
    remote(fixture).places(&[digest]).await.unwrap().pop()
}

#[tokio::test]
async fn what_is_pushed_is_in_the_bucket_and_comes_back_when_it_is_needed() {
    let fixture = Fixture::with_bucket().await;
    let pushed = fixture.push("one").await;
    assert_eq!(pushed.state, ReleaseState::Staging);
    forget_folder(&fixture).await;
    let digest = Digest::of(b"one");
    let blobs = fixture.app.blobs();
    assert_eq!(blobs.missing(vec![digest]).await.unwrap(), []);
    assert_eq!(blobs.stat(&digest), None);
    assert_eq!(blobs.read(digest, 3).await.unwrap(), b"one");
    assert!(blobs.stat(&digest).is_some(), "it is cached from now on");
    // The manifest as well: a push of the same folder compares with it.
    let row = fixture.app.require_release(&docs(), pushed.id.as_str()).await.unwrap();
    assert_eq!(fixture.app.manifest(row.manifest).await.unwrap().entries().len(), 1);
}

#[tokio::test]
async fn any_control_on_one_database_answers_for_every_blob() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    let dir = tempfile::tempdir().unwrap();
    let other = Blobs::open(dir.path(), None).await.unwrap();
    let remote = fixture.remote_for(&other).await;
    let other = other.with_remote(remote);
    assert_eq!(other.missing(vec![Digest::of(b"one")]).await.unwrap(), []);
    assert_eq!(other.read(Digest::of(b"one"), 3).await.unwrap(), b"one");
}

#[tokio::test]
async fn a_push_fails_clearly_while_the_bucket_does_and_nothing_is_sent_again() {
    let fixture = Fixture::with_bucket().await;
    fixture.s3().set_fault(Fault::Internal);
    let inserted = fixture.app.blobs().insert_documents(vec![b"one".to_vec()]).await;
    let error = AppError::from(inserted.unwrap_err());
    assert!(matches!(error, AppError::Bucket(_)), "{error}");
    assert!(remote(&fixture).check().await.is_err());
    assert!(remote(&fixture).standing().failure.as_ref().unwrap().contains("InternalError"));
    let digest = Digest::of(b"one");
    assert!(fixture.app.blobs().missing(vec![digest]).await.is_err(), "it is not promised either");

    fixture.s3().set_fault(Fault::None);
    assert_eq!(fixture.app.blobs().missing(vec![digest]).await.unwrap(), []);
    assert!(place(&fixture, digest).await.is_some(), "the folder had it");
    remote(&fixture).check().await.unwrap();
    assert_eq!(remote(&fixture).standing().failure, None);
}

#[tokio::test]
async fn a_large_blob_is_an_object_of_its_own_and_streams_from_there() {
    let fixture = Fixture::with_bucket().await;
    let raw = noise((9 << 20) + 3);
    let (digest, length) = (Digest::of(&raw), raw.len() as u64);
    let blobs = fixture.app.blobs();
    let (first, second) = raw.split_at(5 << 20);
    for (offset, part, expected) in
        [(0, first, PartOutcome::More { offset: 5 << 20 }), (5 << 20, second, PartOutcome::Whole)]
    {
        let (pipe, fill) = pipe(axum::body::Body::from(part.to_vec()), 16 << 20);
        let now = fixture.app.instant();
        let (outcome, ()) = tokio::join!(blobs.part(digest, length, offset, pipe, now), fill);
        assert_eq!(outcome.unwrap(), expected);
    }
    assert_eq!(blobs.stands(digest).await.unwrap(), Stands::Stored);
    let found = place(&fixture, digest).await.unwrap();
    assert!(found.object.starts_with("blobs/") && found.stored_len == length);
    forget_folder(&fixture).await;
    let rest = blobs.open_remote(digest, length - 10).await.unwrap().unwrap();
    assert_eq!(&rest.collect().await.unwrap()[..], &raw[raw.len() - 10..]);
    assert_eq!(blobs.read(digest, length).await.unwrap(), raw);
}

#[tokio::test]
async fn a_large_blob_that_the_bucket_does_not_take_yet_is_asked_for_no_more() {
    let fixture = Fixture::with_bucket().await;
    let raw = noise(2 << 20);
    let digest = Digest::of(&raw);
    fixture.s3().set_fault(Fault::NoPuts);
    fixture.app.blobs().insert_documents(vec![raw.clone()]).await.unwrap_err();
    fixture.s3().set_fault(Fault::None);
    let blobs = fixture.app.blobs();
    let (pipe, fill) = pipe(axum::body::Body::empty(), 16 << 20);
    let length = raw.len() as u64;
    let now = fixture.app.instant();
    let (outcome, ()) = tokio::join!(blobs.part(digest, length, length, pipe, now), fill);
    assert_eq!(outcome.unwrap(), PartOutcome::Whole);
    assert!(place(&fixture, digest).await.is_some());
}

#[tokio::test]
async fn what_nothing_needs_leaves_the_bucket_and_what_is_needed_or_foreign_stays() {
    let fixture = Fixture::with_bucket().await;
    let app = &fixture.app;
    fixture.push("one").await;
    // It replaces the first before that was live: nothing needs the first any more.
    fixture.push("two").await;
    let s3 = fixture.s3();
    let leftover = format!("packs/{:012x}-{}", 1, "ab".repeat(8));
    s3.plant(&leftover, "an upload that nobody finished").await.unwrap();
    // Like nigh's names, and not.
    let foreign = [
        "photo.jpg".to_owned(),
        "packs/photo.jpg".to_owned(),
        format!("{leftover}.bak"),
        leftover.replace("packs", "Packs"),
        leftover.replace("ab", "AB"),
        leftover.replacen("packs/", "packs/old/", 1),
        "nigh-fleet.json.old".to_owned(),
    ];
    for name in &foreign {
        s3.plant(name, "theirs").await.unwrap();
    }
    let upload = s3.leave_upload("packs/film.mp4").await.unwrap();

    app.collect(DAY).await.unwrap();
    assert!(place(&fixture, Digest::of(b"one")).await.is_some(), "it is young");
    assert!(!s3.names().await.unwrap().contains(&leftover));

    fixture.hand.advance(2 * DAY);
    // Three objects: the page, its manifest with its rules; the rules are the second's as well.
    assert!(app.collect(DAY).await.unwrap() >= 1);
    assert_eq!(place(&fixture, Digest::of(b"one")).await, None);
    assert_eq!(app.blobs().missing(vec![Digest::of(b"one")]).await.unwrap().len(), 0);
    forget_folder(&fixture).await;
    assert_eq!(app.blobs().read(Digest::of(b"two"), 3).await.unwrap(), b"two");
    for name in &foreign {
        assert_eq!(s3.bytes(name).await.unwrap().as_deref(), Some(&b"theirs"[..]), "{name}");
    }
    assert!(s3.has_upload("packs/film.mp4", &upload).await);
    assert!(s3.bytes("nigh-fleet.json").await.unwrap().is_some());
    assert_eq!(remote(&fixture).standing().foreign_objects, foreign.len() as u64);
}

#[tokio::test]
async fn a_release_that_begins_during_a_sweep_keeps_its_blobs() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    fixture.hand.advance(2 * DAY);
    // Marked before the release was there.
    let needed = Needed { digests: &Default::default(), releases: &Default::default() };
    remote(&fixture).sweep(&needed, DAY).await.unwrap();
    assert!(place(&fixture, Digest::of(b"one")).await.is_some());
}

#[tokio::test]
async fn many_small_objects_become_one() {
    let fixture = Fixture::with_bucket().await;
    let texts: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    for text in &texts {
        fixture.app.blobs().insert_documents(vec![text.clone().into_bytes()]).await.unwrap();
    }
    assert_eq!(objects(&fixture).await.len(), 20);
    fixture.hand.advance(2 * DAY);
    let digests = texts.iter().map(|text| Digest::of(text.as_bytes())).collect();
    let releases = Default::default();
    let needed = Needed { digests: &digests, releases: &releases };
    remote(&fixture).sweep(&needed, DAY).await.unwrap();
    assert_eq!(objects(&fixture).await.len(), 1);
    forget_folder(&fixture).await;
    for text in &texts {
        let digest = Digest::of(text.as_bytes());
        assert_eq!(fixture.app.blobs().read(digest, 100).await.unwrap(), text.as_bytes());
    }
}

#[tokio::test]
async fn an_object_that_is_lost_is_filled_again_from_the_folder_or_asked_for() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    let digest = Digest::of(b"one");
    let lost = place(&fixture, digest).await.unwrap().object;
    fixture.s3().lose(&lost).await.unwrap();
    remote(&fixture).suspect(&lost).await.unwrap();
    let found = place(&fixture, digest).await.unwrap().object;
    assert_ne!(found, lost);
    assert_eq!(remote(&fixture).standing().lost_blobs, 0);

    forget_folder(&fixture).await;
    fixture.s3().lose(&found).await.unwrap();
    let read = fixture.app.blobs().read(digest, 3).await.unwrap_err();
    assert!(matches!(read, BlobError::Read(ReadError::Missing { .. })), "{read}");
    assert_eq!(remote(&fixture).standing().lost_blobs, 1);
    assert_eq!(fixture.app.blobs().missing(vec![digest]).await.unwrap(), [digest]);
    fixture.push("one").await;
    assert_eq!(fixture.app.blobs().read(digest, 3).await.unwrap(), b"one");
}

#[tokio::test]
async fn damage_in_the_bucket_is_found_by_reading_and_forgotten() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    forget_folder(&fixture).await;
    let digest = Digest::of(b"one");
    let found = place(&fixture, digest).await.unwrap();
    let mut bytes = fixture.s3().bytes(&found.object).await.unwrap().unwrap().to_vec();
    bytes[found.start as usize] ^= 1;
    fixture.s3().plant(&found.object, bytes).await.unwrap();
    let read = fixture.app.blobs().read(digest, 3).await.unwrap_err();
    assert!(matches!(read, BlobError::Read(ReadError::Missing { .. })), "{read}");
    assert_eq!(place(&fixture, digest).await, None);
    assert_eq!(remote(&fixture).standing().lost_blobs, 1);
}

#[tokio::test]
async fn a_lost_object_is_noticed_by_the_next_collection() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    let digest = Digest::of(b"one");
    let lost = place(&fixture, digest).await.unwrap().object;
    fixture.s3().lose(&lost).await.unwrap();
    fixture.hand.advance(Duration::from_secs(3600));
    fixture.app.collect(DAY).await.unwrap();
    assert_ne!(place(&fixture, digest).await.unwrap().object, lost);
}

#[tokio::test]
async fn a_folder_moves_into_a_bucket_and_out_again() {
    let fixture = Fixture::with_bucket().await;
    let blobs = fixture.app.blobs();
    // As if there had been no bucket.
    let digest = blobs.store().insert(b"one").unwrap();
    let large = noise(2 << 20);
    let large = blobs.store().insert(&large).unwrap();
    fixture.app.move_into(remote(&fixture)).await.unwrap();
    assert!(place(&fixture, digest).await.is_some() && place(&fixture, large).await.is_some());
    forget_folder(&fixture).await;
    fixture.app.mirror(remote(&fixture)).await.unwrap();
    assert!(blobs.store().contains(&digest) && blobs.store().contains(&large));
    assert_eq!(remote(&fixture).standing().unmirrored_blobs, Some(0));
}

#[tokio::test]
async fn a_full_folder_gives_up_what_the_bucket_has_and_nothing_else() {
    let fixture = Fixture::with_bucket().await;
    let blobs = fixture.app.blobs();
    let texts: Vec<Vec<u8>> = (0..10u8).map(|seed| vec![seed; 2 << 20]).collect();
    let digests = blobs.insert_documents(texts).await.unwrap();
    let only_here = blobs.store().insert(b"not put yet").unwrap();
    fixture.app.evict(remote(&fixture), 11 << 20).await.unwrap();
    assert!(blobs.usage().disk_bytes <= 11 << 20);
    assert!(blobs.store().contains(&only_here));
    assert!(digests.iter().any(|digest| blobs.store().contains(digest)));
    assert_eq!(blobs.missing(digests).await.unwrap(), []);
}

/// A blob of five parts in the folder, and not in the bucket.
fn film(fixture: &Fixture) -> (Digest, Vec<u8>) {
    let raw = noise((4 * PART_BYTES) as usize + 5);
    (fixture.app.blobs().store().insert(&raw).unwrap(), raw)
}

/// The same blobs after control has started anew.
async fn restarted(fixture: &Fixture) -> Arc<Remote> {
    fixture.remote_for(fixture.app.blobs()).await
}

#[tokio::test]
async fn parts_that_arrived_are_not_sent_again_after_a_restart() {
    let fixture = Fixture::with_bucket().await;
    let (digest, raw) = film(&fixture);
    let s3 = fixture.s3();
    s3.set_fault(Fault::HeldParts(2));
    let remote = Arc::clone(remote(&fixture));
    let put = tokio::spawn(async move { remote.put_large(digest).await });
    // Four are on their way at once: that the fifth has begun says that one has arrived, and been noted.
    s3.has_parts(5, DAY).await.unwrap();
    let (mut noted, store) = (0, fixture.app.store());
    while noted < 2 {
        let upload = store.bucket_uploads().await.unwrap().pop().unwrap();
        noted = store.bucket_parts(&upload.object).await.unwrap().len();
    }
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    s3.set_fault(Fault::None);

    let again = restarted(&fixture).await;
    again.keep(&[digest]).await.unwrap();

    assert_eq!(s3.parts(), 5 + 3, "two of five arrived before");
    let found = place(&fixture, digest).await.unwrap();
    assert_eq!(s3.bytes(&found.object).await.unwrap().unwrap(), raw);
    assert_eq!(store.bucket_uploads().await.unwrap(), []);
    assert_eq!(store.bucket_parts(&found.object).await.unwrap(), []);
}

#[tokio::test]
async fn an_upload_goes_on_when_a_bucket_that_failed_works_again() {
    let fixture = Fixture::with_bucket().await;
    let (digest, _) = film(&fixture);
    let s3 = fixture.s3();
    s3.set_fault(Fault::NoPuts);
    remote(&fixture).keep(&[digest]).await.unwrap_err();
    let begun = fixture.app.store().bucket_uploads().await.unwrap();
    assert_eq!(begun.len(), 1);
    s3.set_fault(Fault::None);
    remote(&fixture).keep(&[digest]).await.unwrap();
    assert_eq!(place(&fixture, digest).await.unwrap().object, begun[0].object);
}

#[tokio::test]
async fn an_upload_that_the_bucket_no_longer_knows_begins_anew() {
    let fixture = Fixture::with_bucket().await;
    let (digest, raw) = film(&fixture);
    let s3 = fixture.s3();
    s3.set_fault(Fault::NoPuts);
    remote(&fixture).keep(&[digest]).await.unwrap_err();
    let begun = fixture.app.store().bucket_uploads().await.unwrap().remove(0);
    s3.lose_upload(&begun.object, &begun.upload).await.unwrap();
    s3.set_fault(Fault::None);
    restarted(&fixture).await.keep(&[digest]).await.unwrap();
    let found = place(&fixture, digest).await.unwrap();
    assert_ne!(found.object, begun.object);
    assert_eq!(s3.bytes(&found.object).await.unwrap().unwrap(), raw);
}

#[tokio::test]
async fn an_object_that_was_whole_before_the_database_heard_of_it_is_found() {
    let fixture = Fixture::with_bucket().await;
    let (digest, raw) = film(&fixture);
    let (s3, store) = (fixture.s3(), fixture.app.store());
    s3.set_fault(Fault::NoPuts);
    remote(&fixture).keep(&[digest]).await.unwrap_err();
    s3.set_fault(Fault::None);
    let begun = store.bucket_uploads().await.unwrap().remove(0);
    // As if control had stopped after it had put the parts together.
    s3.lose_upload(&begun.object, &begun.upload).await.unwrap();
    s3.plant(&begun.object, raw).await.unwrap();
    restarted(&fixture).await.keep(&[digest]).await.unwrap();
    assert_eq!(place(&fixture, digest).await.unwrap().object, begun.object);
    assert_eq!(store.bucket_uploads().await.unwrap(), []);
}

#[tokio::test]
async fn only_the_folder_that_began_an_upload_goes_on_with_it() {
    let fixture = Fixture::with_bucket().await;
    let (digest, raw) = film(&fixture);
    fixture.s3().set_fault(Fault::NoPuts);
    remote(&fixture).keep(&[digest]).await.unwrap_err();
    fixture.s3().set_fault(Fault::None);
    let begun = fixture.app.store().bucket_uploads().await.unwrap().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let other = Blobs::open(dir.path(), None).await.unwrap();
    other.store().insert(&raw).unwrap();
    fixture.remote_for(&other).await.keep(&[digest]).await.unwrap();
    assert_ne!(place(&fixture, digest).await.unwrap().object, begun.object);
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_is_given_up_after_a_day() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    let (digest, _) = film(&fixture);
    let (s3, store) = (fixture.s3(), fixture.app.store());
    s3.set_fault(Fault::NoPuts);
    remote(&fixture).keep(&[digest]).await.unwrap_err();
    s3.set_fault(Fault::None);
    let begun = store.bucket_uploads().await.unwrap().remove(0);
    fixture.app.collect(DAY).await.unwrap();
    assert!(s3.has_upload(&begun.object, &begun.upload).await, "it may be gone on with");
    fixture.hand.advance(DAY + Duration::from_secs(1));
    fixture.app.collect(DAY).await.unwrap();
    assert!(!s3.has_upload(&begun.object, &begun.upload).await);
    assert_eq!(store.bucket_uploads().await.unwrap(), []);
}

#[tokio::test]
async fn a_bucket_that_becomes_another_fleets_is_left_alone_until_it_is_ours_again() {
    let fixture = Fixture::with_bucket().await;
    fixture.push("one").await;
    let s3 = fixture.s3();
    let own = s3.bytes("nigh-fleet.json").await.unwrap().unwrap();
    let leftover = format!("packs/{:012x}-{}", 1, "ab".repeat(8));
    s3.plant(&leftover, "theirs").await.unwrap();
    s3.plant("nigh-fleet.json", r#"{"format":1,"fleet":"theirs"}"#).await.unwrap();
    remote(&fixture).check().await.unwrap_err();
    let before = s3.names().await.unwrap();

    let put = fixture.app.blobs().insert_documents(vec![b"two".to_vec()]).await;
    let error = nigh_daemon::logging::causes(&put.unwrap_err());
    assert!(error.contains("another fleet, theirs"), "{error}");
    fixture.hand.advance(3 * DAY);
    fixture.app.collect(DAY).await.unwrap_err();
    assert_eq!(s3.names().await.unwrap(), before, "nothing is put or removed");

    s3.plant("nigh-fleet.json", own).await.unwrap();
    assert_eq!(fixture.app.blobs().missing(vec![Digest::of(b"two")]).await.unwrap(), []);
    remote(&fixture).check().await.unwrap();
}
