//! Which names does control give to objects?

use nigh_proto::Timestamp;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    use super::*;

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
