//! Which encoded forms exist of a release's blobs?
//!
//! A variant index is a blob: one header line, then `<digest> <coding> <variant digest> <size>`
//! per variant, sorted. Variants are derived data: a release is whole without any.

use std::{fmt, fmt::Write as _, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

const HEADER: &str = "nigh-variants 1\n";

/// A content coding of HTTP (RFC 9110, section 8.4.1) that nigh makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentCoding {
    Br,
    Zstd,
    Gzip,
}

impl ContentCoding {
    /// Every coding that nigh makes.
    pub const ALL: [ContentCoding; 3] =
        [ContentCoding::Br, ContentCoding::Zstd, ContentCoding::Gzip];

    /// The registered token, as `Content-Encoding` and `Accept-Encoding` carry it.
    pub const fn token(self) -> &'static str {
        match self {
            ContentCoding::Br => "br",
            ContentCoding::Zstd => "zstd",
            ContentCoding::Gzip => "gzip",
        }
    }
}

impl fmt::Display for ContentCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// The text is not a coding that nigh makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a content coding that nigh makes")]
pub struct UnknownCoding(String);

impl FromStr for ContentCoding {
    type Err = UnknownCoding;

    fn from_str(text: &str) -> Result<Self, UnknownCoding> {
        Self::ALL
            .into_iter()
            .find(|coding| coding.token() == text)
            .ok_or_else(|| UnknownCoding(text.chars().take(40).collect()))
    }
}

/// One encoded form of one blob. The variant is itself a blob under its own digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant {
    /// The blob that was encoded.
    pub of: Digest,
    pub coding: ContentCoding,
    /// The encoded bytes.
    pub digest: Digest,
    pub size_bytes: u64,
}

/// The variants of one release, sorted, at most one per blob and coding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantIndex {
    variants: Vec<Variant>,
}

/// Why a text is not a variant index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVariants {
    #[error("a variant index begins with the line \"nigh-variants 1\" and is UTF-8 text")]
    Header,
    #[error("line {line}: expected <digest> <coding> <variant digest> <size>")]
    Line { line: usize },
    #[error("line {line}: the index is not sorted or lists a variant twice")]
    Order { line: usize },
}

impl VariantIndex {
    /// An index of `variants` in any order; of two for one blob and coding, the smaller stays.
    pub fn new(mut variants: Vec<Variant>) -> Self {
        variants.sort_unstable_by_key(|v| (v.of, v.coding, v.size_bytes, v.digest));
        variants.dedup_by_key(|variant| (variant.of, variant.coding));
        VariantIndex { variants }
    }

    /// Reads an index from untrusted bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidVariants> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidVariants::Header)?;
        let body = text.strip_prefix(HEADER).ok_or(InvalidVariants::Header)?;
        let mut variants: Vec<Variant> = Vec::new();
        for (index, text) in body.split_inclusive('\n').enumerate() {
            let line = index + 2;
            let variant = parse_line(text).ok_or(InvalidVariants::Line { line })?;
            if variants
                .last()
                .is_some_and(|last| (last.of, last.coding) >= (variant.of, variant.coding))
            {
                return Err(InvalidVariants::Order { line });
            }
            variants.push(variant);
        }
        Ok(VariantIndex { variants })
    }

    /// The one text of this index.
    pub fn encode(&self) -> String {
        let mut text = String::from(HEADER);
        for Variant { of, coding, digest, size_bytes } in &self.variants {
            let _ = writeln!(text, "{of} {coding} {digest} {size_bytes}");
        }
        text
    }

    /// All variants, sorted by blob and coding.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }
}

fn parse_line(text: &str) -> Option<Variant> {
    let mut fields = text.strip_suffix('\n')?.split(' ');
    let variant = Variant {
        of: fields.next()?.parse().ok()?,
        coding: fields.next()?.parse().ok()?,
        digest: fields.next()?.parse().ok()?,
        size_bytes: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(variant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variant(of: u8, coding: ContentCoding, size_bytes: u64) -> Variant {
        Variant { of: Digest::of(&[of]), coding, digest: Digest::of(&[of, 1]), size_bytes }
    }

    #[test]
    fn the_smaller_of_two_variants_stays() {
        let index = VariantIndex::new(vec![
            variant(1, ContentCoding::Br, 9),
            variant(1, ContentCoding::Br, 7),
            variant(1, ContentCoding::Gzip, 12),
        ]);
        assert_eq!(index.variants().iter().map(|v| v.size_bytes).collect::<Vec<_>>(), [7, 12]);
        assert_eq!(VariantIndex::parse(index.encode().as_bytes()).unwrap(), index);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(tail in ".{0,200}") {
            let _ = VariantIndex::parse(tail.as_bytes());
            let _ = VariantIndex::parse(format!("{HEADER}{tail}").as_bytes());
        }
    }
}
