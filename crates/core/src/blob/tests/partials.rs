use std::time::Duration;

use nigh_proto::Digest;

use super::{Fixture, HOUR, noise};
use crate::blob::InsertError;

#[test]
fn an_upload_goes_on_after_a_restart() {
    let mut fixture = Fixture::new();
    let raw = noise(1, 3 << 20);
    let (digest, size) = (Digest::of(&raw), raw.len() as u64);
    for end in [1usize, 1_000_000, raw.len()] {
        let mut partial = fixture.store().begin(digest, size).unwrap();
        let offset = partial.offset() as usize;
        partial.append(&raw[offset..end]).unwrap();
        assert_eq!(partial.offset(), end as u64);
        drop(partial);
        assert!(!fixture.store().contains(&digest));
        fixture.reopen();
    }
    let partial = fixture.store().begin(digest, size).unwrap();
    assert_eq!(partial.offset(), partial.size_bytes());
    partial.finish().unwrap();
    assert!(fixture.files("partial").is_empty());
    assert_eq!(fixture.reopen().read(&digest).unwrap(), raw);
}

#[test]
fn wrong_bytes_are_deleted_and_missing_ones_awaited() {
    let fixture = Fixture::new();
    let raw = noise(1, 2 << 20);
    let (digest, size) = (Digest::of(&raw), raw.len() as u64);
    let mut partial = fixture.store().begin(digest, size).unwrap();
    partial.append(b"wrong").unwrap();
    assert!(matches!(partial.finish(), Err(InsertError::Truncated)));
    let mut partial = fixture.store().begin(digest, size).unwrap();
    assert_eq!(partial.offset(), 5);
    partial.append(&raw[5..]).unwrap();
    let error = partial.finish().unwrap_err();
    assert!(matches!(error, InsertError::Mismatch { claimed, .. } if claimed == digest));
    assert!(!fixture.store().contains(&digest) && fixture.files("partial").is_empty());
    assert_eq!(fixture.store().begin(digest, size).unwrap().offset(), 0);
}

#[test]
fn a_partial_that_was_damaged_on_disk_is_found_out() {
    let mut fixture = Fixture::new();
    let raw = noise(1, 2 << 20);
    let (digest, size) = (Digest::of(&raw), raw.len() as u64);
    fixture.store().begin(digest, size).unwrap().append(&raw[..1000]).unwrap();
    // What a power cut does to bytes that were not synced.
    std::fs::write(fixture.file("partial"), [0; 1000]).unwrap();
    let mut partial = fixture.reopen().begin(digest, size).unwrap();
    partial.append(&raw[1000..]).unwrap();
    assert!(matches!(partial.finish(), Err(InsertError::Mismatch { .. })));
}

#[test]
fn one_writer_at_a_time_and_no_byte_too_many() {
    let fixture = Fixture::new();
    let raw = noise(1, 2 << 20);
    let digest = Digest::of(&raw);
    let mut partial = fixture.store().begin(digest, 10).unwrap();
    assert!(matches!(fixture.store().begin(digest, 10), Err(InsertError::Busy { .. })));
    let error = partial.append(&raw[..11]).unwrap_err();
    assert!(matches!(error, InsertError::PastEnd { size_bytes: 10, .. }));
    partial.append(&raw[..10]).unwrap();
    drop(partial);
    // Begun again for a smaller size: what is there cannot be a part of that.
    assert_eq!(fixture.store().begin(digest, 9).unwrap().offset(), 0);
}

#[test]
fn an_upload_of_a_blob_that_is_here_is_done_before_it_begins() {
    let fixture = Fixture::new();
    let raw = noise(1, 2 << 20);
    let digest = fixture.store().insert(&raw).unwrap();
    let partial = fixture.store().begin(digest, 2 << 20).unwrap();
    assert_eq!(partial.offset(), 2 << 20);
    partial.finish().unwrap();
    assert!(fixture.files("partial").is_empty());
}

#[test]
fn a_small_blob_that_was_uploaded_alone_lies_in_a_pack() {
    let fixture = Fixture::new();
    let mut partial = fixture.store().begin(Digest::of(b"small"), 5).unwrap();
    partial.append(b"small").unwrap();
    partial.finish().unwrap();
    assert!(!fixture.store().stat(&Digest::of(b"small")).unwrap().is_loose);
    assert!(fixture.files("partial").is_empty());
}

#[test]
fn abandoned_uploads_are_collected_and_those_under_way_or_live_are_not() {
    let fixture = Fixture::new();
    let begin = |name: &[u8]| {
        let mut partial = fixture.store().begin(Digest::of(name), 1 << 30).unwrap();
        partial.append(b"some bytes").unwrap();
        partial
    };
    let _under_way = begin(b"under way");
    drop((begin(b"abandoned"), begin(b"live")));
    let is_live = |digest: &Digest| *digest == Digest::of(b"live");
    assert_eq!(fixture.store().collect(&is_live, HOUR).unwrap().freed_bytes, 0);
    fixture.age();
    assert_eq!(fixture.store().collect(&is_live, HOUR).unwrap().freed_bytes, 10);
    assert_eq!(fixture.files("partial").len(), 2);
    fixture.store().collect(&|_| false, Duration::ZERO).unwrap();
    assert!(fixture.file("partial").ends_with(Digest::of(b"under way").to_string()));
}
