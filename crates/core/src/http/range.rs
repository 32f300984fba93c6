//! Which bytes of a representation does a request ask for?
//!
//! RFC 9110, section 14. [`decide`] reads `Range` and `If-Range` together, since a range of a
//! representation that has changed is no range at all. What a client asks for is bounded:
//! at most [`MAX_RANGES`], coalesced where they touch, never more bytes than the whole.

use std::ops::Range;

use ::http::{HeaderMap, HeaderValue, header};

use super::{
    etag::{Comparison, ETagList},
    precondition::{Representation, parse_date},
};

/// Ranges of one request beyond this number make it a request for the whole
/// (section 14.2 lets a server ignore a field that looks like an attack).
pub const MAX_RANGES: usize = 16;

/// Bytes `start..end` of a representation; never empty.
pub type ByteRange = Range<u64>;

/// What to send of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeDecision {
    /// 200: all of it.
    Whole,
    /// 206 with `Content-Range`.
    One(ByteRange),
    /// 206 as `multipart/byteranges`: two or more, apart from one another, in the order in which
    /// they were asked for.
    Many(Vec<ByteRange>),
    /// 416 with `Content-Range: bytes */<size>`.
    Unsatisfiable,
}

/// What `headers` ask of a representation of `size_bytes`. Only for GET (section 14.2).
pub fn decide(headers: &HeaderMap, selected: &Representation, size_bytes: u64) -> RangeDecision {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return RangeDecision::Whole;
    };
    if !if_range_holds(headers, selected) {
        return RangeDecision::Whole;
    }
    parse(value.as_bytes(), size_bytes)
}

/// Whether a range may be answered: there is no `If-Range`, or it names this representation, by
/// strong comparison or by its exact date (section 13.1.5).
fn if_range_holds(headers: &HeaderMap, selected: &Representation) -> bool {
    let mut values = headers.get_all(header::IF_RANGE).iter();
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    if value.as_bytes().contains(&b'"') {
        return ETagList::new(value).contains(&selected.etag, Comparison::Strong);
    }
    value.to_str().ok().and_then(parse_date) == Some(selected.modified_unix_s)
}

/// Reads the value of a `Range` field. A unit other than bytes, or a list that cannot be read, is as
/// if there were none.
pub fn parse(value: &[u8], size_bytes: u64) -> RangeDecision {
    let Some(set) = bytes_unit(value) else { return RangeDecision::Whole };
    let mut ranges: Vec<ByteRange> = Vec::new();
    let mut specs = 0;
    for spec in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        // An empty element of a list counts for nothing (section 5.6.1.2).
        if spec.is_empty() {
            continue;
        }
        specs += 1;
        if specs > MAX_RANGES {
            return RangeDecision::Whole;
        }
        match parse_spec(spec, size_bytes) {
            Spec::Bytes(range) => coalesce(&mut ranges, range),
            Spec::Beyond => {}
            Spec::Invalid => return RangeDecision::Whole,
        }
    }
    if specs == 0 {
        return RangeDecision::Whole;
    }
    match ranges.len() {
        0 => RangeDecision::Unsatisfiable,
        1 => RangeDecision::One(ranges.swap_remove(0)),
        _ => RangeDecision::Many(ranges),
    }
}

fn bytes_unit(value: &[u8]) -> Option<&[u8]> {
    let equals = memchr::memchr(b'=', value)?;
    value[..equals].trim_ascii().eq_ignore_ascii_case(b"bytes").then_some(&value[equals + 1..])
}

enum Spec {
    Bytes(ByteRange),
    /// Well formed, but the representation has no such bytes.
    Beyond,
    Invalid,
}

fn parse_spec(spec: &[u8], size_bytes: u64) -> Spec {
    let Some(dash) = memchr::memchr(b'-', spec) else { return Spec::Invalid };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return match parse_number(last) {
            None => Spec::Invalid,
            Some(0) => Spec::Beyond,
            Some(_) if size_bytes == 0 => Spec::Beyond,
            Some(length) => Spec::Bytes(size_bytes.saturating_sub(length)..size_bytes),
        };
    }
    let last = if last.is_empty() { Some(u64::MAX) } else { parse_number(last) };
    match (parse_number(first), last) {
        (Some(first), Some(last)) if first > last => Spec::Invalid,
        (Some(first), Some(_)) if first >= size_bytes => Spec::Beyond,
        (Some(first), Some(last)) => Spec::Bytes(first..last.saturating_add(1).min(size_bytes)),
        (None, _) | (_, None) => Spec::Invalid,
    }
}

/// Digits only. More than fit are the largest number: beyond every representation.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

/// Bytes between two ranges that cost less to send than another part's header (section 15.3.7.2).
const GAP_BYTES: u64 = 80;

/// Adds a range, joined with those that it overlaps or nearly touches, at the place of the first.
fn coalesce(ranges: &mut Vec<ByteRange>, mut added: ByteRange) {
    let touches = |a: &ByteRange, b: &ByteRange| {
        a.start <= b.end.saturating_add(GAP_BYTES) && b.start <= a.end.saturating_add(GAP_BYTES)
    };
    let mut place = ranges.len();
    // Growing may make it touch one that it missed before.
    while let Some(at) = ranges.iter().position(|range| touches(range, &added)) {
        let range = ranges.remove(at);
        added = range.start.min(added.start)..range.end.max(added.end);
        place = place.min(at);
    }
    ranges.insert(place.min(ranges.len()), added);
}

/// `Content-Range: bytes 0-3/10`.
pub fn content_range(range: &ByteRange, size_bytes: u64) -> HeaderValue {
    let text = format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1);
    HeaderValue::try_from(text).expect("digits and punctuation")
}

/// `Content-Range: bytes */10`, for 416.
pub fn content_range_unsatisfied(size_bytes: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{size_bytes}")).expect("digits and punctuation")
}

#[cfg(test)]
mod tests {
    use nigh_proto::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::http::ETag;

    #[test]
    fn single_ranges_follow_rfc_9110_section_14() {
        use RangeDecision::{One, Unsatisfiable, Whole};
        for (field, expected) in [
            ("bytes=0-3", One(0..4)),
            ("bytes=8-99", One(8..10)),
            ("bytes=-2", One(8..10)),
            ("bytes=-99", One(0..10)),
            ("bytes=0-", One(0..10)),
            ("bytes=9-9", One(9..10)),
            ("BYTES=0-0", One(0..1)),
            ("bytes= 0-0 ", One(0..1)),
            ("bytes=0-18446744073709551615", One(0..10)),
            ("bytes=0-99999999999999999999999", One(0..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=10-, 99-100", Unsatisfiable),
            ("bytes=10-,0-0", One(0..1)),
            ("bytes=5-2", Whole),
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=0-3x", Whole),
            ("bytes=0 - 3", Whole),
            ("bytes=+0-3", Whole),
            ("bytes=0-3,x", Whole),
            ("bytes 0-3", Whole),
            ("items=0-3", Whole),
            ("", Whole),
        ] {
            assert_eq!(parse(field.as_bytes(), 10), expected, "{field:?}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        for field in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(parse(field.as_bytes(), 0), RangeDecision::Unsatisfiable, "{field}");
        }
    }

    #[test]
    fn several_ranges_are_joined_where_they_touch_and_keep_their_order() {
        use RangeDecision::{Many, One};
        for (field, expected) in [
            ("bytes=0-9,500-509", Many(vec![0..10, 500..510])),
            ("bytes=500-509,0-9", Many(vec![500..510, 0..10])),
            ("bytes=0-9,5-20", One(0..21)),
            ("bytes=0-9,10-20", One(0..21)),
            ("bytes=0-9,50-59", One(0..60)),
            ("bytes=0-9,300-309,100-400", Many(vec![0..10, 100..401])),
            ("bytes=300-309,0-9,10-299", One(0..310)),
            ("bytes=0-0,-1", Many(vec![0..1, 999..1000])),
        ] {
            assert_eq!(parse(field.as_bytes(), 1000), expected, "{field}");
        }
    }

    #[test]
    fn too_many_ranges_are_answered_with_the_whole() {
        let list = |count: u64| {
            let specs: Vec<_> = (0..count).map(|n| format!("{0}-{0}", n * 1000)).collect();
            parse(format!("bytes={}", specs.join(",")).as_bytes(), 1 << 20)
        };
        assert!(matches!(list(16), RangeDecision::Many(ranges) if ranges.len() == 16));
        assert_eq!(list(17), RangeDecision::Whole);
    }

    #[test]
    fn if_range_is_strong_or_the_exact_date() {
        let etag = ETag::new(&Digest::of(b"a"), None);
        let selected = Representation { etag, modified_unix_s: 784_111_777 };
        let tag = etag.to_value().to_str().unwrap().to_owned();
        for (condition, holds) in [
            (tag.clone(), true),
            (format!("W/{tag}"), false),
            ("\"other\"".to_owned(), false),
            ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), true),
            ("Sun, 06 Nov 1994 08:49:38 GMT".to_owned(), false),
            ("Sun, 06 Nov 1994 08:49:36 GMT".to_owned(), false),
            ("garbage".to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, "bytes=0-3".parse().unwrap());
            headers.insert(header::IF_RANGE, condition.parse().unwrap());
            let expected = if holds { RangeDecision::One(0..4) } else { RangeDecision::Whole };
            assert_eq!(decide(&headers, &selected, 10), expected, "{condition}");
        }
    }

    #[test]
    fn content_range_names_the_last_byte() {
        assert_eq!(content_range(&(0..4), 10), "bytes 0-3/10");
        assert_eq!(content_range_unsatisfied(10), "bytes */10");
    }

    proptest! {
        #[test]
        fn ranges_are_within_the_file_apart_and_bounded(
            specs in proptest::collection::vec((0u64..3000, 0u64..3000, 0u8..3), 1..24),
            size in 0u64..2500,
        ) {
            let text: Vec<_> = specs.iter().map(|(a, b, kind)| match kind {
                0 => format!("{}-{}", a.min(b), a.max(b)),
                1 => format!("{a}-"),
                _ => format!("-{b}"),
            }).collect();
            let ranges = match parse(format!("bytes={}", text.join(", ")).as_bytes(), size) {
                RangeDecision::One(range) => vec![range],
                RangeDecision::Many(ranges) => ranges,
                RangeDecision::Whole => { prop_assert!(specs.len() > MAX_RANGES); vec![] }
                RangeDecision::Unsatisfiable => vec![],
            };
            let asked = |at: u64| specs.iter().any(|(a, b, kind)| match kind {
                0 => (*a.min(b)..=*a.max(b)).contains(&at),
                1 => at >= *a,
                _ => at >= size.saturating_sub(*b),
            });
            for (index, range) in ranges.iter().enumerate() {
                prop_assert!(range.start < range.end && range.end <= size);
                prop_assert!(asked(range.start) && asked(range.end - 1));
                for other in &ranges[..index] {
                    prop_assert!(range.end + GAP_BYTES < other.start || other.end + GAP_BYTES < range.start);
                }
            }
            // Every byte that was asked for is in some range.
            if specs.len() <= MAX_RANGES {
                for at in (0..size).filter(|at| asked(*at)) {
                    prop_assert!(ranges.iter().any(|range| range.contains(&at)), "{}", at);
                }
            }
        }

        #[test]
        fn any_range_field_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..60), size: u64) {
            let mut field = b"bytes=".to_vec();
            field.extend(&bytes);
            let _ = parse(&bytes, size);
            let _ = parse(&field, size);
        }
    }
}
