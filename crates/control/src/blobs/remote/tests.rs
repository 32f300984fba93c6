//! What the folder, the bucket and the database make of each other, on a real S3 server.

use std::{fs, path::PathBuf, time::Duration};

use nigh_bucket::server::Fault;
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

/// The files of all objects but the marker.
fn objects(fixture: &Fixture) -> Vec<PathBuf> {
    let files = |folder: &str| fs::read_dir(fixture.s3().objects().join(folder));
    let listed = ["packs", "blobs"].into_iter().filter_map(|folder| files(folder).ok()).flatten();
    let paths = listed.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).collect()
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
    let folder = fixture.s3().objects();
    let leftover = folder.join(format!("packs/{:012x}-{}", 1, "ab".repeat(8)));
    fs::write(&leftover, "an upload that nobody finished").unwrap();
    fs::write(folder.join("packs/photo.jpg"), "theirs").unwrap();
    fs::write(folder.join("photo.jpg"), "theirs").unwrap();

    app.collect(DAY).await.unwrap();
    assert!(place(&fixture, Digest::of(b"one")).await.is_some(), "it is young");
    assert!(!leftover.exists());

    fixture.hand.advance(2 * DAY);
    // Three objects: the page, its manifest with its rules; the rules are the second's as well.
    assert!(app.collect(DAY).await.unwrap() >= 1);
    assert_eq!(place(&fixture, Digest::of(b"one")).await, None);
    assert_eq!(app.blobs().missing(vec![Digest::of(b"one")]).await.unwrap().len(), 0);
    forget_folder(&fixture).await;
    assert_eq!(app.blobs().read(Digest::of(b"two"), 3).await.unwrap(), b"two");
    for foreign in ["packs/photo.jpg", "photo.jpg", "nigh-fleet.json"] {
        assert!(folder.join(foreign).exists(), "{foreign}");
    }
    assert_eq!(remote(&fixture).standing().foreign_objects, 2);
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
    assert_eq!(objects(&fixture).len(), 20);
    fixture.hand.advance(2 * DAY);
    let digests = texts.iter().map(|text| Digest::of(text.as_bytes())).collect();
    let releases = Default::default();
    let needed = Needed { digests: &digests, releases: &releases };
    remote(&fixture).sweep(&needed, DAY).await.unwrap();
    assert_eq!(objects(&fixture).len(), 1);
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
    fs::remove_file(fixture.s3().objects().join(&lost)).unwrap();
    remote(&fixture).suspect(&lost).await.unwrap();
    let found = place(&fixture, digest).await.unwrap().object;
    assert_ne!(found, lost);
    assert_eq!(remote(&fixture).standing().lost_blobs, 0);

    forget_folder(&fixture).await;
    fs::remove_file(fixture.s3().objects().join(&found)).unwrap();
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
    let file = fixture.s3().objects().join(&found.object);
    let mut bytes = fs::read(&file).unwrap();
    bytes[found.start as usize] ^= 1;
    fs::write(&file, bytes).unwrap();
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
    fs::remove_file(fixture.s3().objects().join(&lost)).unwrap();
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
