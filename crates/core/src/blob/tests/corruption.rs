use std::{fs::File, os::unix::fs::FileExt, path::Path};

use nigh_proto::Digest;

use super::{Fixture, noise, pack, text};
use crate::blob::ReadError;

/// Flips a bit of the last byte of a file.
fn damage(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let end = file.metadata().unwrap().len() - 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, end).unwrap();
    file.write_all_at(&[byte[0] ^ 1], end).unwrap();
}

#[test]
fn damage_in_a_pack_is_found_forgotten_for_good_and_healed() {
    let mut fixture = Fixture::new();
    let (good, bad) = (text(1, 1000), noise(1, 1000));
    fixture.store().insert_pack(&pack(&[good.clone(), bad.clone()])[..]).unwrap();
    damage(&fixture.file("packs"));
    let (good_digest, digest) = (Digest::of(&good), Digest::of(&bad));
    assert!(matches!(fixture.store().read(&digest), Err(ReadError::Corrupt { .. })));
    assert!(!fixture.store().verify(&digest) && fixture.store().verify(&good_digest));
    assert!(fixture.store().contains(&digest));

    assert!(fixture.store().forget(&digest).unwrap());
    assert!(!fixture.store().forget(&digest).unwrap());
    assert_eq!(fixture.store().missing(&[digest, good_digest]), [digest]);
    fixture.reopen();
    assert_eq!(fixture.store().missing(&[digest, good_digest]), [digest]);

    fixture.store().insert(&bad).unwrap();
    assert_eq!(fixture.store().read(&digest).unwrap(), bad);
    fixture.reopen();
    assert_eq!(fixture.store().read(&digest).unwrap(), bad);
    assert_eq!(fixture.store().read(&good_digest).unwrap(), good);
}

#[test]
fn damage_in_a_large_blob_is_found_and_moved_aside() {
    let mut fixture = Fixture::new();
    let raw = noise(1, 2 << 20);
    let digest = fixture.store().insert(&raw).unwrap();
    let shard = fixture.file("loose");
    damage(&shard.join(digest.to_string()));
    assert!(!fixture.store().verify(&digest));
    assert!(matches!(fixture.store().read(&digest), Err(ReadError::Corrupt { .. })));
    assert!(fixture.store().forget(&digest).unwrap());
    fixture.reopen();
    assert!(!fixture.store().contains(&digest));
    assert!(fixture.file("quarantine").ends_with(digest.to_string()));
    fixture.store().insert(&raw).unwrap();
    assert!(fixture.store().verify(&digest));
}

#[test]
fn files_that_vanish_under_a_running_store_are_damage_and_not_a_crash() {
    let fixture = Fixture::new();
    let small = fixture.store().insert(b"small").unwrap();
    let large = fixture.store().insert(&noise(1, 2 << 20)).unwrap();
    std::fs::remove_file(fixture.file("packs")).unwrap();
    std::fs::remove_dir_all(fixture.file("loose")).unwrap();
    for digest in [small, large] {
        assert!(matches!(fixture.store().read(&digest), Err(ReadError::Corrupt { .. })));
        assert!(!fixture.store().verify(&digest));
        assert!(fixture.store().forget(&digest).unwrap());
    }
    fixture.store().insert(&noise(1, 2 << 20)).unwrap();
    assert!(fixture.store().verify(&large));
}
