//! Which entity tag does a representation have, and does a list of tags name it?
//!
//! RFC 9110, section 8.8.3. One blob has one tag per coding, always a strong one: its bytes
//! were fixed when it was pushed.

use ::http::HeaderValue;
use nigh_proto::{Digest, variants::ContentCoding};

/// The strong entity tag of one representation: `"<half of the digest>"`, or
/// `"<half of the digest>-br"` for an encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ETag {
    text: [u8; ETag::MAX_BYTES],
    len: u8,
}

impl ETag {
    /// The longest tag, with its quotes.
    const MAX_BYTES: usize = 40;

    /// The tag of the blob `digest` sent as it is, or in `coding`.
    ///
    /// 128 bits of the digest: two files of one path differ in it with certainty, and answers
    /// stay small.
    pub fn new(digest: &Digest, coding: Option<ContentCoding>) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Self::MAX_BYTES];
        text[0] = b'"';
        for (pair, byte) in text[1..33].chunks_exact_mut(2).zip(digest.as_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        let mut len = 33;
        if let Some(coding) = coding {
            let token = coding.token().as_bytes();
            text[len] = b'-';
            text[len + 1..len + 1 + token.len()].copy_from_slice(token);
            len += 1 + token.len();
        }
        text[len] = b'"';
        ETag { text, len: len as u8 + 1 }
    }

    /// The tag with its quotes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }

    /// The value of an `ETag` field.
    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).expect("quotes, hex digits and a token")
    }

    /// Whether the opaque tag of `other` (with quotes, without `W/`) is this one.
    fn is(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

/// How two tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// A weak tag never matches.
    Strong,
    /// `W/` makes no difference.
    Weak,
}

/// The values of one `If-Match` or `If-None-Match` field: `*`, or a list of tags.
#[derive(Clone, Copy, Debug)]
pub struct ETagList<'v>(&'v [u8]);

impl<'v> ETagList<'v> {
    /// A field value, not yet read.
    pub fn new(value: &'v HeaderValue) -> Self {
        ETagList(value.as_bytes())
    }

    /// Whether the list is `*`.
    pub fn is_any(&self) -> bool {
        self.0.trim_ascii() == b"*"
    }

    /// Whether `tag`, which is strong, is in the list. What is not a tag ends the reading.
    pub fn contains(&self, tag: &ETag, comparison: Comparison) -> bool {
        let mut rest = self.0;
        loop {
            rest = skip(rest, b" \t,");
            let is_weak = rest.starts_with(b"W/");
            let opaque = if is_weak { &rest[2..] } else { rest };
            let Some(end) = opaque
                .first()
                .filter(|&&byte| byte == b'"')
                .and_then(|_| memchr::memchr(b'"', &opaque[1..]).map(|at| at + 2))
            else {
                return false;
            };
            if tag.is(&opaque[..end]) && (!is_weak || comparison == Comparison::Weak) {
                return true;
            }
            rest = &opaque[end..];
        }
    }
}

fn skip<'v>(bytes: &'v [u8], skipped: &[u8]) -> &'v [u8] {
    let at = bytes.iter().position(|byte| !skipped.contains(byte)).unwrap_or(bytes.len());
    &bytes[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(list: &str, tag: &ETag, comparison: Comparison) -> bool {
        ETagList::new(&HeaderValue::from_str(list).unwrap()).contains(tag, comparison)
    }

    #[test]
    fn each_coding_of_a_blob_has_its_own_tag() {
        let digest = Digest::of(b"a");
        let plain = ETag::new(&digest, None);
        let text = plain.to_value();
        assert_eq!(text.len(), 34);
        assert!(digest.to_string().starts_with(text.to_str().unwrap().trim_matches('"')));
        for coding in ContentCoding::ALL {
            let tag = ETag::new(&digest, Some(coding));
            assert!(tag.to_value().to_str().unwrap().ends_with(&format!("-{coding}\"")));
            assert_ne!(tag, plain);
        }
    }

    #[test]
    fn lists_are_read_as_rfc_9110_section_8_8_3_writes_them() {
        let tag = ETag::new(&Digest::of(b"a"), None);
        let text = tag.to_value().to_str().unwrap().to_owned();
        let bare = text.trim_matches('"');
        for (list, weak, strong) in [
            (text.clone(), true, true),
            (format!("W/{text}"), true, false),
            (format!("\"x\", {text}"), true, true),
            (format!("\"x\",{text},\"y\""), true, true),
            (format!(" , ,{text}"), true, true),
            (format!("\"a,b\", W/{text}"), true, false),
            (format!("w/{text}"), false, false),
            (bare.to_owned(), false, false),
            (format!("\"{bare}"), false, false),
            (format!("\"x{bare}\""), false, false),
            ("*".to_owned(), false, false),
            (String::new(), false, false),
        ] {
            assert_eq!(contains(&list, &tag, Comparison::Weak), weak, "{list}");
            assert_eq!(contains(&list, &tag, Comparison::Strong), strong, "{list}");
        }
    }
}
