use std::io::{Read, Write};

use nigh_proto::{
    Digest,
    pack::{PackHead, StoredCoding},
};

use super::{Fixture, noise, pack, text};
use crate::blob::{OpenError, ReadError, Store, StoreOptions, WritePackError};

#[test]
fn a_stored_body_can_be_served_as_it_is() {
    let fixture = Fixture::new();
    let (page, photo) = (text(1, 5000), noise(1, 5000));
    fixture.store().insert_pack(&pack(&[page.clone(), photo.clone()])[..]).unwrap();
    let stored = fixture.store().read_stored(&Digest::of(&page)).unwrap();
    assert_eq!((stored.coding, stored.raw_len), (StoredCoding::Zstd, 5000));
    assert_eq!(zstd::stream::decode_all(&stored.bytes[..]).unwrap(), page);
    assert_eq!(stored.into_raw().unwrap(), page);
    let stored = fixture.store().read_stored(&Digest::of(&photo)).unwrap();
    assert_eq!((stored.coding, stored.bytes), (StoredCoding::Identity, photo));
}

#[test]
fn a_pack_goes_out_of_one_store_and_into_another() {
    let (from, to) = (Fixture::new(), Fixture::new());
    let blobs: Vec<_> = (0..200).map(|seed| text(seed, 4000 + seed as usize)).collect();
    from.store().insert_pack(&pack(&blobs[..100])[..]).unwrap();
    from.store().insert_pack(&pack(&blobs[100..])[..]).unwrap();
    let digests: Vec<_> = blobs.iter().rev().step_by(3).map(|raw| Digest::of(raw)).collect();
    let mut sent = Vec::new();
    let length = from.store().write_pack(&digests, &mut sent).unwrap();
    assert_eq!(length, sent.len() as u64);
    assert_eq!(to.store().insert_pack(&sent[..]).unwrap().stored, digests.len() as u64);
    assert!(digests.iter().all(|digest| to.store().verify(digest)));
}

/// Counts on nothing being written.
struct Untouched;

impl Write for Untouched {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        panic!("something was sent")
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_pack_that_cannot_be_sent_is_refused_before_its_first_byte() {
    let fixture = Fixture::new();
    let small = fixture.store().insert(b"small").unwrap();
    let large = fixture.store().insert(&noise(1, 2 << 20)).unwrap();
    let missing = Digest::of(b"missing");
    let write = |digests: &[Digest]| fixture.store().write_pack(digests, &mut Untouched);
    for (digests, expected) in [
        (vec![small, missing], "Read(Missing"),
        (vec![small, large], "Read(Loose"),
        (vec![small; PackHead::MAX_BLOBS + 1], "Invalid(TooMany"),
    ] {
        let error = write(&digests).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    }
    let page = fixture.store().insert(&vec![b' '; 1 << 20]).unwrap();
    let error = write(&[page; 1025]).unwrap_err();
    assert!(matches!(error, WritePackError::TooMuch { .. }), "{error:?}");
}

#[test]
fn reads_of_large_blobs_are_bounded_and_by_file() {
    let fixture = Fixture::new();
    let raw = noise(1, 2 << 20);
    let (large, small) = (fixture.store().insert(&raw).unwrap(), Digest::of(b"small"));
    fixture.store().insert(b"small").unwrap();
    let error = fixture.store().read_up_to(&large, 1 << 20).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { bytes: 2_097_152, .. }));
    let (mut file, bytes) = fixture.store().open_loose(&large).unwrap();
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert_eq!((bytes, read), (2 << 20, raw));
    assert!(matches!(fixture.store().open_loose(&small), Err(ReadError::Packed { .. })));
    assert!(matches!(fixture.store().read_stored(&large), Err(ReadError::Loose { .. })));
    assert!(matches!(fixture.store().open_loose(&Digest::of(b"")), Err(ReadError::Missing { .. })));
}

#[test]
fn more_packs_than_may_be_open_are_read_all_the_same() {
    let mut fixture = Fixture::new();
    fixture.reopen_with(StoreOptions { open_packs_max: 2, ..StoreOptions::default() });
    let blobs: Vec<_> = (0..30).map(|seed| text(seed, 100)).collect();
    let digests: Vec<_> = blobs.iter().map(|raw| fixture.store().insert(raw).unwrap()).collect();
    for (digest, raw) in digests.iter().zip(&blobs).chain(digests.iter().zip(&blobs).rev()) {
        assert_eq!(&fixture.store().read(digest).unwrap(), raw);
    }
}

#[test]
fn a_folder_that_is_in_use_is_not_opened_twice() {
    let fixture = Fixture::new();
    let error = Store::open(fixture.root()).unwrap_err();
    assert!(matches!(error, OpenError::Lock(_)), "{error}");
    assert!(error.to_string().contains(&fixture.root().display().to_string()), "{error}");
}
