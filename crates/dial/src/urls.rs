//! Where is control said to be?

use std::{collections::HashSet, fmt, net::IpAddr, str::FromStr};

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// More than anybody has controls.
pub const URLS_MAX: usize = 16;

/// One URL of control, or one for each of several controls, the first to be asked first. `http`
/// or `https`, with a host, and without user, query or fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlUrls(Vec<Url>);

/// Why a text does not say where control is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrls {
    #[error("there is no address; want https://HOST:PORT")]
    None,
    #[error("{total} addresses are more than the {URLS_MAX} that there may be")]
    TooMany { total: usize },
    #[error("{url:?} is not an address of control: {why}")]
    Url { url: String, why: String },
}

impl ControlUrls {
    /// At least one and at most [`URLS_MAX`].
    pub fn all(&self) -> &[Url] {
        &self.0
    }
}

fn url(text: &str) -> Result<Url, InvalidUrls> {
    let invalid = |why: &str| InvalidUrls::Url { url: text.to_owned(), why: why.to_owned() };
    let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(invalid("want https://HOST:PORT"));
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if url.query().is_some() || url.fragment().is_some() || has_user {
        return Err(invalid("want no user, query or fragment"));
    }
    Ok(url)
}

/// Whether `url` can only be this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// URLs with commas between them.
impl FromStr for ControlUrls {
    type Err = InvalidUrls;

    fn from_str(text: &str) -> Result<Self, InvalidUrls> {
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        let mut urls = texts.map(url).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        match urls.len() {
            0 => Err(InvalidUrls::None),
            1..=URLS_MAX => Ok(Self(urls)),
            total => Err(InvalidUrls::TooMany { total }),
        }
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for ControlUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, url) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", url.as_str().trim_end_matches('/'))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ControlUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlUrls({self})")
    }
}

/// A text, or a list of texts.
impl<'de> Deserialize<'de> for ControlUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "want \"https://HOST:PORT\", or a list of such addresses")]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        let urls = match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse(),
            Written::List(list) => list.join(",").parse(),
        };
        urls.map_err(D::Error::custom)
    }
}

impl Serialize for ControlUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => serializer.serialize_str(one.as_str().trim_end_matches('/')),
            several => serializer.collect_seq(several.iter().map(Url::as_str)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_url_or_several_with_commas_or_as_a_list() {
        let json = |text: &str| serde_json::from_str::<ControlUrls>(text).unwrap();
        let two: ControlUrls = "https://a:8443, https://b:8443/".parse().unwrap();
        assert_eq!(two.all().len(), 2);
        assert_eq!(two.to_string(), "https://a:8443,https://b:8443");
        assert_eq!(json(r#"["https://a:8443", "https://b:8443"]"#), two);
        assert_eq!(json(r#""https://a:8443,https://b:8443""#), two);
        let one: ControlUrls = "https://a,https://a".parse().unwrap();
        assert_eq!(serde_json::to_string(&one).unwrap(), r#""https://a""#, "the same twice");
    }

    #[test]
    fn what_is_no_address_of_control_is_named() {
        for text in ["control:8443", "ftp://a", "https://u@a", "https://a?b", "https://a,a#b"] {
            let error = text.parse::<ControlUrls>().unwrap_err();
            assert!(matches!(error, InvalidUrls::Url { .. }), "{text}: {error}");
        }
        for text in ["", " , ,"] {
            assert_eq!(text.parse::<ControlUrls>(), Err(InvalidUrls::None));
        }
        let many = (0..17).map(|n| format!("https://a{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(many.parse::<ControlUrls>(), Err(InvalidUrls::TooMany { total: 17 }));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, is) in [
            ("https://127.0.0.1:1", true),
            ("https://[::1]:1", true),
            ("https://localhost", true),
            ("https://localhost.example", false),
            ("https://192.0.2.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), is, "{url}");
        }
    }

    proptest! {
        #[test]
        fn what_was_read_is_written_so_that_it_reads_the_same(text in "[ -~]{0,60}") {
            if let Ok(urls) = text.parse::<ControlUrls>() {
                prop_assert_eq!(urls.to_string().parse::<ControlUrls>(), Ok(urls));
            }
        }
    }
}
