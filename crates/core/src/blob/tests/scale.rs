use std::time::Instant;

use nigh_proto::Digest;

use super::{Fixture, noise};
use crate::blob::PackBuilder;

#[test]
fn a_hundred_thousand_blobs_open_and_are_found() {
    let mut fixture = Fixture::new();
    for first in (0..100_000u32).step_by(2500) {
        let mut builder = PackBuilder::new(1);
        for seed in first..first + 2500 {
            let raw = seed.to_le_bytes();
            builder.push(Digest::of(&raw), &raw).unwrap();
        }
        fixture.store().insert_pack(&builder.finish()[..]).unwrap();
    }
    let started = Instant::now();
    let store = fixture.reopen();
    println!("100,000 blobs in 40 packs opened in {:?}", started.elapsed());
    assert_eq!(store.usage().blobs, 100_000);
    let wanted: Vec<_> = (0..100_001u32).map(|seed| Digest::of(&seed.to_le_bytes())).collect();
    assert_eq!(store.missing(&wanted), [Digest::of(&100_000u32.to_le_bytes())]);
}

#[test]
fn a_site_of_ten_thousand_files_is_taken_in_packs() {
    let fixture = Fixture::new();
    // Pages of 20 KiB, half of them text: the shape of a documentation site.
    let mut packs = Vec::new();
    let mut builder = PackBuilder::new(3);
    for seed in 0..10_000u64 {
        let mut raw = noise(seed, 20 << 10);
        raw.iter_mut().step_by(2).for_each(|byte| *byte = b' ');
        if builder.is_full_for(raw.len() as u64) {
            packs.push(builder.take());
        }
        builder.push(Digest::of(&raw), &raw).unwrap();
    }
    packs.push(builder.finish());
    let bytes: usize = packs.iter().map(Vec::len).sum();
    let started = Instant::now();
    for pack in &packs {
        fixture.store().insert_pack(&pack[..]).unwrap();
    }
    println!("{} packs of {bytes} bytes taken in {:?}", packs.len(), started.elapsed());
    assert_eq!(fixture.store().usage().blobs, 10_000);
}
