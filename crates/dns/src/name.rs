//! Which name is meant, whatever its case?
//!
//! Names are compared in wire form (RFC 1035, section 3.1), uncompressed, in lower case, with the
//! root label at the end, so that looking one up is hashing bytes.

use std::borrow::Borrow;

use nigh_proto::zone::DnsName;

/// The longest name in wire form, root label included (RFC 1035, section 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// The longest label (RFC 1035, section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A name that nigh holds records for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `*.` before this name (RFC 4592, section 2.1.1); `None` when that would be too long.
    pub fn wildcard_below(parent: &[u8]) -> Option<([u8; NAME_BYTES_MAX], usize)> {
        let len = parent.len() + 2;
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(2..len)?.copy_from_slice(parent);
        bytes[..2].copy_from_slice(b"\x01*");
        Some((bytes, len))
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// Takes bytes that are a part of another name, from a label's start to the root.
    pub(crate) fn from_suffix(suffix: &[u8]) -> Self {
        Name(suffix.into())
    }
}

impl From<&DnsName> for Name {
    fn from(name: &DnsName) -> Self {
        let mut wire = Vec::with_capacity(name.as_str().len() + 2);
        for label in name.as_str().split('.') {
            wire.push(
                u8::try_from(label.len()).expect("a label of a DnsName has at most 63 bytes"),
            );
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Name(wire.into())
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The name without its first label; `None` for the root. `name` must be in wire form.
pub fn parent(name: &[u8]) -> Option<&[u8]> {
    match name.first() {
        None | Some(0) => None,
        Some(&len) => name.get(usize::from(len) + 1..),
    }
}

/// `name` itself, then each of its ancestors, the root last. At most 128 of them.
pub fn ancestors(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| parent(name))
}

/// Whether `name` is `ancestor` or lies below it.
pub fn is_within(name: &[u8], ancestor: &[u8]) -> bool {
    ancestors(name).any(|candidate| candidate == ancestor)
}

/// Length of an uncompressed name at the start of `bytes`, root label included.
///
/// `None` when it runs past the end, is longer than 255 bytes, or holds anything but plain labels:
/// a compression pointer has nothing to point to in a question.
pub fn wire_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = usize::from(*bytes.get(at)?);
        if len > LABEL_BYTES_MAX {
            return None;
        }
        at += len + 1;
        if at > NAME_BYTES_MAX || at > bytes.len() {
            return None;
        }
        if len == 0 {
            return Some(at);
        }
    }
}

/// As people write it, without the final dot; bytes that are not printable as `\DDD` (RFC 1035,
/// section 5.1).
pub fn to_text(name: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(name.len());
    for label in ancestors(name).filter_map(|rest| rest.get(1..=usize::from(*rest.first()?))) {
        if label.is_empty() {
            break;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            if byte.is_ascii_graphic() && byte != b'.' && byte != b'\\' {
                text.push(char::from(byte));
            } else {
                write!(text, "\\{byte:03}").expect("a String takes everything");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from(&text.parse::<DnsName>().unwrap())
    }

    #[test]
    fn a_name_is_its_labels_in_lower_case() {
        assert_eq!(name("WWW.a.test").as_bytes(), b"\x03www\x01a\x04test\0");
        assert_eq!(to_text(name("www.a.test").as_bytes()), "www.a.test");
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let name = name("a.test");
        let all: Vec<_> = ancestors(name.as_bytes()).collect();
        assert_eq!(all, [&b"\x01a\x04test\0"[..], b"\x04test\0", b"\0"]);
    }

    #[test]
    fn only_whole_labels_are_within() {
        assert!(is_within(name("a.nigh.test").as_bytes(), name("nigh.test").as_bytes()));
        assert!(!is_within(name("tonigh.test").as_bytes(), name("nigh.test").as_bytes()));
    }

    #[test]
    fn names_on_the_wire_follow_rfc_1035_section_3_1() {
        for (bytes, len) in [
            (&b"\0"[..], Some(1)),
            (b"\x01a\0rest", Some(3)),
            (b"", None),
            (b"\x01a", None),
            (b"\x05ab\0", None),
            (b"\xc0\x0c", None),
            (b"\x40aaaa\0", None),
        ] {
            assert_eq!(wire_len(bytes), len, "{bytes:?}");
        }
        let mut long = b"\x01a".repeat(127);
        long.push(0);
        assert_eq!(wire_len(&long), Some(255));
        let mut too_long = b"\x01a".repeat(128);
        too_long.push(0);
        assert_eq!(wire_len(&too_long), None);
    }
}
