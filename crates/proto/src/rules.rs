//! What does a site ask of its edges besides files: redirects, header fields, clean URLs?
//!
//! A rule set is a JSON blob, made from `_redirects`, `_headers` and `nigh.toml` before a release is
//! finalized. [`RuleSet::parse`] checks every rule again, so an edge can trust what it holds: no
//! text in a rule set can break out of a header field. The names of redirects and headers are those
//! that `nigh check --json` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whose reading of `_redirects` and `_headers` applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    #[default]
    Nigh,
    Netlify,
    Cloudflare,
    Ipfs,
}

impl Dialect {
    /// Every dialect, in the order in which help texts list them.
    pub const ALL: [Dialect; 4] =
        [Dialect::Nigh, Dialect::Netlify, Dialect::Cloudflare, Dialect::Ipfs];

    /// The name in `nigh.toml` and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Nigh => "nigh",
            Dialect::Netlify => "netlify",
            Dialect::Cloudflare => "cloudflare",
            Dialect::Ipfs => "ipfs",
        }
    }
}

/// Which URL an HTML file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HtmlMode {
    /// `a.html` is `/a`, `a/index.html` is `/a/`; every other spelling is redirected there.
    #[default]
    Auto,
    /// Both are `/a/`.
    Slash,
    /// Both are `/a`.
    Noslash,
    /// `a.html` is `/a.html`; only `a/index.html` is also `/a/`.
    Exact,
}

/// What answers a path that no file and no rule answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotFound {
    /// The nearest `404.html` above the path, with status 404.
    #[default]
    #[serde(rename = "404")]
    Page,
    /// `/index.html` with status 200 for navigations, a plain 404 for all else.
    Spa,
    /// A plain 404.
    None,
}

/// When a redirect applies, beside its path. An empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// ISO 3166-1 codes, any of which is the visitor's.
    #[serde(rename = "Country", alias = "country", skip_serializing_if = "Vec::is_empty")]
    pub country: Vec<String>,
    /// Language ranges (RFC 4647), any of which the visitor prefers.
    #[serde(rename = "Language", alias = "language", skip_serializing_if = "Vec::is_empty")]
    pub language: Vec<String>,
    /// Cookie names, any of which the visitor sends.
    #[serde(rename = "Cookie", alias = "cookie", skip_serializing_if = "Vec::is_empty")]
    pub cookie: Vec<String>,
    /// Roles in a signed token. Kept, and never true: such a rule does not apply yet.
    #[serde(rename = "Role", alias = "role", skip_serializing_if = "Vec::is_empty")]
    pub role: Vec<String>,
}

impl Conditions {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|list| list.is_empty())
    }

    fn lists(&self) -> [&Vec<String>; 4] {
        [&self.country, &self.language, &self.cookie, &self.role]
    }
}

/// One rule of `_redirects`, or one `[[redirects]]` of `nigh.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redirect {
    /// A path with `:placeholders` and `*`, or an `http(s)://host/path` of that kind.
    pub from: String,
    /// A path, or an `http(s)://` URL, in which captures are named `:name` and `:splat`.
    pub to: String,
    /// One of [`RuleSet::STATUSES`].
    #[schema(minimum = 0, maximum = 65535)]
    pub status: u16,
    /// Applies even where the release has a file.
    #[serde(default)]
    pub force: bool,
    /// Query parameters that must be there: a value, `:name` to capture it, or `*` for any.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    #[serde(default)]
    pub conditions: Conditions,
    /// Where it stands in its file, from 1; 0 when it is not from a file with lines.
    #[serde(default)]
    pub line: u32,
}

/// One block of `_headers`, or one `[[headers]]` of `nigh.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeaderBlock {
    /// The paths it applies to, as in [`Redirect::from`] but with any number of `*`.
    #[serde(rename = "for")]
    pub path: String,
    /// Field names and values; by dialect and name a later block replaces or adds.
    #[serde(default)]
    pub set: Vec<(String, String)>,
    /// Fields that are added whatever an earlier block has set (`+Name: value`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<(String, String)>,
    /// Fields of earlier blocks, or nigh's own defaults, that are taken away (`! Name`).
    #[serde(default)]
    pub detach: Vec<String>,
    /// Where it stands in its file, from 1; 0 when it is not from a file with lines.
    #[serde(default)]
    pub line: u32,
}

/// `Strict-Transport-Security` for the hosts of a site (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    pub max_age_s: u64,
    #[serde(default)]
    pub include_subdomains: bool,
    #[serde(default)]
    pub preload: bool,
}

/// Everything that a release asks of edges besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RuleSet {
    pub dialect: Dialect,
    pub html: HtmlMode,
    pub not_found: NotFound,
    /// Sent over HTTPS only.
    pub hsts: Option<Hsts>,
    /// In file order: the first that matches is the one that applies.
    pub redirects: Vec<Redirect>,
    /// In file order: later blocks see what earlier ones have set.
    pub headers: Vec<HeaderBlock>,
}

/// Something that `nigh check` and control found in a site's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    /// `_redirects`, `_headers` or `nigh.toml`.
    pub file: String,
    /// From 1; 0 when the whole file is meant.
    pub line: u32,
    /// A stable word for programs, such as `shadowed_rule`.
    pub code: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// Why one rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    #[error("{text:?} is longer than {max} bytes")]
    TooLong { text: String, max: usize },
    #[error("{0:?} holds a control character, white space or a backslash")]
    Character(String),
    #[error("{0:?} must begin with / or with http:// or https:// and a host")]
    From(String),
    #[error("{0:?} must begin with a single / or with http:// or https:// and a host")]
    To(String),
    #[error("status {0} is not one of 200, 301, 302, 303, 307, 308, 404, 410, 451")]
    Status(u16),
    #[error(
        "status 200 to another host ({0}) is proxying and needs a named origin; redirect there, or serve a path of this site"
    )]
    Proxy(String),
    #[error("status {status} shows a page of this site, so {to:?} must be a path")]
    PageElsewhere { status: u16, to: String },
    #[error("{0:?} is not the name of a header field")]
    HeaderName(String),
    #[error("the value of {name} is empty or holds a control character")]
    HeaderValue { name: String },
    #[error("{0} is set by the edge itself and cannot be set by rules")]
    Reserved(String),
    #[error("{count} {what} are more than the {max} that are allowed")]
    TooMany { what: &'static str, count: usize, max: usize },
}

impl InvalidRule {
    /// The stable word for [`Notice::code`].
    pub const fn code(&self) -> &'static str {
        match self {
            InvalidRule::TooLong { .. } => "too_long",
            InvalidRule::Character(_) => "invalid_character",
            InvalidRule::From(_) => "invalid_from",
            InvalidRule::To(_) => "invalid_target",
            InvalidRule::Status(_) => "invalid_status",
            InvalidRule::Proxy(_) => "proxy_needs_origin",
            InvalidRule::PageElsewhere { .. } => "page_elsewhere",
            InvalidRule::HeaderName(_) => "invalid_header_name",
            InvalidRule::HeaderValue { .. } => "invalid_header_value",
            InvalidRule::Reserved(_) => "reserved_header",
            InvalidRule::TooMany { .. } => "too_many",
        }
    }
}

/// Why bytes are not a rule set.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRules {
    #[error("a rule set of {bytes} bytes is larger than {max}", max = RuleSet::MAX_BYTES)]
    TooLarge { bytes: usize },
    #[error("a rule set is a JSON document of the documented shape")]
    Json(#[from] serde_json::Error),
    #[error("{count} {what} are more than the {max} that one release may hold")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error("the rule for {rule:?} (line {line}) is not valid")]
    Rule { rule: String, line: u32, source: InvalidRule },
}

impl RuleSet {
    /// The largest encoded rule set, in bytes.
    pub const MAX_BYTES: usize = 32 << 20;
    /// How many redirects one release may hold.
    pub const MAX_REDIRECTS: usize = 50_000;
    /// How many header blocks one release may hold.
    pub const MAX_HEADER_BLOCKS: usize = 10_000;
    /// How many fields one header block may set, add or take away.
    pub const MAX_FIELDS: usize = 100;
    /// How many query parameters, or values of one condition, a redirect may ask for.
    pub const MAX_CONDITIONS: usize = 100;
    /// The longest path pattern, target or condition, in bytes.
    pub const MAX_TEXT_BYTES: usize = 2048;
    /// The longest value of a header field, in bytes.
    pub const MAX_VALUE_BYTES: usize = 8192;
    /// Statuses that a redirect may have.
    pub const STATUSES: [u16; 9] = [200, 301, 302, 303, 307, 308, 404, 410, 451];

    /// Reads a rule set from untrusted bytes and checks every rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidRules> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(InvalidRules::TooLarge { bytes: bytes.len() });
        }
        let rules: RuleSet = serde_json::from_slice(bytes)?;
        rules.check()?;
        Ok(rules)
    }

    /// The document that [`parse`](Self::parse) reads. Equal rules give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and maps of texts always have a JSON form")
    }

    /// Whether every rule, and the number of rules, is within what an edge accepts.
    pub fn check(&self) -> Result<(), InvalidRules> {
        at_most("redirects", self.redirects.len(), Self::MAX_REDIRECTS)?;
        at_most("header blocks", self.headers.len(), Self::MAX_HEADER_BLOCKS)?;
        for rule in &self.redirects {
            rule.check().map_err(|source| InvalidRules::Rule {
                rule: shown(&rule.from),
                line: rule.line,
                source,
            })?;
        }
        for block in &self.headers {
            block.check().map_err(|source| InvalidRules::Rule {
                rule: shown(&block.path),
                line: block.line,
                source,
            })?;
        }
        Ok(())
    }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), InvalidRules> {
    if count > max { Err(InvalidRules::TooMany { what, count, max }) } else { Ok(()) }
}

impl Redirect {
    /// Whether an edge can apply this rule without harm.
    pub fn check(&self) -> Result<(), InvalidRule> {
        check_pattern(&self.from)?;
        check_text(&self.to)?;
        if !RuleSet::STATUSES.contains(&self.status) {
            return Err(InvalidRule::Status(self.status));
        }
        let is_path = self.to.starts_with('/') && !self.to.starts_with("//");
        if !is_path && authority(&self.to).is_none() {
            return Err(InvalidRule::To(shown(&self.to)));
        }
        match self.status {
            200 if !is_path => return Err(InvalidRule::Proxy(shown(&self.to))),
            status @ (404 | 410 | 451) if !is_path => {
                return Err(InvalidRule::PageElsewhere { status, to: shown(&self.to) });
            }
            _ => {}
        }
        self.check_conditions()
    }

    fn check_conditions(&self) -> Result<(), InvalidRule> {
        let longest = self.conditions.lists().iter().map(|list| list.len()).max().unwrap_or(0);
        let count = longest.max(self.query.len());
        if count > RuleSet::MAX_CONDITIONS {
            let max = RuleSet::MAX_CONDITIONS;
            return Err(InvalidRule::TooMany { what: "conditions of one rule", count, max });
        }
        let values = self.conditions.lists().into_iter().flatten();
        values.chain(self.query.iter().flat_map(|(key, value)| [key, value])).try_for_each(|text| {
            if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
                return Err(InvalidRule::Character(shown(text)));
            }
            check_length(text, RuleSet::MAX_TEXT_BYTES)
        })
    }
}

impl HeaderBlock {
    /// Whether an edge can apply this block without harm.
    pub fn check(&self) -> Result<(), InvalidRule> {
        check_pattern(&self.path)?;
        let count = self.set.len() + self.append.len() + self.detach.len();
        if count > RuleSet::MAX_FIELDS {
            let max = RuleSet::MAX_FIELDS;
            return Err(InvalidRule::TooMany { what: "fields of one block", count, max });
        }
        self.set
            .iter()
            .chain(&self.append)
            .try_for_each(|(name, value)| check_field(name, value))?;
        self.detach.iter().try_for_each(|name| check_field_name(name))
    }
}

/// Whether rules may set the field `name` to `value` (RFC 9110, section 5.5): no control
/// character except tab, so no value can begin another field.
pub fn check_field(name: &str, value: &str) -> Result<(), InvalidRule> {
    check_field_name(name)?;
    if is_reserved(name) {
        return Err(InvalidRule::Reserved(shown(name)));
    }
    let is_control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    if value.trim().is_empty() || value.bytes().any(is_control) {
        return Err(InvalidRule::HeaderValue { name: shown(name) });
    }
    check_length(value, RuleSet::MAX_VALUE_BYTES)
}

/// A field name is a token (RFC 9110, section 5.6.2).
pub fn check_field_name(name: &str) -> Result<(), InvalidRule> {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 200 || !name.bytes().all(is_token_byte) {
        return Err(InvalidRule::HeaderName(shown(name)));
    }
    Ok(())
}

/// Whether the edge alone sets this field: framing, connection management and validators.
pub fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 23] = [
        "accept-ranges",
        "age",
        "allow",
        "alt-svc",
        "cache-status",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "status",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

/// The host (and port) of an `http(s)://` URL, without user information.
pub fn authority(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (!authority.is_empty() && authority.bytes().all(is_host)).then_some(authority)
}

fn check_pattern(text: &str) -> Result<(), InvalidRule> {
    check_text(text)?;
    if text.starts_with('/') || authority(text).is_some() {
        Ok(())
    } else {
        Err(InvalidRule::From(shown(text)))
    }
}

/// No white space, control character or backslash (which browsers read as a slash).
fn check_text(text: &str) -> Result<(), InvalidRule> {
    check_length(text, RuleSet::MAX_TEXT_BYTES)?;
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(InvalidRule::Character(shown(text)));
    }
    Ok(())
}

fn check_length(text: &str, max: usize) -> Result<(), InvalidRule> {
    if text.len() > max {
        return Err(InvalidRule::TooLong { text: shown(text), max });
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redirect(from: &str, to: &str, status: u16) -> Redirect {
        Redirect {
            from: from.into(),
            to: to.into(),
            status,
            force: false,
            query: BTreeMap::new(),
            conditions: Conditions::default(),
            line: 1,
        }
    }

    fn block(name: &str, value: &str) -> HeaderBlock {
        HeaderBlock {
            path: "/*".into(),
            set: vec![(name.into(), value.into())],
            ..HeaderBlock::default()
        }
    }

    #[test]
    fn the_json_names_are_those_that_nigh_check_prints() {
        let mut rule = redirect("/a", "/b", 301);
        rule.conditions.country = vec!["us".into()];
        let rules = RuleSet {
            redirects: vec![rule],
            headers: vec![block("X-A", "1")],
            ..RuleSet::default()
        };
        let json: serde_json::Value = serde_json::from_slice(&rules.encode()).unwrap();
        assert_eq!(
            json["redirects"][0],
            serde_json::json!({"from": "/a", "to": "/b", "status": 301, "force": false,
                "query": {}, "conditions": {"Country": ["us"]}, "line": 1})
        );
        assert_eq!(
            json["headers"][0],
            serde_json::json!({"for": "/*", "set": [["X-A", "1"]], "detach": [], "line": 0})
        );
        assert_eq!(json["not_found"], "404");
        assert_eq!(RuleSet::parse(&rules.encode()).unwrap(), rules);
    }

    #[test]
    fn an_empty_document_is_the_default() {
        assert_eq!(RuleSet::parse(b"{}").unwrap(), RuleSet::default());
    }

    #[test]
    fn targets_stay_within_one_header_field_and_one_host() {
        for (to, status, code) in [
            ("/b\r\nSet-Cookie:x=1", 301, "invalid_character"),
            ("/b c", 301, "invalid_character"),
            ("/\\evil.test", 301, "invalid_character"),
            ("//evil.test", 301, "invalid_target"),
            ("evil.test", 301, "invalid_target"),
            ("javascript:alert(1)", 301, "invalid_target"),
            ("https://user@evil.test/", 301, "invalid_target"),
            ("https:///x", 301, "invalid_target"),
            ("https://api.test/", 200, "proxy_needs_origin"),
            ("https://api.test/", 404, "page_elsewhere"),
            ("/b", 300, "invalid_status"),
        ] {
            assert_eq!(redirect("/a", to, status).check().unwrap_err().code(), code, "{to:?}");
        }
        for to in ["/b", "/b?x=1#y", "https://x.test", "http://x.test:8080/:splat", "/ü"] {
            assert_eq!(redirect("/a", to, 308).check(), Ok(()), "{to:?}");
        }
    }

    #[test]
    fn header_values_cannot_begin_another_field() {
        for (name, value, code) in [
            ("X-A", "1\r\nX-B: 2", "invalid_header_value"),
            ("X-A", "1\n2", "invalid_header_value"),
            ("X-A", "\0", "invalid_header_value"),
            ("X-A", " ", "invalid_header_value"),
            ("X A", "1", "invalid_header_name"),
            ("X-A\r\n", "1", "invalid_header_name"),
            ("", "1", "invalid_header_name"),
            ("content-LENGTH", "1", "reserved_header"),
        ] {
            assert_eq!(block(name, value).check().unwrap_err().code(), code, "{name:?} {value:?}");
        }
        assert_eq!(block("X-A", "a\tb ü").check(), Ok(()));
    }

    #[test]
    fn more_rules_than_allowed_are_refused_and_never_cut() {
        let rules = RuleSet {
            redirects: vec![redirect("/a", "/b", 301); RuleSet::MAX_REDIRECTS + 1],
            ..RuleSet::default()
        };
        assert!(matches!(
            RuleSet::parse(&rules.encode()),
            Err(InvalidRules::TooMany { what: "redirects", .. })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = RuleSet::parse(&bytes);
        }

        #[test]
        fn what_is_accepted_round_trips(from in "/[a-z:*/]{0,20}", to in ".{0,30}", value in ".{0,30}") {
            let rules = RuleSet {
                redirects: vec![redirect(&from, &to, 302)],
                headers: vec![block("X-A", &value)],
                ..RuleSet::default()
            };
            if let Ok(parsed) = RuleSet::parse(&rules.encode()) {
                prop_assert!(!to.chars().any(|c| c.is_control()) && !value.contains('\n'));
                prop_assert_eq!(parsed, rules);
            }
        }
    }
}
