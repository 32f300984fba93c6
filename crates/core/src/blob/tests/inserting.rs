use std::io::{self, Read};

use nigh_proto::{
    Digest,
    pack::{PackHead, PackedBlob, StoredCoding},
};
use proptest::{prelude::*, sample::Index};

use super::{Fixture, noise, pack, text};
use crate::blob::{InsertError, Inserted, PackBuilder, StoreOptions};

fn blobs() -> Vec<Vec<u8>> {
    let mut blobs: Vec<_> = (0..20).map(|seed| text(seed, 500 * seed as usize)).collect();
    blobs.extend((0..5).map(|seed| noise(seed, 3000)));
    blobs
}

#[test]
fn a_pack_is_stored_once_and_read_back() {
    let mut fixture = Fixture::new();
    let blobs = blobs();
    let inserted = fixture.store().insert_pack(&pack(&blobs)[..]).unwrap();
    assert_eq!((inserted.stored, inserted.already_present), (25, 0));
    let again = fixture.store().insert_pack(&pack(&blobs)[..]).unwrap();
    assert_eq!(again, Inserted { stored: 0, already_present: 25, bytes: 0 });
    assert_eq!(fixture.store().usage().bytes, inserted.bytes);
    fixture.file("packs");
    for raw in &blobs {
        assert_eq!(&fixture.store().read(&Digest::of(raw)).unwrap(), raw);
    }
    fixture.reopen();
    for raw in &blobs {
        assert_eq!(&fixture.store().read(&Digest::of(raw)).unwrap(), raw);
    }
}

#[test]
fn only_new_blobs_of_a_pack_take_room_and_one_that_comes_twice_takes_it_once() {
    let fixture = Fixture::new();
    fixture.store().insert_pack(&pack(&[text(1, 1000), noise(1, 1000)])[..]).unwrap();
    let second = pack(&[text(1, 1000), noise(2, 700), noise(1, 1000), noise(2, 700)]);
    let inserted = fixture.store().insert_pack(&second[..]).unwrap();
    assert_eq!(inserted, Inserted { stored: 1, already_present: 3, bytes: 700 });
    let newest = fixture.files("packs").pop().unwrap();
    assert_eq!(std::fs::metadata(newest).unwrap().len(), PackHead::head_bytes(1) as u64 + 700);
    assert_eq!(fixture.store().read(&Digest::of(&noise(2, 700))).unwrap(), noise(2, 700));
}

#[test]
fn blobs_of_any_size_are_inserted_where_they_belong() {
    let mut fixture = Fixture::new();
    let sizes = [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20];
    let blobs: Vec<_> = (0..).zip(sizes).map(|(seed, size)| noise(seed, size)).collect();
    let digests = fixture.store().insert_many(&blobs).unwrap();
    fixture.reopen();
    for ((raw, digest), size) in blobs.iter().zip(&digests).zip(sizes) {
        let stat = fixture.store().stat(digest).unwrap();
        assert_eq!((stat.raw_len, stat.is_loose), (size as u64, size > 1 << 20));
        assert_eq!(&fixture.store().read(digest).unwrap(), raw);
        assert_eq!(fixture.store().insert(raw).unwrap(), *digest);
    }
    assert_eq!(fixture.store().usage().blobs, 5);
}

#[test]
fn missing_names_each_absent_blob_once_and_in_order() {
    let fixture = Fixture::new();
    let here = fixture.store().insert(b"here").unwrap();
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    assert_eq!(fixture.store().missing(&[b, here, a, b, a]), [b, a]);
}

#[test]
fn a_disk_without_room_refuses_before_it_writes_and_nothing_is_left() {
    let mut fixture = Fixture::new();
    let kept = fixture.store().insert(b"kept").unwrap();
    let options = StoreOptions { reserve_bytes: Some(u64::MAX), ..StoreOptions::default() };
    let store = fixture.reopen_with(options).clone();
    let large = noise(1, 2 << 20);
    let refused = [
        store.insert_pack(&pack(&blobs())[..]).unwrap_err(),
        store.insert(&large).unwrap_err(),
        store.begin(Digest::of(&large), 2 << 20).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, InsertError::Full { free_bytes: 0, .. }), "{error}");
    }
    assert_eq!(store.usage().blobs, 1);
    assert_eq!(fixture.files("tmp").len() + fixture.files("loose").len(), 0);
    assert_eq!(store.insert(b"kept").unwrap(), kept);
    fixture.file("packs");
}

/// Fails after some bytes, as a connection does.
struct Cut<'a>(&'a [u8]);

impl Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.0.read(buffer)
    }
}

#[test]
fn a_connection_that_breaks_is_not_a_bad_pack() {
    let fixture = Fixture::new();
    let bytes = pack(&blobs());
    for length in [0, 10, 100, bytes.len() - 1] {
        let error = fixture.store().insert_pack(Cut(&bytes[..length])).unwrap_err();
        assert!(matches!(error, InsertError::Receive { .. }), "{error}");
    }
    assert_eq!(fixture.files("tmp").len() + fixture.files("packs").len(), 0);
}

#[test]
fn a_pack_that_ends_early_or_late_is_refused_whole() {
    let fixture = Fixture::new();
    let mut bytes = pack(&[text(1, 100), noise(1, 100)]);
    for length in 0..bytes.len() {
        let error = fixture.store().insert_pack(&bytes[..length]).unwrap_err();
        assert!(matches!(error, InsertError::Truncated), "{length}: {error}");
    }
    bytes.push(0);
    let error = fixture.store().insert_pack(&bytes[..]).unwrap_err();
    assert!(matches!(error, InsertError::Trailing), "{error}");
    assert_eq!(fixture.store().usage(), Default::default());
    assert_eq!(fixture.files("tmp").len() + fixture.files("packs").len(), 0);
}

#[test]
fn a_wrong_blob_keeps_the_whole_pack_out() {
    let fixture = Fixture::new();
    let mut builder = PackBuilder::new(3);
    builder.push(Digest::of(b"right"), b"right").unwrap();
    builder.push(Digest::of(b"claimed"), b"actual").unwrap();
    let error = fixture.store().insert_pack(&builder.finish()[..]).unwrap_err();
    assert!(matches!(error, InsertError::Mismatch { claimed, actual }
        if claimed == Digest::of(b"claimed") && actual == Digest::of(b"actual")));
    assert!(!fixture.store().contains(&Digest::of(b"right")));
}

#[test]
fn a_small_pack_that_would_decode_to_gigabytes_is_refused_unread() {
    let fixture = Fixture::new();
    let blob = |seed: u32| PackedBlob {
        digest: Digest::of(&seed.to_le_bytes()),
        coding: StoredCoding::Zstd,
        stored_len: 10,
        raw_len: PackHead::MAX_BLOB_BYTES,
    };
    let head = PackHead { blobs: (0..1025).map(blob).collect() };
    let error = fixture.store().insert_pack(&head.encode()[..]).unwrap_err();
    assert!(matches!(error, InsertError::TooMuch { .. }), "{error}");
}

#[test]
fn inserts_of_the_same_blobs_at_once_all_succeed() {
    let fixture = Fixture::new();
    let bytes = pack(&blobs());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fixture.store().insert_pack(&bytes[..]).unwrap());
        }
    });
    assert_eq!(fixture.store().usage().blobs, 25);
    for raw in blobs() {
        assert!(fixture.store().verify(&Digest::of(&raw)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_are_stored_as_they_are_or_refused(
        raws in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..12),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let fixture = Fixture::new();
        // Whatever follows, alone or behind the beginning of a pack, is not taken.
        let _ = fixture.store().insert_pack(&tail[..]);
        let begun = [b"nighpack\x01\0\0\0\x02\0\0\0", &tail[..]].concat();
        let _ = fixture.store().insert_pack(&begun[..]);
        fixture.store().insert_pack(&pack(&raws)[..]).unwrap();
        for raw in &raws {
            prop_assert_eq!(&fixture.store().read(&Digest::of(raw)).unwrap(), raw);
        }
    }

    #[test]
    fn a_damaged_pack_never_shows_a_wrong_blob(
        flips in proptest::collection::vec((any::<Index>(), 0u8..8), 1..4),
        cut in any::<Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut fixture = Fixture::new();
        let mut bytes = pack(&[text(1, 900), noise(1, 300), text(2, 200), Vec::new()]);
        for (position, bit) in flips {
            let position = position.index(bytes.len());
            bytes[position] ^= 1 << bit;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let inserted = fixture.store().insert_pack(&bytes[..]);
        let digests = fixture.store().digests();
        if inserted.is_err() {
            prop_assert!(digests.is_empty());
            prop_assert!(fixture.files("tmp").is_empty());
        }
        fixture.reopen();
        for digest in digests {
            prop_assert_eq!(Digest::of(&fixture.store().read(&digest).unwrap()), digest);
        }
    }
}
