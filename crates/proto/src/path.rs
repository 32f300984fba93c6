//! Which file names may a release hold?

use std::{fmt, str::FromStr};

use crate::names::text_serde;

/// Where a file lies in a release: `/`-separated, relative, UTF-8, without `.` or `..`.
///
/// The same text on every edge and every file system, so a path can never leave its release.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SitePath(Box<str>);

/// Why a path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("the path is empty")]
    Empty,
    #[error("{0:?} is longer than {max} bytes", max = SitePath::MAX_BYTES)]
    TooLong(String),
    #[error("{0:?} has a name longer than {max} bytes", max = SitePath::MAX_SEGMENT_BYTES)]
    SegmentTooLong(String),
    #[error("{0:?} has an empty, `.` or `..` name in it")]
    Segment(String),
    #[error("{0:?} holds a control character or a backslash")]
    Character(String),
}

impl SitePath {
    /// The longest path, in bytes.
    pub const MAX_BYTES: usize = 1024;
    /// The longest single name in a path, in bytes; what common file systems allow.
    pub const MAX_SEGMENT_BYTES: usize = 255;
}

impl FromStr for SitePath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let shown = || text.chars().take(120).collect::<String>();
        if text.is_empty() {
            return Err(InvalidPath::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidPath::TooLong(shown()));
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\') {
            return Err(InvalidPath::Character(shown()));
        }
        for segment in text.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err(InvalidPath::Segment(shown()));
            }
            if segment.len() > Self::MAX_SEGMENT_BYTES {
                return Err(InvalidPath::SegmentTooLong(shown()));
            }
        }
        Ok(SitePath(text.into()))
    }
}

text_serde!(SitePath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_release() {
        let long_name = "a".repeat(256);
        let long_path = "abc/".repeat(300) + "x";
        for text in [
            "", "/", "/etc", "a/", "a//b", ".", "..", "a/../b", "a/./b", "../x", "a\\b", "a\0b",
            "a\nb", &long_name, &long_path,
        ] {
            assert!(text.parse::<SitePath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ordinary_and_odd_names_are_kept_as_they_are() {
        for text in ["index.html", ".well-known/acme", "a b/ü.html", "...", "a/..b", "%2e%2e/x"] {
            assert_eq!(text.parse::<SitePath>().unwrap().as_str(), text);
        }
    }
}
