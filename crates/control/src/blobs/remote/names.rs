//! Which names does control give to objects?

use std::{io, path::Path};

use nigh_proto::Timestamp;

use crate::random::random;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name in the file at `path`, which is made when there is none.
pub(super) fn folder_name(path: &Path) -> io::Result<String> {
    let known = nigh_durable::read_optional(path)?.and_then(|text| String::from_utf8(text).ok());
    // An empty or strange file is as good as none: what was begun under its name begins anew.
    let is_name =
        |name: &String| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(name) = known.filter(is_name) {
        return Ok(name);
    }
    let name = hex(&random::<16>());
    nigh_durable::write(path, name.as_bytes())?;
    Ok(name)
}

/// When an object of this name was begun; `None` when no control gives such names.
pub(super) fn begun_at(key: &str) -> Option<Timestamp> {
    let rest = key.strip_prefix("packs/").or_else(|| key.strip_prefix("blobs/"))?;
    let (time, random) = rest.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_name = time.len() == 12 && random.len() == 16 && is_hex(time) && is_hex(random);
    let ms = i64::from_str_radix(time, 16).ok().filter(|_| is_name)?;
    Some(Timestamp::from_unix_ms(ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_controls_own_only_if_control_would_give_it(
            key in "(packs|blobs|Packs|)/?[0-9a-fA-F+]{10,13}-?[0-9a-f]{15,17}.{0,2}",
        ) {
            if let Some(begun) = begun_at(&key) {
                let (folder, rest) = key.split_once('/').unwrap();
                let random = rest.split_once('-').unwrap().1;
                prop_assert_eq!(&key, &format!("{folder}/{:012x}-{random}", begun.unix_ms()));
                prop_assert!(folder == "packs" || folder == "blobs");
            }
        }

        #[test]
        fn a_name_says_when_it_was_begun(ms in 0i64..1 << 47, random in any::<[u8; 8]>()) {
            let key = format!("blobs/{ms:012x}-{}", hex(&random));
            prop_assert_eq!(begun_at(&key), Some(Timestamp::from_unix_ms(ms)));
        }
    }

    #[test]
    fn a_folder_keeps_its_name_and_gets_one_when_the_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder-name");
        let name = folder_name(&path).unwrap();
        assert_eq!(folder_name(&path).unwrap(), name);
        std::fs::write(&path, "").unwrap();
        assert_ne!(folder_name(&path).unwrap(), name);
    }

    #[test]
    fn only_names_that_control_gives_are_its_own() {
        let key = format!("packs/{:012x}-{}", 1_700_000_000_000_i64, hex(&[7; 8]));
        assert_eq!(begun_at(&key), Some(Timestamp::from_unix_ms(1_700_000_000_000)));
        assert!(begun_at(&key.replace("packs", "blobs")).is_some());
        for foreign in [
            "",
            "photo.jpg",
            "packs/",
            "packs/photo.jpg",
            "packs/000000000001-photo",
            "packs/00000000000A-0000000000000000",
            "packs/+00000000001-0000000000000000",
            "other/000000000001-0000000000000000",
            "packs/000000000001-0000000000000000.bak",
        ] {
            assert_eq!(begun_at(foreign), None, "{foreign}");
        }
    }
}
