//! Which encoded form of a blob does this client get?
//!
//! `Accept-Encoding` (RFC 9110, section 12.5.3) is read once per request into four weights;
//! [`AcceptEncoding::choose`] then picks among the forms that exist, without allocating.

use ::http::{HeaderMap, header};
use nigh_proto::variants::ContentCoding;

/// How much a client wants each coding, in thousandths; 0 is "not at all".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptEncoding {
    br: u16,
    zstd: u16,
    gzip: u16,
    identity: u16,
}

/// A form that could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub coding: ContentCoding,
    pub size_bytes: u64,
}

impl AcceptEncoding {
    /// What a client without `Accept-Encoding` gets: the blob as it is.
    ///
    /// The RFC would allow any coding; clients that do not ask cannot decode.
    pub const IDENTITY: AcceptEncoding = AcceptEncoding { br: 0, zstd: 0, gzip: 0, identity: 1000 };

    /// Elements beyond this number are not read.
    const MAX_ELEMENTS: usize = 32;

    /// Reads every `Accept-Encoding` field of a request; elements that cannot be read are ignored.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut weights = Weights::default();
        let values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let elements = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
        for element in elements.take(Self::MAX_ELEMENTS) {
            weights.read(element.trim_ascii());
        }
        weights.settle()
    }

    /// How much the client wants `coding`, in thousandths; `None` is the blob as it is.
    pub const fn weight(&self, coding: Option<ContentCoding>) -> u16 {
        match coding {
            Some(ContentCoding::Br) => self.br,
            Some(ContentCoding::Zstd) => self.zstd,
            Some(ContentCoding::Gzip) => self.gzip,
            None => self.identity,
        }
    }

    /// The form to send of a blob of `size_bytes`; `None` is the blob as it is.
    ///
    /// The highest weight wins; among equals the smallest form, then zstd before br before gzip,
    /// which is the order of decoding speed. When the client refuses everything that exists, the blob
    /// goes out as it is, since section 12.5.3 prefers that to 406.
    pub fn choose(
        &self,
        size_bytes: u64,
        forms: impl IntoIterator<Item = Form>,
    ) -> Option<ContentCoding> {
        let mut best = (self.identity, u64::MAX - size_bytes, 0);
        let mut chosen = None;
        for form in forms {
            let weight = self.weight(Some(form.coding));
            let rank = (weight, u64::MAX - form.size_bytes, preference(form.coding));
            if weight > 0 && rank > best {
                best = rank;
                chosen = Some(form.coding);
            }
        }
        chosen
    }
}

const fn preference(coding: ContentCoding) -> u8 {
    match coding {
        ContentCoding::Zstd => 3,
        ContentCoding::Br => 2,
        ContentCoding::Gzip => 1,
    }
}

/// What has been read so far; `None` is "not named".
#[derive(Default)]
struct Weights {
    br: Option<u16>,
    zstd: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn read(&mut self, element: &[u8]) {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let Some(name) = parts.next() else { return };
        let Some(weight) = parts.next().map_or(Some(1000), parse_weight) else { return };
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"br" => &mut self.br,
            b"zstd" => &mut self.zstd,
            b"gzip" | b"x-gzip" => &mut self.gzip,
            b"identity" => &mut self.identity,
            b"*" => &mut self.any,
            _ => return,
        };
        // Of two mentions the kinder one counts.
        *slot = (*slot).max(Some(weight));
    }

    fn settle(self) -> AcceptEncoding {
        let named = |weight: Option<u16>| weight.or(self.any).unwrap_or(0);
        // Without a word about it identity is acceptable, and the last choice.
        let identity = self.identity.unwrap_or(if self.any == Some(0) { 0 } else { 1 });
        AcceptEncoding {
            br: named(self.br),
            zstd: named(self.zstd),
            gzip: named(self.gzip),
            identity,
        }
    }
}

/// `q=0.123` in thousandths (section 12.4.2).
fn parse_weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, fraction) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let mut weight = digit(*whole)? * 1000;
    let mut unit = 100;
    for byte in fraction {
        weight += digit(*byte)? * unit;
        unit /= 10;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use ContentCoding::{Br, Gzip, Zstd};
    use proptest::prelude::*;

    use super::*;

    fn accept(field: &str) -> AcceptEncoding {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, field.parse().unwrap());
        AcceptEncoding::parse(&headers)
    }

    fn forms() -> [Form; 3] {
        [(Br, 20), (Zstd, 25), (Gzip, 30)].map(|(coding, size_bytes)| Form { coding, size_bytes })
    }

    #[test]
    fn the_weights_of_section_12_5_3_decide() {
        for (field, chosen) in [
            ("gzip, deflate, br, zstd", Some(Br)),
            ("gzip, deflate, br", Some(Br)),
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZIP", Some(Gzip)),
            ("zstd;q=1, br;q=0.9", Some(Zstd)),
            ("br;q=0.001, gzip;q=0.002", Some(Gzip)),
            ("br;q=0, gzip", Some(Gzip)),
            ("br;q=0", None),
            ("*", Some(Br)),
            ("*;q=0.5, br;q=0", Some(Zstd)),
            ("gzip;q=0, *", Some(Br)),
            ("*;q=0", None),
            ("identity", None),
            ("identity;q=0, gzip", Some(Gzip)),
            ("identity;q=0", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=1", Some(Gzip)),
            ("gzip;q=0.5, identity;q=0.5", Some(Gzip)),
            ("deflate", None),
            ("", None),
            ("br ; q=1 , gzip;q=0.1", Some(Br)),
            ("br;q=2", None),
            ("br;q=0.1234", None),
            ("br;level=1", None),
            ("br;q=, gzip", Some(Gzip)),
            ("gzip;q=1.000", Some(Gzip)),
            ("gzip;q=1.001", None),
            (",,gzip,", Some(Gzip)),
        ] {
            assert_eq!(accept(field).choose(100, forms()), chosen, "{field:?}");
        }
    }

    #[test]
    fn a_client_that_does_not_ask_gets_the_blob_as_it_is() {
        assert_eq!(AcceptEncoding::parse(&HeaderMap::new()).choose(100, forms()), None);
        assert_eq!(AcceptEncoding::IDENTITY.choose(100, forms()), None);
    }

    #[test]
    fn several_fields_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
        headers.append(header::ACCEPT_ENCODING, "br;q=0.5".parse().unwrap());
        assert_eq!(AcceptEncoding::parse(&headers).choose(100, forms()), Some(Gzip));
    }

    #[test]
    fn a_client_gets_only_what_exists() {
        assert_eq!(accept("br, gzip;q=0.1").choose(100, forms()[2..].to_vec()), Some(Gzip));
        assert_eq!(accept("br, gzip").choose(100, []), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_wanted_and_nothing_better_exists(
            field in "((br|zstd|gzip|identity|\\*)(;q=(0|1|0\\.[0-9]{1,3}))?, ?){0,6}",
            sizes in proptest::array::uniform3(1u64..200),
        ) {
            let accept = accept(&field);
            let forms: Vec<_> = ContentCoding::ALL
                .into_iter()
                .zip(sizes)
                .map(|(coding, size_bytes)| Form { coding, size_bytes })
                .collect();
            let chosen = accept.choose(100, forms.clone());
            let weight = accept.weight(chosen);
            prop_assert!(chosen.is_none() || weight > 0);
            for form in forms {
                prop_assert!(accept.weight(Some(form.coding)) <= weight);
            }
        }

        #[test]
        fn any_accept_encoding_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
                let _ = AcceptEncoding::parse(&headers).choose(1, forms());
            }
        }
    }
}
