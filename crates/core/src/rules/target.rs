//! Where does a rule send a visitor, once its captures are known?
//!
//! A target is compiled into literals and captures. Captures come from strangers, so each is encoded
//! for the place where it goes: none can add a host, a query or another header field.

use std::borrow::Cow;

use http::HeaderValue;

use crate::http::path::{self, push_escape};

use super::pattern::{Captures, name_at};

/// A compiled `to`.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pieces: Vec<Piece>,
    is_path: bool,
    has_query: bool,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Box<str>),
    Capture { name: Box<str>, place: Place },
}

/// The part of a URL in which a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Authority,
    Path,
    Query,
    Fragment,
}

impl Target {
    /// Compiles `to`, in which `names` are known. Of several names that fit, the longest is meant.
    pub(crate) fn parse(to: &str, names: &[&str]) -> Self {
        let is_path = to.starts_with('/');
        let mut pieces = Vec::new();
        let mut place = if is_path { Place::Path } else { Place::Authority };
        let mut literal_at = 0;
        let has_scheme = to.starts_with("http://") || to.starts_with("https://");
        let mut at = if has_scheme { to.find("://").map_or(0, |colon| colon + 3) } else { 0 };
        while let Some(byte) = to.as_bytes().get(at) {
            place = place.after(*byte);
            let known = if *byte == b':' { known_name(&to[at + 1..], names) } else { None };
            let Some(name) = known else {
                at += 1;
                continue;
            };
            pieces.push(Piece::Literal(to[literal_at..at].into()));
            pieces.push(Piece::Capture { name: name.into(), place });
            at += 1 + name.len();
            literal_at = at;
        }
        pieces.push(Piece::Literal(to[literal_at..].into()));
        Target { pieces, is_path, has_query: to.contains('?') }
    }

    /// The value of `Location`: ASCII without white space, on the same host for a path.
    ///
    /// The request's query goes along unless the target has its own. `None` when a capture
    /// would have to be part of a hostname and is not.
    pub(crate) fn location(&self, captures: &Captures<'_>, query: Option<&str>) -> Option<String> {
        let mut url = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => url.push_str(&path::encode_rest(literal)),
                Piece::Capture { name, place } => {
                    place.push(&mut url, captures.get(name).unwrap_or_default())?;
                }
            }
        }
        if self.is_path {
            url = one_leading_slash(&url).into_owned();
        }
        if let Some(query) = query.filter(|query| !query.is_empty() && !self.has_query) {
            let fragment = url.find('#').map(|at| url.split_off(at));
            url.push('?');
            url.push_str(&path::encode_query(query));
            url.push_str(&fragment.unwrap_or_default());
        }
        Some(url)
    }

    /// The text with captures percent-encoded as in a path, wherever they stand.
    fn text(&self, captures: &Captures<'_>) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(literal) => literal.to_string(),
            Piece::Capture { name, .. } => {
                path::encode(captures.get(name).unwrap_or_default()).into_owned()
            }
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The decoded path of the same site that is meant, without query and fragment.
    pub(crate) fn file_path(&self, captures: &Captures<'_>) -> Option<String> {
        let mut file = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => {
                    let end = literal.find(['?', '#']);
                    file.push_str(&path::unescape(&literal[..end.unwrap_or(literal.len())]).ok()?);
                    if end.is_some() {
                        break;
                    }
                }
                Piece::Capture { name, .. } => {
                    file.push_str(captures.get(name).unwrap_or_default())
                }
            }
        }
        Some(one_leading_slash(&file).into_owned())
    }
}

impl Place {
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Place::Fragment, _) | (_, b'#') => Place::Fragment,
            (Place::Query, _) | (_, b'?') => Place::Query,
            (Place::Authority, b'/') | (Place::Path, _) => Place::Path,
            (Place::Authority, _) => Place::Authority,
        }
    }

    fn push(self, url: &mut String, value: &str) -> Option<()> {
        match self {
            Place::Authority if !is_host_part(value) => return None,
            Place::Authority => url.push_str(value),
            Place::Path | Place::Fragment => url.push_str(&path::encode(value)),
            Place::Query => push_query_value(url, value),
        }
        Some(())
    }
}

/// The value of a header field, in which captures may stand.
#[derive(Clone, Debug)]
pub(crate) enum ValueTemplate {
    Fixed(HeaderValue),
    Filled(Target),
}

impl ValueTemplate {
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self, ValueTemplate::Fixed(_))
    }

    /// The value, with captures percent-encoded; `None` if it would not be a field value.
    pub(crate) fn fill(&self, captures: &Captures<'_>) -> Option<HeaderValue> {
        match self {
            ValueTemplate::Fixed(value) => Some(value.clone()),
            ValueTemplate::Filled(target) => HeaderValue::try_from(target.text(captures)).ok(),
        }
    }
}

/// Compiles the value of a header field, in which `names` are known.
pub(crate) fn split_value(value: &str, names: &[&str]) -> Option<ValueTemplate> {
    let target = Target::parse(value, names);
    match target.pieces.len() {
        1 => HeaderValue::from_str(value)
            .or_else(|_| HeaderValue::from_bytes(value.as_bytes()))
            .ok()
            .map(ValueTemplate::Fixed),
        _ => Some(ValueTemplate::Filled(target)),
    }
}

/// Labels of a hostname, without a port and without a final dot.
fn is_host_part(value: &str) -> bool {
    !value.ends_with('.') && value.parse::<nigh_proto::Host>().is_ok()
}

/// `:name` that is the longest known beginning of `text`.
fn known_name<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    let name = name_at(text);
    names.iter().copied().filter(|known| name.starts_with(known)).max_by_key(|known| known.len())
}

/// Names in `to` that look like captures and are not among `names`.
pub(crate) fn unknown_names<'t>(to: &'t str, names: &[&str]) -> Vec<&'t str> {
    let colons = to.match_indices(':').map(|(at, _)| &to[at + 1..]);
    let unknown = colons.filter(|text| known_name(text, names).is_none()).map(name_at);
    unknown.filter(|name| !name.is_empty()).collect()
}

/// Browsers read `//host` and `/\host` as another host: a path begins with one slash.
fn one_leading_slash(path: &str) -> Cow<'_, str> {
    let rest = path.trim_start_matches(['/', '\\']);
    if path.len() - rest.len() <= 1 { Cow::Borrowed(path) } else { Cow::Owned(format!("/{rest}")) }
}

/// Only unreserved characters stay (RFC 3986, section 2.3), so a value cannot add a parameter.
fn push_query_value(url: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            url.push(char::from(byte));
        } else {
            push_escape(url, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(
        to: &str,
        values: &[(&'static str, &'static str)],
        query: Option<&str>,
    ) -> Option<String> {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        let mut captures = Captures::default();
        for (name, value) in values {
            captures.push(name, value);
        }
        Target::parse(to, &names).location(&captures, query)
    }

    #[test]
    fn captures_are_encoded_for_the_place_where_they_go() {
        for (to, value, expected) in [
            ("/b/:x", "a b/ü", "/b/a%20b/%C3%BC"),
            ("/b/:x", "?q#f%", "/b/%3Fq%23f%25"),
            ("/b?v=:x", "1&admin=1", "/b?v=1%26admin%3D1"),
            ("/b#:x", "a b", "/b#a%20b"),
            ("https://c.test/:x", "a", "https://c.test/a"),
            ("https://:x.test/", "de", "https://de.test/"),
            ("https://c.test:8080/:x", "a", "https://c.test:8080/a"),
            ("/:xy", "1", "/1y"),
            ("/:other/:x", "1", "/:other/1"),
            ("/ü", "", "/%C3%BC"),
        ] {
            assert_eq!(location(to, &[("x", value)], None).as_deref(), Some(expected), "{to}");
        }
        assert_eq!(location("/:ab", &[("a", "1"), ("ab", "2")], None).as_deref(), Some("/2"));
        for value in ["evil.test/", "evil.test:", "evil.test@", "evil.test.", ""] {
            assert_eq!(location("https://:x.test/", &[("x", value)], None), None, "{value}");
        }
    }

    #[test]
    fn the_query_goes_along_unless_the_target_has_its_own() {
        for (to, expected) in [
            ("/b", "/b?x=1"),
            ("/b#f", "/b?x=1#f"),
            ("/b?y=2", "/b?y=2"),
            ("https://c.test/b", "https://c.test/b?x=1"),
        ] {
            assert_eq!(location(to, &[], Some("x=1")).as_deref(), Some(expected), "{to}");
        }
        assert_eq!(location("/b", &[], Some("")).as_deref(), Some("/b"));
    }

    #[test]
    fn a_path_never_becomes_another_host() {
        for value in ["/evil.test", "//evil.test", "\\evil.test", "/\\evil.test"] {
            let url = location("/:splat", &[("splat", value)], None).unwrap();
            assert!(!url.starts_with("//") && !url.contains('\\'), "{url}");
        }
    }

    #[test]
    fn a_page_of_the_site_is_named_without_encoding() {
        let mut captures = Captures::default();
        captures.push("splat", "ü");
        let target = Target::parse("/a%20b/:splat?x=:splat", &["splat"]);
        assert_eq!(target.file_path(&captures).as_deref(), Some("/a b/ü"));
    }

    proptest! {
        #[test]
        fn no_capture_leaves_its_field_or_its_host(value in ".{0,20}", query in ".{0,20}") {
            for to in ["/:x", "/a/:x?y=:x#:x", "https://c.test/:x", "https://:x.c.test/"] {
                let mut captures = Captures::default();
                captures.push("x", &value);
                let target = Target::parse(to, &["x"]);
                if let Some(url) = target.location(&captures, Some(&query)) {
                    prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{}", url);
                    prop_assert!(!url.starts_with("//") && !url.starts_with("/\\"));
                    prop_assert!(HeaderValue::from_str(&url).is_ok());
                    if let Some(rest) = url.strip_prefix("https://") {
                        let host = rest.split(['/', '?', '#', '@', ':']).next().unwrap();
                        prop_assert!(host.ends_with("c.test"), "{}", url);
                    }
                }
            }
        }
    }
}
