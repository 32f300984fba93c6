use nigh_proto::Digest;
use proptest::{prelude::*, sample::Index};

use super::{Fixture, noise, pack, text};

#[test]
fn files_that_a_crash_left_are_removed() {
    let mut fixture = Fixture::new();
    let digest = fixture.store().insert(b"kept").unwrap();
    fixture.store = None;
    for name in ["tmp/.tmpAbC", "tmp/other", "packs/.tmp-xyz", "packs/00000099.drop"] {
        std::fs::write(fixture.root().join(name), b"half").unwrap();
    }
    std::fs::write(fixture.root().join("packs/README"), b"an operator's").unwrap();
    fixture.reopen();
    assert!(fixture.files("tmp").is_empty());
    let names = ["packs/00000000.pack", "packs/README"];
    assert_eq!(fixture.files("packs"), names.map(|name| fixture.root().join(name)));
    assert_eq!(fixture.store().read(&digest).unwrap(), b"kept");
    // The number of a pack that was is not given again.
    fixture.store().insert(b"new").unwrap();
    assert!(fixture.root().join("packs/0000009a.pack").exists());
}

#[test]
fn a_pack_of_the_wrong_length_is_moved_aside_and_the_rest_opens() {
    for change in [-1i64, 1] {
        let mut fixture = Fixture::new();
        fixture.store().insert_pack(&pack(&[text(1, 500), noise(1, 500)])[..]).unwrap();
        let path = fixture.file("packs");
        let kept = fixture.store().insert(b"kept").unwrap();
        fixture.store = None;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len().strict_add_signed(change)).unwrap();
        fixture.reopen();
        assert_eq!(fixture.store().digests(), [kept]);
        assert_eq!(fixture.file("quarantine").file_name(), path.file_name());
        fixture.store().insert_pack(&pack(&[text(1, 500)])[..]).unwrap();
        assert!(fixture.store().verify(&Digest::of(&text(1, 500))));
    }
}

#[test]
fn a_blob_in_two_packs_is_read_from_the_younger_one() {
    let mut fixture = Fixture::new();
    let blobs = [text(1, 500), noise(1, 500)];
    fixture.store().insert_pack(&pack(&blobs)[..]).unwrap();
    let old = fixture.file("packs");
    fixture.store = None;
    // What a collection leaves that was stopped before it removed the old pack; which rots since.
    std::fs::copy(&old, fixture.root().join("packs/00000007.pack")).unwrap();
    let mut bytes = std::fs::read(&old).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&old, bytes).unwrap();
    fixture.reopen();
    assert_eq!(fixture.store().usage().blobs, 2);
    assert!(blobs.iter().all(|raw| fixture.store().verify(&Digest::of(raw))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_store_opens_whatever_became_of_a_pack(
        flips in proptest::collection::vec((any::<Index>(), 0u8..8), 0..4),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut fixture = Fixture::new();
        fixture.store().insert_pack(&pack(&[text(1, 300), noise(1, 100)])[..]).unwrap();
        let path = fixture.file("packs");
        let kept = fixture.store().insert(b"kept").unwrap();
        fixture.store = None;
        let mut bytes = std::fs::read(&path).unwrap();
        for (position, bit) in flips {
            let position = position.index(bytes.len());
            bytes[position] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        fixture.reopen();
        prop_assert_eq!(fixture.store().read(&kept).unwrap(), b"kept");
        for digest in fixture.store().digests() {
            if let Ok(raw) = fixture.store().read(&digest) {
                prop_assert_eq!(Digest::of(&raw), digest);
            }
        }
    }
}
