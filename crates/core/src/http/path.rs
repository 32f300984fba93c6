//! Which file name does a request's path spell, if it may spell any?
//!
//! A path is decoded once. What could mean one thing here and another elsewhere (an encoded
//! slash, a dot segment, an overlong byte sequence) is refused and never repaired, so no
//! two layers can disagree about what was asked for (RFC 3986, sections 2.1 and 3.3).

use std::borrow::Cow;

use memchr::memchr;

/// Why a request's path is refused. All of them are answered with 400, except
/// [`TooLong`](BadPath::TooLong): 414.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("a path begins with a slash")]
    NotAbsolute,
    #[error("the path is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("a percent sign is followed by two hexadecimal digits")]
    Escape,
    #[error("slashes, backslashes and control characters may not be percent-encoded")]
    Forbidden,
    #[error("the path is not UTF-8")]
    NotUtf8,
    #[error("dot segments are removed by the client")]
    DotSegment,
}

/// The longest raw path that is read, in bytes.
pub const MAX_BYTES: usize = 8192;

/// Decodes the raw path of a request target, without its query.
///
/// What is returned begins with `/`, is UTF-8, and holds no `.` or `..` segment, no backslash and
/// no control character. It borrows when nothing is encoded.
pub fn decode(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if !raw.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    if raw.len() > MAX_BYTES {
        return Err(BadPath::TooLong);
    }
    let path = unescape(raw)?;
    check(&path)?;
    Ok(path)
}

/// Decodes every `%XX` once. An encoded slash is refused, since it would be another path.
pub(crate) fn unescape(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    let Some(first) = memchr(b'%', raw.as_bytes()) else { return Ok(Cow::Borrowed(raw)) };
    let mut bytes = raw.as_bytes()[..first].to_vec();
    let mut rest = raw.as_bytes()[first..].iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (rest.next().copied(), rest.next().copied());
        let digit = |hex: Option<u8>| hex.and_then(|hex| char::from(hex).to_digit(16));
        let (Some(high), Some(low)) = (digit(high), digit(low)) else {
            return Err(BadPath::Escape);
        };
        let decoded = (high << 4 | low) as u8;
        if decoded == b'/' {
            return Err(BadPath::Forbidden);
        }
        bytes.push(decoded);
    }
    // Overlong sequences and surrogates are not UTF-8 (RFC 3629, section 3).
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadPath::NotUtf8)
}

fn check(path: &str) -> Result<(), BadPath> {
    let mut segment_len = 0usize;
    let mut is_all_dots = true;
    for &byte in &path.as_bytes()[1..] {
        match byte {
            b'/' if is_all_dots && matches!(segment_len, 1 | 2) => return Err(BadPath::DotSegment),
            b'/' => {
                segment_len = 0;
                is_all_dots = true;
                continue;
            }
            b'\\' | 0..0x20 | 0x7f => return Err(BadPath::Forbidden),
            _ => {}
        }
        segment_len += 1;
        is_all_dots &= byte == b'.';
    }
    if is_all_dots && matches!(segment_len, 1 | 2) { Err(BadPath::DotSegment) } else { Ok(()) }
}

/// Percent-encodes what may not stand as it is in the path of a `Location` (RFC 3986, section 3.3).
pub fn encode(path: &str) -> Cow<'_, str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(byte);
    if path.as_bytes().iter().all(is_plain) {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len() + 16);
    for byte in path.as_bytes() {
        if is_plain(byte) {
            text.push(char::from(*byte));
        } else {
            push_escape(&mut text, *byte);
        }
    }
    Cow::Owned(text)
}

/// Percent-encodes what may not stand in any part of a URL; what is encoded already stays so.
pub fn encode_rest(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            push_escape(&mut encoded, byte);
        }
    }
    Cow::Owned(encoded)
}

/// Percent-encodes what may not stand in the query of a `Location` (RFC 3986, section 3.4).
pub fn encode_query(query: &str) -> Cow<'_, str> {
    let encoded = encode_rest(query);
    if encoded.contains('#') { Cow::Owned(encoded.replace('#', "%23")) } else { encoded }
}

/// Appends `%XX`.
pub(crate) fn push_escape(text: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/b.html", "/a/b.html"),
            ("/a%20b", "/a b"),
            ("/%C3%BC", "/ü"),
            ("/ü", "/ü"),
            ("/%252e%252e/", "/%2e%2e/"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("//a", "//a"),
            ("/%3f%23", "/?#"),
        ] {
            assert_eq!(decode(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn what_could_leave_the_release_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        for (raw, reason) in [
            ("", BadPath::NotAbsolute),
            ("*", BadPath::NotAbsolute),
            ("a", BadPath::NotAbsolute),
            (long.as_str(), BadPath::TooLong),
            ("/%", BadPath::Escape),
            ("/%2", BadPath::Escape),
            ("/%zz", BadPath::Escape),
            ("/%+1", BadPath::Escape),
            ("/a%2fb", BadPath::Forbidden),
            ("/a%2Fb", BadPath::Forbidden),
            ("/a%5cb", BadPath::Forbidden),
            ("/a\\b", BadPath::Forbidden),
            ("/a%00", BadPath::Forbidden),
            ("/a%0d%0ab", BadPath::Forbidden),
            ("/%7f", BadPath::Forbidden),
            ("/%c0%ae%c0%ae/", BadPath::NotUtf8),
            ("/%e0%80%af", BadPath::NotUtf8),
            ("/%ff", BadPath::NotUtf8),
            ("/.", BadPath::DotSegment),
            ("/..", BadPath::DotSegment),
            ("/a/../b", BadPath::DotSegment),
            ("/a/%2e%2e/b", BadPath::DotSegment),
            ("/a/.%2e", BadPath::DotSegment),
            ("/./a", BadPath::DotSegment),
        ] {
            assert_eq!(decode(raw), Err(reason), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_decoded_path_has_a_way_up(raw in "/(%2[eEfF]|%5[cC]|%[0-9a-f]{2}|[./a%\\\\]){0,30}") {
            if let Ok(path) = decode(&raw) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(path[1..].split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(!path.contains('\\') && !path.chars().any(|c| c.is_ascii_control()));
            }
        }

        #[test]
        fn encoding_is_undone_by_decoding(path in "/[^\\\\\u{0}-\u{1f}\u{7f}]{0,30}") {
            if let Ok(same) = decode(&encode(&path)) {
                prop_assert_eq!(&*same, &*path);
            }
        }
    }
}
