//! Which files are in a release, and what are their bytes?
//!
//! A manifest is a blob: one header line, then one line per file, sorted by path.
//!
//! ```text
//! nigh-manifest 1
//! <digest> <size in bytes> <content type, or -> <path>
//! ```
//!
//! The path comes last, so it may hold spaces; it never holds a line break ([`SitePath`]). Equal
//! folders give equal text, so equal releases have equal manifest digests.

use std::fmt::Write as _;

use crate::{
    digest::{Digest, InvalidDigest},
    path::{InvalidPath, SitePath},
};

const HEADER: &str = "nigh-manifest 1\n";

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: SitePath,
    pub digest: Digest,
    pub size_bytes: u64,
    /// A media type that the site asked for; otherwise the file name's extension decides.
    pub content_type: Option<Box<str>>,
}

/// Every file of a release, sorted by path, each path once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why a text is not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    #[error("a manifest begins with the line \"nigh-manifest 1\"")]
    Header,
    #[error("a manifest is UTF-8 text")]
    NotUtf8,
    #[error("the manifest ends in the middle of line {line}")]
    Truncated { line: usize },
    #[error("line {line}: expected <digest> <size> <content type> <path>")]
    Shape { line: usize },
    #[error("line {line}")]
    Digest { line: usize, source: InvalidDigest },
    #[error("line {line}: {text:?} is not a size in bytes")]
    Size { line: usize, text: String },
    #[error("line {line}: {text:?} is not a media type")]
    ContentType { line: usize, text: String },
    #[error("line {line}")]
    Path { line: usize, source: InvalidPath },
    #[error("{path} is listed twice, or the list is not sorted by path")]
    Order { path: SitePath },
    #[error("{path} is both a file and a folder")]
    FileAndFolder { path: SitePath },
    #[error("{count} files are more than the {max} that one release may hold")]
    TooMany { count: usize, max: usize },
}

impl Manifest {
    /// How many files one release may hold.
    pub const MAX_ENTRIES: usize = 1_000_000;

    /// A manifest of `entries` in any order; each path once, and no path below another file.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, InvalidManifest> {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Self::from_sorted(entries)
    }

    fn from_sorted(entries: Vec<Entry>) -> Result<Self, InvalidManifest> {
        if entries.len() > Self::MAX_ENTRIES {
            return Err(InvalidManifest::TooMany { count: entries.len(), max: Self::MAX_ENTRIES });
        }
        for pair in entries.windows(2) {
            if pair[0].path >= pair[1].path {
                return Err(InvalidManifest::Order { path: pair[1].path.clone() });
            }
        }
        let manifest = Manifest { entries };
        let mut before = "";
        for entry in &manifest.entries {
            let path = entry.path.as_str();
            // Folders that the path before lies in too have been looked up for it.
            let shared = before.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
            for (slash, _) in path.match_indices('/').filter(|&(slash, _)| slash >= shared) {
                if let Some(file) = manifest.get(&path[..slash]) {
                    return Err(InvalidManifest::FileAndFolder { path: file.path.clone() });
                }
            }
            before = path;
        }
        Ok(manifest)
    }

    /// Reads a manifest from untrusted bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidManifest::NotUtf8)?;
        let body = text.strip_prefix(HEADER).ok_or(InvalidManifest::Header)?;
        let mut entries = Vec::with_capacity((body.len() / 80).min(Self::MAX_ENTRIES));
        for (index, text) in body.split_inclusive('\n').enumerate() {
            let line = index + 2;
            let text = text.strip_suffix('\n').ok_or(InvalidManifest::Truncated { line })?;
            if entries.len() == Self::MAX_ENTRIES {
                let count = body.lines().count();
                return Err(InvalidManifest::TooMany { count, max: Self::MAX_ENTRIES });
            }
            entries.push(parse_line(text, line)?);
        }
        Self::from_sorted(entries)
    }

    /// The one text of this manifest.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(HEADER.len() + self.entries.len() * 120);
        text.push_str(HEADER);
        for Entry { path, digest, size_bytes, content_type } in &self.entries {
            let content_type = content_type.as_deref().unwrap_or("-");
            let _ = writeln!(text, "{digest} {size_bytes} {content_type} {path}");
        }
        text
    }

    /// The file at `path`, if there is one.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[index])
    }

    /// All files, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The size of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size_bytes))
    }
}

fn parse_line(text: &str, line: usize) -> Result<Entry, InvalidManifest> {
    let mut fields = text.splitn(4, ' ');
    let mut field = || fields.next().ok_or(InvalidManifest::Shape { line });
    let (digest, size, content_type, path) = (field()?, field()?, field()?, field()?);
    let digest = digest.parse().map_err(|source| InvalidManifest::Digest { line, source })?;
    let size_bytes = parse_size(size)
        .ok_or_else(|| InvalidManifest::Size { line, text: size.chars().take(40).collect() })?;
    let content_type = match content_type {
        "-" => None,
        text if is_media_type(text) => Some(text.into()),
        text => {
            let text = text.chars().take(80).collect();
            return Err(InvalidManifest::ContentType { line, text });
        }
    };
    let path = path.parse().map_err(|source| InvalidManifest::Path { line, source })?;
    Ok(Entry { path, digest, size_bytes, content_type })
}

/// Digits without sign or leading zeros, so that one size has one spelling.
fn parse_size(text: &str) -> Option<u64> {
    let is_plain = text == "0" || text.starts_with(|first: char| ('1'..='9').contains(&first));
    if is_plain && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// `type/subtype` with optional parameters and no white space (RFC 9110, section 8.3.1).
pub fn is_media_type(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-*'`|~%".contains(&byte);
    let essence = text.split(';').next().unwrap_or_default();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    !kind.is_empty()
        && !subtype.is_empty()
        && text.len() <= 200
        && kind.bytes().all(is_token_byte)
        && subtype.bytes().all(is_token_byte)
        && text.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.parse().unwrap(),
            digest: Digest::of(path.as_bytes()),
            size_bytes: path.len() as u64,
            content_type: None,
        }
    }

    #[test]
    fn files_are_found_by_their_path() {
        let manifest = Manifest::new(vec![entry("b c.html"), entry("a/x")]).unwrap();
        assert_eq!(manifest.get("b c.html").unwrap().size_bytes, 8);
        assert!(manifest.get("a").is_none());
        assert_eq!(Manifest::parse(manifest.encode().as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn a_path_is_listed_once_and_never_below_a_file() {
        assert!(matches!(
            Manifest::new(vec![entry("a"), entry("a")]),
            Err(InvalidManifest::Order { .. })
        ));
        assert!(matches!(
            Manifest::new(vec![entry("a"), entry("a-b"), entry("a/b")]),
            Err(InvalidManifest::FileAndFolder { .. })
        ));
    }

    #[test]
    fn garbage_is_refused_with_the_line() {
        let digest = Digest::of(b"");
        for (body, line) in [
            (format!("{digest} 0 - a"), "line 2"),
            (format!("{digest} 00 - a\n"), "line 2"),
            (format!("{digest} +1 - a\n"), "line 2"),
            (format!("{digest} 1 - a\n{digest} 1 html b\n"), "line 3"),
            (format!("{digest} 1 - ../a\n"), "line 2"),
            (format!("{digest} 1 -\n"), "line 2"),
            ("\n".to_owned(), "line 2"),
        ] {
            let error = Manifest::parse(format!("{HEADER}{body}").as_bytes()).unwrap_err();
            assert!(error.to_string().contains(line), "{body:?}: {error}");
        }
        assert_eq!(Manifest::parse(b"nigh-manifest 2\n"), Err(InvalidManifest::Header));
    }

    proptest! {
        #[test]
        fn any_manifest_round_trips(
            files in proptest::collection::btree_map("[a-z]{1,8}( [a-z.é]{1,8})?", any::<u64>(), 0..40)
        ) {
            let entries = files.into_iter().map(|(path, size_bytes)| Entry {
                content_type: (size_bytes % 3 == 0).then(|| "text/x;charset=utf-8".into()),
                ..Entry { size_bytes, ..entry(&path) }
            });
            let manifest = Manifest::new(entries.collect()).unwrap();
            prop_assert_eq!(Manifest::parse(manifest.encode().as_bytes()).unwrap(), manifest);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut text = HEADER.as_bytes().to_vec();
            text.extend(&bytes);
            for candidate in [&bytes, &text] {
                if let Ok(manifest) = Manifest::parse(candidate) {
                    let text = manifest.encode();
                    prop_assert_eq!(text.as_bytes(), &candidate[..]);
                }
            }
        }
    }
}
