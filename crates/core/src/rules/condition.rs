//! Does a request have what a rule asks for beside its path?

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, HeaderName, header};
use nigh_proto::rules::Conditions;

use super::pattern::{Captures, Site, name_at};

/// What rules may look at. All of it comes from strangers, except `country` and `is_https`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The path as it was sent: percent-encoded, without query.
    pub path: &'a str,
    /// What followed the `?`, as it was sent.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The host that was asked for, in lower case and without port.
    pub host: &'a str,
    pub is_https: bool,
    /// The visitor's ISO 3166-1 code, when it is known.
    pub country: Option<&'a str>,
}

/// Query parameters, and cookies of one request, beyond this number are not looked at.
const MAX_PAIRS: usize = 200;

/// Whether every condition holds. A rule that asks for a role never applies: nothing here can
/// check a signature.
pub(crate) fn hold(conditions: &Conditions, view: &View<'_>) -> bool {
    let Conditions { country, language, cookie, role } = conditions;
    role.is_empty()
        && (country.is_empty() || is_from(country, view.country))
        && (language.is_empty() || prefers(language, view.headers))
        && (cookie.is_empty() || has_cookie(cookie, view.headers))
}

/// Whether the request is for the host that a rule names.
pub(crate) fn is_for(site: Option<&Site>, view: &View<'_>) -> bool {
    site.is_none_or(|site| site.is_https == view.is_https && *site.host == *view.host)
}

fn is_from(countries: &[String], country: Option<&str>) -> bool {
    country.is_some_and(|code| countries.iter().any(|asked| asked.eq_ignore_ascii_case(code)))
}

/// Whether the language that the visitor prefers most is one of `languages`, by lookup (RFC 4647,
/// section 3.4): `de-AT` finds `de`. Less preferred languages do not count, or a reader of English
/// who also knows German would be sent to the German pages.
fn prefers(languages: &[String], headers: &HeaderMap) -> bool {
    let Some(mut range) = preferred(headers) else { return false };
    loop {
        if languages.iter().any(|asked| asked.eq_ignore_ascii_case(range)) {
            return true;
        }
        let Some((shorter, _)) = range.rsplit_once('-') else { return false };
        // A single letter announces what follows it and is cut with it.
        range = match shorter.rsplit_once('-') {
            Some((shortest, single)) if single.len() == 1 => shortest,
            _ => shorter,
        };
    }
}

/// The language range with the highest weight in `Accept-Language`; the first among equals.
fn preferred(headers: &HeaderMap) -> Option<&str> {
    let mut best: Option<(f32, &str)> = None;
    for element in elements(headers, &header::ACCEPT_LANGUAGE, ',') {
        let (range, parameters) = element.split_once(';').unwrap_or((element, "q=1"));
        let weight =
            parameters.trim().strip_prefix("q=").and_then(|q| q.parse().ok()).unwrap_or(0.0);
        let (range, is_better) = (range.trim(), best.is_none_or(|(most, _)| weight > most));
        if range != "*" && !range.is_empty() && weight > 0.0 && weight <= 1.0 && is_better {
            best = Some((weight, range));
        }
    }
    best.map(|(_, range)| range)
}

fn has_cookie(names: &[String], headers: &HeaderMap) -> bool {
    elements(headers, &header::COOKIE, ';').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default().trim();
        names.iter().any(|asked| asked == name)
    })
}

fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    separator: char,
) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(move |value| value.split(separator)).take(MAX_PAIRS)
}

/// The query parameters of a request, decoded (`+` is a space).
#[derive(Debug, Default)]
pub(crate) struct QueryPairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> QueryPairs<'a> {
    pub(crate) fn parse(query: Option<&'a str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |text: &'a str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            Some((decoded(key)?, decoded(value)?))
        };
        QueryPairs(pairs.take(MAX_PAIRS).filter_map(pair).collect())
    }

    /// Whether every parameter of `asked` is there; captures those that ask for `:name`.
    pub(crate) fn matches<'c>(
        &'c self,
        asked: &'c BTreeMap<String, String>,
        captures: &mut Captures<'c>,
    ) -> bool {
        asked.iter().all(|(key, wanted)| {
            let Some((_, value)) = self.0.iter().find(|(name, _)| name == key) else {
                return false;
            };
            match wanted.strip_prefix(':').map(name_at) {
                Some(name) if !name.is_empty() => {
                    captures.push(name, value);
                    !value.is_empty()
                }
                Some(_) | None => wanted == "*" || wanted == value,
            }
        })
    }
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_most_preferred_language_is_looked_up_as_in_rfc_4647() {
        for (accepted, asked, holds) in [
            ("de", "de", true),
            ("de-AT, en", "de", true),
            ("DE-at", "de", true),
            ("zh-Hant-TW", "zh-Hant", true),
            ("zh-Hant-TW", "zh", true),
            ("de", "de-AT", false),
            ("en, de;q=0.9", "de", false),
            ("en;q=0.5, de;q=0.9", "de", true),
            ("*, de;q=0.5", "de", true),
            ("*", "de", false),
            ("de;q=0", "de", false),
            ("de;q=x", "de", false),
            ("", "de", false),
        ] {
            let headers = headers(header::ACCEPT_LANGUAGE, accepted);
            assert_eq!(prefers(&[asked.to_owned()], &headers), holds, "{accepted:?} {asked}");
        }
    }

    #[test]
    fn a_cookie_is_there_by_its_whole_name() {
        let headers = headers(header::COOKIE, "beta=1; session = x");
        for (name, is_there) in [("beta", true), ("session", true), ("bet", false), ("x", false)] {
            assert_eq!(has_cookie(&[name.to_owned()], &headers), is_there, "{name}");
        }
    }

    #[test]
    fn every_query_parameter_must_be_there() {
        for (query, asked, captured) in [
            ("id=5", vec![("id", "5")], Some(None)),
            ("id=6", vec![("id", "5")], None),
            ("x=1&id=a%20b", vec![("id", ":id")], Some(Some("a b"))),
            ("id=a+b", vec![("id", ":id")], Some(Some("a b"))),
            ("id=", vec![("id", ":id")], None),
            ("id", vec![("id", "*")], Some(None)),
            ("idx=1", vec![("id", "*")], None),
            ("a=1", vec![("a", "1"), ("b", "2")], None),
            ("b=2&a=1", vec![("a", "1"), ("b", "2")], Some(None)),
            ("", vec![("a", "*")], None),
            ("a=%ff", vec![("a", "*")], None),
        ] {
            let asked: BTreeMap<_, _> =
                asked.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let pairs = QueryPairs::parse(Some(query));
            let mut captures = Captures::default();
            let found = pairs.matches(&asked, &mut captures).then(|| captures.get("id"));
            assert_eq!(found, captured, "{query} {asked:?}");
        }
    }

    #[test]
    fn a_rule_for_a_role_never_applies() {
        let headers = HeaderMap::new();
        let view = View {
            path: "/",
            query: None,
            headers: &headers,
            host: "a.test",
            is_https: true,
            country: Some("DE"),
        };
        let country =
            |code: &str| Conditions { country: vec![code.into()], ..Conditions::default() };
        assert!(hold(&country("de"), &view));
        assert!(!hold(&country("fr"), &view));
        assert!(!hold(&country("de"), &View { country: None, ..view }));
        let role = Conditions { role: vec!["admin".into()], ..Conditions::default() };
        assert!(!hold(&role, &view));
    }
}
