//! May this request proceed, or does the client hold the representation already?
//!
//! RFC 9110, section 13.2.2, for GET and HEAD, in its order: `If-Match`, else
//! `If-Unmodified-Since`; then `If-None-Match`, else `If-Modified-Since`. `If-Range` is
//! decided last, by [`range`](super::range).

use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, HeaderName, header};

use super::etag::{Comparison, ETag, ETagList};

/// What validators the selected representation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Representation {
    pub etag: ETag,
    /// Seconds since 1970; whole seconds, as `Last-Modified` shows them.
    pub modified_unix_s: u64,
}

/// What the preconditions decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were no condition.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client thinks it is.
    Failed,
}

/// Decides the conditions in `headers` about `selected`, the representation that
/// [negotiation](super::negotiate) chose.
pub fn evaluate(headers: &HeaderMap, selected: &Representation) -> Verdict {
    if headers.contains_key(header::IF_MATCH) {
        if !lists(headers, &header::IF_MATCH, &selected.etag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if let Some(date) = date(headers, &header::IF_UNMODIFIED_SINCE)
        && selected.modified_unix_s > date
    {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if lists(headers, &header::IF_NONE_MATCH, &selected.etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if let Some(date) = date(headers, &header::IF_MODIFIED_SINCE)
        && selected.modified_unix_s <= date
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

fn lists(headers: &HeaderMap, name: &HeaderName, etag: &ETag, comparison: Comparison) -> bool {
    headers
        .get_all(name)
        .iter()
        .map(ETagList::new)
        .any(|list| list.is_any() || list.contains(etag, comparison))
}

/// The one date in a field. A field that is sent twice, or is no date, is ignored (section 13.1.3).
pub(crate) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    parse_date(value.to_str().ok()?)
}

/// Reads any of the three forms of an HTTP date (section 5.6.7) as Unix seconds.
pub fn parse_date(text: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The IMF-fixdate of Unix seconds. Years past 9999 cannot be written and become the last of 9999.
pub fn format_date(unix_s: u64) -> String {
    const LAST_S: u64 = 253_402_300_799;
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_S)))
}

#[cfg(test)]
mod tests {
    use nigh_proto::{Digest, variants::ContentCoding};
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: u64 = 784_111_777;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn selected() -> Representation {
        Representation { etag: ETag::new(&Digest::of(b"a"), None), modified_unix_s: MODIFIED }
    }

    fn verdict(fields: &[(HeaderName, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        evaluate(&headers, &selected())
    }

    #[test]
    fn conditions_are_decided_in_the_order_of_section_13_2_2() {
        use Verdict::{Failed, NotModified, Proceed};
        let tag = selected().etag.to_value();
        let tag = tag.to_str().unwrap();
        let weak = format!("W/{tag}");
        let encoded = ETag::new(&Digest::of(b"a"), Some(ContentCoding::Br)).to_value();
        let encoded = encoded.to_str().unwrap();
        let (im, ius) = (header::IF_MATCH, header::IF_UNMODIFIED_SINCE);
        let (inm, ims) = (header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE);
        for (fields, expected) in [
            (vec![], Proceed),
            // Step 1: If-Match, strong comparison.
            (vec![(im.clone(), tag)], Proceed),
            (vec![(im.clone(), "*")], Proceed),
            (vec![(im.clone(), "\"other\"")], Failed),
            (vec![(im.clone(), weak.as_str())], Failed),
            (vec![(im.clone(), "\"other\""), (im.clone(), tag)], Proceed),
            // Step 2: If-Unmodified-Since, only without If-Match.
            (vec![(ius.clone(), SAME)], Proceed),
            (vec![(ius.clone(), LATER)], Proceed),
            (vec![(ius.clone(), EARLIER)], Failed),
            (vec![(ius.clone(), "yesterday")], Proceed),
            (vec![(im.clone(), tag), (ius.clone(), EARLIER)], Proceed),
            // Step 3: If-None-Match, weak comparison.
            (vec![(inm.clone(), tag)], NotModified),
            (vec![(inm.clone(), weak.as_str())], NotModified),
            (vec![(inm.clone(), "*")], NotModified),
            (vec![(inm.clone(), "\"other\"")], Proceed),
            (vec![(inm.clone(), encoded)], Proceed),
            // Step 4: If-Modified-Since, only without If-None-Match.
            (vec![(ims.clone(), SAME)], NotModified),
            (vec![(ims.clone(), LATER)], NotModified),
            (vec![(ims.clone(), EARLIER)], Proceed),
            (vec![(ims.clone(), "garbage")], Proceed),
            (vec![(ims.clone(), LATER), (ims.clone(), LATER)], Proceed),
            (vec![(inm.clone(), "\"other\""), (ims.clone(), LATER)], Proceed),
            (vec![(inm.clone(), tag), (ims.clone(), EARLIER)], NotModified),
            // Both kinds: the first decides first.
            (vec![(im.clone(), "\"other\""), (inm.clone(), tag)], Failed),
            (vec![(im.clone(), tag), (inm.clone(), tag)], NotModified),
            (vec![(ius.clone(), SAME), (ims.clone(), SAME)], NotModified),
        ] {
            assert_eq!(verdict(&fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn all_three_forms_of_a_date_are_read() {
        for text in [SAME, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_date(text), Some(MODIFIED), "{text}");
        }
        assert_eq!(parse_date("Thu, 01 Jan 1969 00:00:00 GMT"), None);
    }

    proptest! {
        #[test]
        fn a_date_that_is_written_is_read_back(unix_s in 0u64..253_402_300_800) {
            prop_assert_eq!(parse_date(&format_date(unix_s)), Some(unix_s));
        }

        #[test]
        fn any_field_value_is_decided(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let Ok(value) = http::HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                let _ = evaluate(&headers, &selected());
            }
        }
    }
}
