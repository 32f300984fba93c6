use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nigh_proto::Digest;

use super::{Fixture, HOUR, noise, pack, text};
use crate::blob::Collected;

fn digests(blobs: &[Vec<u8>]) -> HashSet<Digest> {
    blobs.iter().map(|raw| Digest::of(raw)).collect()
}

fn all(fixture: &Fixture) -> HashSet<Digest> {
    fixture.store().digests().into_iter().collect()
}

#[test]
fn what_is_live_or_young_stays_and_the_rest_goes() {
    let mut fixture = Fixture::new();
    let blobs: Vec<_> = (0..10).map(|seed| noise(seed, 1000)).collect();
    fixture.store().insert_pack(&pack(&blobs)[..]).unwrap();
    let large = fixture.store().insert(&noise(1, 2 << 20)).unwrap();
    let live = digests(&blobs[..8]);
    let is_live = |digest: &Digest| live.contains(digest);
    assert_eq!(fixture.store().collect(&is_live, HOUR).unwrap(), Collected::default());
    fixture.age();
    let young = noise(99, 1000);
    fixture.store().insert(&young).unwrap();

    let collected = fixture.store().collect(&is_live, HOUR).unwrap();
    assert_eq!((collected.blobs, collected.bytes), (3, 2000 + (2 << 20)));
    assert!(!fixture.store().contains(&large));
    let expected: HashSet<_> = live.iter().copied().chain([Digest::of(&young)]).collect();
    assert_eq!(all(&fixture), expected);
    fixture.reopen();
    assert_eq!(all(&fixture), expected);
    let again = fixture.store().collect(&is_live, HOUR).unwrap();
    assert_eq!(again, Collected::default());
}

#[test]
fn a_blob_that_someone_was_told_to_be_here_outlives_one_collection() {
    let fixture = Fixture::new();
    let asked = fixture.store().insert(b"asked for").unwrap();
    let large = fixture.store().insert(&noise(1, 2 << 20)).unwrap();
    let unasked = fixture.store().insert(b"not asked for").unwrap();
    assert!(fixture.store().missing(&[asked]).is_empty());
    fixture.store().begin(large, 2 << 20).unwrap().finish().unwrap();
    let nothing_is_live = |_: &Digest| false;
    fixture.store().collect(&nothing_is_live, Duration::ZERO).unwrap();
    assert_eq!(all(&fixture), HashSet::from([asked, large]));
    assert!(!fixture.store().contains(&unasked));
    fixture.store().collect(&nothing_is_live, Duration::ZERO).unwrap();
    assert!(all(&fixture).is_empty());
    assert!(fixture.files("packs").is_empty());
}

#[test]
fn a_blob_that_was_asked_for_long_ago_goes_with_its_release() {
    let fixture = Fixture::new();
    let small = fixture.store().insert(b"asked for").unwrap();
    let large = fixture.store().insert(&noise(1, 2 << 20)).unwrap();
    assert!(fixture.store().missing(&[small, large]).is_empty());
    fixture.store().collect(&|_| true, Duration::ZERO).unwrap();
    fixture.store().collect(&|_| false, Duration::ZERO).unwrap();
    assert!(all(&fixture).is_empty());
}

#[test]
fn a_pack_that_was_cut_off_under_a_running_store_does_not_stop_collections() {
    let fixture = Fixture::new();
    let digests: Vec<_> =
        (0..20).map(|seed| fixture.store().insert(&text(seed, 500)).unwrap()).collect();
    let first = &fixture.files("packs")[0];
    std::fs::File::options().write(true).open(first).unwrap().set_len(0).unwrap();
    let collected = fixture.store().collect(&|_| true, Duration::ZERO).unwrap();
    assert_eq!(collected.corrupt, digests[..1]);
    fixture.file("packs");
    assert!(digests[1..].iter().all(|digest| fixture.store().verify(digest)));
}

#[test]
fn a_sparse_pack_is_rewritten_and_its_room_given_back() {
    let mut fixture = Fixture::new();
    let blobs: Vec<_> = (0..100).map(|seed| noise(seed, 10_000)).collect();
    fixture.store().insert_pack(&pack(&blobs)[..]).unwrap();
    let before = fixture.store().usage().disk_bytes;
    let live = digests(&blobs[..30]);
    fixture.age();
    let collected = fixture.store().collect(&|digest| live.contains(digest), HOUR).unwrap();
    assert_eq!((collected.blobs, collected.bytes), (70, 700_000));
    let after = fixture.store().usage();
    assert_eq!(collected.freed_bytes, before as i64 - after.disk_bytes as i64);
    assert_eq!(std::fs::metadata(fixture.file("packs")).unwrap().len(), after.disk_bytes);
    assert!(live.iter().all(|digest| fixture.store().verify(digest)));
    assert_eq!(all(&fixture), live);
    fixture.reopen();
    assert!(live.iter().all(|digest| fixture.store().verify(digest)));
    // Moving did not make the blobs young.
    fixture.store().collect(&|_| false, HOUR).unwrap();
    assert!(fixture.files("packs").is_empty());
}

#[test]
fn many_small_packs_become_one() {
    let mut fixture = Fixture::new();
    let blobs: Vec<_> = (0..40).map(|seed| text(seed, 2000)).collect();
    for raw in &blobs {
        fixture.store().insert(raw).unwrap();
    }
    fixture.age();
    fixture.store().collect(&|_| true, HOUR).unwrap();
    fixture.file("packs");
    for raw in &blobs {
        assert_eq!(&fixture.store().read(&Digest::of(raw)).unwrap(), raw);
    }
    fixture.reopen();
    assert_eq!(all(&fixture), digests(&blobs));
}

#[test]
fn a_damaged_blob_is_not_moved_but_reported() {
    let mut fixture = Fixture::new();
    let blobs: Vec<_> = (0..10).map(|seed| noise(seed, 1000)).collect();
    fixture.store().insert_pack(&pack(&blobs)[..]).unwrap();
    let path = fixture.file("packs");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    fixture.age();
    let (good, bad) = (Digest::of(&blobs[0]), Digest::of(&blobs[9]));
    let collected = fixture.store().collect(&|digest| [good, bad].contains(digest), HOUR).unwrap();
    assert_eq!((collected.blobs, collected.corrupt), (8, vec![bad]));
    fixture.reopen();
    assert_eq!(fixture.store().digests(), [good]);
    assert!(fixture.store().verify(&good));
}

#[test]
fn a_dropped_blob_that_is_inserted_again_stays() {
    let mut fixture = Fixture::new();
    let blobs: Vec<_> = (0..10).map(|seed| noise(seed, 1000)).collect();
    let bytes = pack(&blobs);
    fixture.store().insert_pack(&bytes[..]).unwrap();
    fixture.age();
    let live = digests(&blobs[..8]);
    fixture.store().collect(&|digest| live.contains(digest), HOUR).unwrap();
    assert_eq!(fixture.store().insert_pack(&bytes[..]).unwrap().stored, 2);
    fixture.reopen();
    assert_eq!(all(&fixture), digests(&blobs));
}

#[test]
fn readers_and_inserts_never_notice_a_collection() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let blob =
        |seed: u64| if seed.is_multiple_of(3) { text(seed, 3000) } else { noise(seed, 1500) };
    // One blob in five is live, so that most packs get sparse; one is large.
    let live: Vec<_> =
        (0..300).filter(|seed| seed % 5 == 0).map(blob).chain([noise(7, 2 << 20)]).collect();
    let live_digests = digests(&live);
    for first in (0..300).step_by(20) {
        let batch: Vec<_> = (first..first + 20).map(blob).collect();
        store.insert_pack(&pack(&batch)[..]).unwrap();
    }
    store.insert_many(&live).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0;
            while !is_done.load(Ordering::Relaxed) || reads < 2 * live.len() {
                let raw = &live[reads % live.len()];
                assert_eq!(&store.read(&Digest::of(raw)).unwrap(), raw);
                reads += 1;
            }
        });
        let inserting = scope.spawn(|| {
            // Dead blobs come again while they are collected: each is kept for a round by its
            // insert, whether it was still here or not.
            for round in 0..30u64 {
                let batch: Vec<_> = (round * 10..round * 10 + 10).map(blob).collect();
                store.insert_pack(&pack(&batch)[..]).unwrap();
                store.insert(&text(10_000 + round, 500)).unwrap();
            }
        });
        while !inserting.is_finished() {
            store.collect(&|digest| live_digests.contains(digest), Duration::ZERO).unwrap();
        }
        for _ in 0..3 {
            store.collect(&|digest| live_digests.contains(digest), Duration::ZERO).unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        inserting.join().unwrap();
        reading.join().unwrap();
    });
    assert_eq!(all(&fixture), live_digests);
    assert!(live_digests.iter().all(|digest| store.verify(digest)));
}

#[test]
fn young_blobs_survive_collections_that_run_while_they_come() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let old: Vec<_> = (0..50).map(|seed| text(seed, 2000)).collect();
    store.insert_pack(&pack(&old)[..]).unwrap();
    store.insert(&noise(0, 2 << 20)).unwrap();
    fixture.age();
    let young: Vec<_> = (100..150).map(|seed| text(seed, 2000)).collect();
    std::thread::scope(|scope| {
        let inserting = scope.spawn(|| {
            for batch in young.chunks(5) {
                store.insert_pack(&pack(batch)[..]).unwrap();
            }
        });
        loop {
            let is_last = inserting.is_finished();
            store.collect(&|_| false, HOUR).unwrap();
            if is_last {
                break;
            }
        }
        inserting.join().unwrap();
    });
    assert_eq!(all(&fixture), digests(&young));
}

#[test]
fn a_collection_whose_caller_panics_does_not_stop_the_next_one() {
    let fixture = Fixture::new();
    fixture.store().insert(b"blob").unwrap();
    let store = fixture.store().clone();
    let panicked = std::thread::spawn(move || {
        let _ = store.collect(&|_| panic!("a caller's mistake"), Duration::ZERO);
    });
    panicked.join().unwrap_err();
    assert_eq!(fixture.store().collect(&|_| false, Duration::ZERO).unwrap().blobs, 1);
}
