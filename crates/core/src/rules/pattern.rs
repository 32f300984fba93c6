//! Does a path fit a pattern with `:placeholders` and `*`, and what did they stand for?
//!
//! A pattern is cut at its stars into an anchored head, floating middles and an anchored tail. A
//! placeholder is one segment, so every step has one place to go: matching is linear in the length
//! of the path and never backtracks, whatever the pattern and whoever wrote the path.

use nigh_proto::rules::{Dialect, authority};

use crate::http::path;

/// Where a pattern is used decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// One star at most.
    Redirect,
    /// Any number of stars, up to [`MAX_STARS`].
    Headers,
}

/// How many stars a pattern of a header block may have.
const MAX_STARS: usize = 8;

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPattern {
    #[error("a path has at most one *, and {0:?} has more")]
    Stars(String),
    #[error("{0:?}: a placeholder needs a segment of its own, away from * and other placeholders")]
    Placeholder(String),
    #[error("{0:?}: paths are matched without their query; put key=value between the two paths")]
    Query(String),
    #[error("{0:?} is not a path that a request can have: {1}")]
    Path(String, #[source] path::BadPath),
    #[error("{0:?}: the host of a rule is a plain hostname")]
    Host(String),
}

/// What placeholders and the star stood for, decoded. `splat` is the last star.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Captures<'a> {
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Captures<'a> {
    /// What `name` stood for; the first of that name counts.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(crate) fn push(&mut self, name: &'a str, value: &'a str) {
        self.values.push((name, value));
    }
}

/// The scheme and host that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) is_https: bool,
    pub(crate) host: Box<str>,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) site: Option<Site>,
    head: Vec<Token>,
    /// `None` without a star: then the head is all there is.
    rest: Option<AfterStar>,
    ignores_slash: bool,
}

/// One step from the root towards the paths that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Literal(Box<str>),
    Placeholder,
    /// The path ends.
    End,
    /// Something else than whole segments follows.
    Open,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Box<str>),
    /// One segment that ends in `after`; the placeholder is what stands before that.
    Placeholder {
        name: Box<str>,
        after: Box<str>,
    },
    Star,
}

#[derive(Clone, Debug, Default)]
struct AfterStar {
    /// Literals between two stars, in order.
    middles: Vec<Box<str>>,
    /// What follows the last star within its segment.
    joint: Box<str>,
    /// The segments after that, each with its slash before it.
    tail: Vec<Token>,
    tail_slashes: usize,
}

impl Pattern {
    /// Compiles the `from` of a redirect or the `for` of a header block.
    pub(crate) fn parse(text: &str, place: Use, dialect: Dialect) -> Result<Self, InvalidPattern> {
        let (site, raw) = split_site(text, dialect)?;
        if raw.contains(['?', '#']) && place == Use::Redirect {
            return Err(InvalidPattern::Query(text.to_owned()));
        }
        let ignores_slash = dialect != Dialect::Cloudflare;
        let is_slashed = ignores_slash && raw.len() > 1 && raw.ends_with('/');
        let raw = if is_slashed { &raw[..raw.len() - 1] } else { raw };
        let tokens = tokenize(raw, dialect == Dialect::Cloudflare)?;
        let stars = tokens.iter().filter(|token| **token == Token::Star).count();
        if stars > if place == Use::Redirect { 1 } else { MAX_STARS } {
            return Err(InvalidPattern::Stars(text.to_owned()));
        }
        let mut parts = tokens.split(|token| *token == Token::Star);
        let head = parts.next().unwrap_or_default().to_vec();
        let rest = (stars > 0).then(|| after_star(parts.collect())).flatten();
        let is_torn = matches!(head.last(), Some(Token::Placeholder { .. })) && stars > 0;
        if is_torn || (stars > 0 && rest.is_none()) {
            return Err(InvalidPattern::Placeholder(text.to_owned()));
        }
        Ok(Pattern { site, head, rest, ignores_slash })
    }

    /// Whether it fits one path only; that path, without a final slash where slashes are ignored.
    pub(crate) fn as_static(&self) -> Option<&str> {
        match (&self.head[..], &self.rest) {
            ([Token::Literal(path)], None) => Some(path),
            _ => None,
        }
    }

    /// The segments that every path has that fits, and how the pattern goes on after them.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut skeleton = String::new();
        for token in &self.head {
            match token {
                Token::Literal(literal) => skeleton.push_str(literal),
                // No path and no literal holds NUL.
                Token::Placeholder { after, .. } => skeleton.extend(["\0", after]),
                Token::Star => {}
            }
        }
        let mut segments: Vec<&str> = skeleton.split('/').skip(1).collect();
        let is_whole = |segment: &&&str| **segment == "\0" || !segment.contains('\0');
        let whole = segments.iter().take_while(is_whole).count();
        let is_open = self.rest.is_some() || whole < segments.len();
        // The segment in which a star stands is not known whole.
        segments.truncate(if whole == segments.len() && is_open { whole - 1 } else { whole });
        let step = |segment: &str| match segment {
            "\0" => Step::Placeholder,
            literal => Step::Literal(literal.into()),
        };
        let last = if is_open { Step::Open } else { Step::End };
        segments.into_iter().map(step).chain([last]).collect()
    }

    /// Whether the only star, if there is one, is the end.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| {
            rest.middles.is_empty() && rest.joint.is_empty() && rest.tail.is_empty()
        })
    }

    /// Whether it has a star.
    pub(crate) fn has_star(&self) -> bool {
        self.rest.is_some()
    }

    /// Every name that a target may use.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let tail = self.rest.iter().flat_map(|rest| &rest.tail);
        let placeholders = self.head.iter().chain(tail).filter_map(|token| match token {
            Token::Placeholder { name, .. } => Some(&**name),
            Token::Literal(_) | Token::Star => None,
        });
        placeholders.chain(self.rest.iter().map(|_| "splat"))
    }

    /// A path that fits, in which every free part is `filler`.
    pub(crate) fn example(&self, filler: &str) -> String {
        let mut path = String::new();
        push_example(&mut path, &self.head, filler);
        if let Some(rest) = &self.rest {
            path.push_str(filler);
            for middle in &rest.middles {
                path.push_str(middle);
                path.push_str(filler);
            }
            path.push_str(&rest.joint);
            push_example(&mut path, &rest.tail, filler);
        }
        path
    }

    /// What a decoded path's free parts are, if it fits.
    pub(crate) fn matches<'a>(&'a self, path: &'a str) -> Option<Captures<'a>> {
        let mut captures = Captures::default();
        if self.is_open_ended() {
            if self.ignores_slash && self.is_bare_folder(path, &mut captures) {
                captures.push("splat", "");
                return Some(captures);
            }
            captures.values.clear();
            let at = walk(&self.head, path, &mut captures)?;
            captures.push("splat", &path[at..]);
            return Some(captures);
        }
        let path = if self.ignores_slash { trim_slash(path) } else { path };
        let at = walk(&self.head, path, &mut captures)?;
        match &self.rest {
            None => (at == path.len()).then_some(captures),
            Some(rest) => rest.matches(path, at, captures),
        }
    }

    /// `/a/*` also fits `/a`.
    fn is_bare_folder<'a>(&'a self, path: &'a str, captures: &mut Captures<'a>) -> bool {
        let Some((Token::Literal(last), before)) = self.head.split_last() else { return false };
        let Some(folder) = last.strip_suffix('/') else { return false };
        walk(before, path, captures).is_some_and(|at| &path[at..] == folder)
    }
}

impl AfterStar {
    fn matches<'a>(
        &'a self,
        path: &'a str,
        mut at: usize,
        mut captures: Captures<'a>,
    ) -> Option<Captures<'a>> {
        let tail_at = match self.tail_slashes {
            0 => path.len(),
            count => memchr::memrchr_iter(b'/', path.as_bytes()).nth(count - 1)?,
        };
        let end = path[..tail_at].strip_suffix(&*self.joint)?.len();
        for middle in &self.middles {
            let found = path.get(at..end)?.find(&**middle)?;
            at += found + middle.len();
        }
        captures.push("splat", path.get(at..end)?);
        let walked = walk(&self.tail, &path[tail_at..], &mut captures)?;
        (tail_at + walked == path.len()).then_some(captures)
    }
}

/// Follows `tokens` from the start of `path`; where they end.
fn walk<'a>(tokens: &'a [Token], path: &'a str, captures: &mut Captures<'a>) -> Option<usize> {
    let mut at = 0;
    for token in tokens {
        match token {
            Token::Literal(literal) => {
                path[at..].strip_prefix(&**literal)?;
                at += literal.len();
            }
            Token::Placeholder { name, after } => {
                let segment = path[at..].split('/').next().unwrap_or_default();
                let value = segment.strip_suffix(&**after).filter(|value| !value.is_empty())?;
                captures.push(name, value);
                at += segment.len();
            }
            Token::Star => return None,
        }
    }
    Some(at)
}

/// A path without its final slash, except for the root.
pub(crate) fn trim_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(trimmed) => trimmed,
    }
}

fn split_site(text: &str, dialect: Dialect) -> Result<(Option<Site>, &str), InvalidPattern> {
    if text.starts_with('/') {
        return Ok((None, text));
    }
    let invalid = || InvalidPattern::Host(text.to_owned());
    let authority = authority(text).ok_or_else(invalid)?;
    let host = nigh_proto::Host::from_authority(authority).map_err(|_| invalid())?;
    let is_https = text.starts_with("https://") || dialect == Dialect::Cloudflare;
    let after_scheme = text.find("://").map_or(0, |at| at + 3) + authority.len();
    let path = if text.len() == after_scheme { "/" } else { &text[after_scheme..] };
    Ok((Some(Site { is_https, host: host.as_str().into() }), path))
}

fn after_star(parts: Vec<&[Token]>) -> Option<AfterStar> {
    let (last, middles) = parts.split_last()?;
    let mut rest = AfterStar::default();
    for middle in middles {
        match middle {
            [] => {}
            [Token::Literal(literal)] => rest.middles.push(literal.clone()),
            _ => return None,
        }
    }
    let mut last = last.to_vec();
    match last.first() {
        None => return Some(rest),
        Some(Token::Literal(literal)) => {
            let at = literal.find('/').unwrap_or(literal.len());
            rest.joint = literal[..at].into();
            last[0] = Token::Literal(literal[at..].into());
        }
        Some(Token::Placeholder { .. } | Token::Star) => return None,
    }
    // A joint that ran into a placeholder of the same segment has no one place.
    if last[0] == Token::Literal("".into()) && last.len() > 1 {
        return None;
    }
    rest.tail_slashes = last.iter().map(slashes).sum();
    rest.tail = last;
    Some(rest)
}

fn slashes(token: &Token) -> usize {
    match token {
        Token::Literal(literal) => literal.matches('/').count(),
        Token::Placeholder { .. } | Token::Star => 0,
    }
}

/// Cuts a raw path into tokens. Inside a segment a colon is a placeholder only for Cloudflare;
/// elsewhere `/wiki/Special:Search` is a plain path.
fn tokenize(raw: &str, has_inner_placeholders: bool) -> Result<Vec<Token>, InvalidPattern> {
    let mut tokens = Vec::new();
    let mut literal_at = 0;
    let mut at = 0;
    let bytes = raw.as_bytes();
    while at < bytes.len() {
        let is_first = at > 0 && bytes[at - 1] == b'/';
        let name = if bytes[at] == b':' && (is_first || has_inner_placeholders) {
            name_at(&raw[at + 1..])
        } else {
            ""
        };
        if bytes[at] == b'*' {
            push_literal(&mut tokens, &raw[literal_at..at])?;
            tokens.push(Token::Star);
            at += 1;
            literal_at = at;
        } else if !name.is_empty() {
            push_literal(&mut tokens, &raw[literal_at..at])?;
            at += 1 + name.len();
            let end = raw[at..].find('/').map_or(raw.len(), |slash| at + slash);
            let after = &raw[at..end];
            let is_shared = after.contains('*')
                || (has_inner_placeholders
                    && after
                        .match_indices(':')
                        .any(|(colon, _)| !name_at(&after[colon + 1..]).is_empty()));
            if is_shared || tokens.last().is_some_and(|token| *token == Token::Star) {
                return Err(InvalidPattern::Placeholder(raw.to_owned()));
            }
            tokens.push(Token::Placeholder { name: name.into(), after: decoded(after)? });
            at = end;
            literal_at = end;
        } else {
            at += 1;
        }
    }
    push_literal(&mut tokens, &raw[literal_at..])?;
    Ok(tokens)
}

/// The name that a text begins with: a letter or underscore, then letters, digits and underscores.
pub(crate) fn name_at(text: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let end = text.bytes().position(|byte| !is_name(byte)).unwrap_or(text.len());
    if text.starts_with(|first: char| first.is_ascii_digit()) { "" } else { &text[..end] }
}

fn push_literal(tokens: &mut Vec<Token>, raw: &str) -> Result<(), InvalidPattern> {
    if !raw.is_empty() {
        tokens.push(Token::Literal(decoded(raw)?));
    }
    Ok(())
}

fn decoded(raw: &str) -> Result<Box<str>, InvalidPattern> {
    let invalid = |bad| InvalidPattern::Path(raw.to_owned(), bad);
    let text = path::unescape(raw).map_err(invalid)?;
    if text.contains(|c: char| c.is_ascii_control() || c == '\\') {
        return Err(invalid(path::BadPath::Forbidden));
    }
    Ok(text.into_owned().into())
}

fn push_example(path: &mut String, tokens: &[Token], filler: &str) {
    for token in tokens {
        match token {
            Token::Literal(literal) => path.push_str(literal),
            Token::Placeholder { after, .. } => {
                path.push_str(filler);
                path.push_str(after);
            }
            Token::Star => path.push_str(filler),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, path: &str, dialect: Dialect) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(pattern, Use::Headers, dialect).unwrap();
        let captures = pattern.matches(path)?;
        Some(captures.values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn placeholders_are_one_segment_and_stars_are_any_number() {
        for (pattern, path, expected) in [
            ("/", "/", Some(vec![])),
            ("/a", "/a", Some(vec![])),
            ("/a", "/a/", Some(vec![])),
            ("/a/", "/a", Some(vec![])),
            ("/a", "/ab", None),
            ("/a", "/A", None),
            ("/a/*", "/a/b/c", Some(vec![("splat", "b/c")])),
            ("/a/*", "/a/b/", Some(vec![("splat", "b/")])),
            ("/a/*", "/a/", Some(vec![("splat", "")])),
            ("/a/*", "/a", Some(vec![("splat", "")])),
            ("/a/*", "/ab", None),
            ("/a*", "/ab", Some(vec![("splat", "b")])),
            ("/*", "/", Some(vec![("splat", "")])),
            ("/:x", "/a", Some(vec![("x", "a")])),
            ("/:x", "/", None),
            ("/:x", "/a/b", None),
            ("/:x/*", "/a", Some(vec![("x", "a"), ("splat", "")])),
            ("/:y/:m/p", "/2024/05/p", Some(vec![("y", "2024"), ("m", "05")])),
            ("/:id.html", "/42.html", Some(vec![("id", "42")])),
            ("/:id.html", "/.html", None),
            ("/a:b", "/a:b", Some(vec![])),
            ("/*/b", "/x/y/b", Some(vec![("splat", "x/y")])),
            ("/*/b", "/b", None),
            ("/*/b/:c", "/x/b/z", Some(vec![("splat", "x"), ("c", "z")])),
            ("/blog/*.jpg", "/blog/x/y.jpg", Some(vec![("splat", "x/y")])),
            ("/blog/*.jpg", "/blog/x.png", None),
            ("/*/_next/*", "/en/_next/a.js", Some(vec![("splat", "a.js")])),
            ("/*/_next/*", "/_next/a.js", None),
            ("/*a*b*", "/xxayybzz", Some(vec![("splat", "zz")])),
            ("/*a*a", "/a", None),
            ("/a%20b", "/a b", Some(vec![])),
            ("/%2a", "/*", Some(vec![])),
        ] {
            let expected = expected.map(|values: Vec<(&str, &str)>| {
                values.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
            });
            assert_eq!(fits(pattern, path, Dialect::Nigh), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn cloudflare_reads_slashes_and_inner_colons_literally_as_it_does() {
        for (pattern, path, does_fit) in [
            ("/a", "/a/", false),
            ("/a/", "/a", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/", true),
            ("/post-:id", "/post-4", true),
            ("/post-:id.html", "/post-4.html", true),
        ] {
            assert_eq!(
                fits(pattern, path, Dialect::Cloudflare).is_some(),
                does_fit,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn patterns_without_one_meaning_are_refused() {
        let redirect = |text| Pattern::parse(text, Use::Redirect, Dialect::Nigh).unwrap_err();
        assert!(matches!(redirect("/*/a/*"), InvalidPattern::Stars(_)));
        assert!(matches!(redirect("/:x*"), InvalidPattern::Placeholder(_)));
        assert!(matches!(redirect("/a?b=c"), InvalidPattern::Query(_)));
        assert!(matches!(redirect("/a%2fb"), InvalidPattern::Path(..)));
        assert!(matches!(redirect("/a%zz"), InvalidPattern::Path(..)));
        assert!(matches!(redirect("https://[::1]/a"), InvalidPattern::Host(_)));
        for text in ["/:a-:b", "/*:a", "/*x:a"] {
            let error = Pattern::parse(text, Use::Redirect, Dialect::Cloudflare).unwrap_err();
            assert!(matches!(error, InvalidPattern::Placeholder(_)), "{text}");
        }
        let error = Pattern::parse("/*/:a/*", Use::Headers, Dialect::Nigh).unwrap_err();
        assert!(matches!(error, InvalidPattern::Placeholder(_)));
    }

    #[test]
    fn a_rule_may_name_a_host() {
        let pattern = Pattern::parse("https://Old.test/a/*", Use::Redirect, Dialect::Nigh).unwrap();
        assert_eq!(pattern.site, Some(Site { is_https: true, host: "old.test".into() }));
        assert!(pattern.matches("/a/b").is_some());
        assert_eq!(pattern.steps(), [Step::Literal("a".into()), Step::Open]);
    }

    #[test]
    fn an_adversarial_path_costs_no_more_than_its_length() {
        let pattern = "/*a".repeat(8);
        let pattern = Pattern::parse(&pattern, Use::Headers, Dialect::Nigh).unwrap();
        let path = format!("/{}b", "/aa".repeat(2700));
        let begun = Instant::now();
        for _ in 0..100 {
            assert!(pattern.matches(&path).is_none());
        }
        // Backtracking over eight stars would take longer than the universe has existed.
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    /// The meaning of a pattern, by trying every way.
    fn fits_slowly(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) => (0..=path.len()).any(|at| fits_slowly(rest, &path[at..])),
            Some((byte, rest)) => path.first() == Some(byte) && fits_slowly(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn stars_mean_what_trying_every_way_means(
            pattern in "/[ab/]{0,4}(\\*[ab/]{0,3}){0,3}", path in "/[ab/]{0,12}"
        ) {
            let compiled = Pattern::parse(&pattern, Use::Headers, Dialect::Cloudflare).unwrap();
            prop_assert_eq!(
                compiled.matches(&path).is_some(),
                fits_slowly(pattern.as_bytes(), path.as_bytes())
            );
        }

        #[test]
        fn an_example_fits_its_own_pattern(pattern in "/([a-c]{1,2}|:x|[a-c]?\\*[a-c]?)(/([a-c]{1,2}|:x|[a-c]?\\*[a-c]?)){0,4}/?") {
            if let Ok(compiled) = Pattern::parse(&pattern, Use::Headers, Dialect::Nigh) {
                let example = compiled.example("filler");
                prop_assert!(compiled.matches(&example).is_some(), "{}", example);
            }
        }

        #[test]
        fn any_text_is_compiled_or_refused_and_matched(
            pattern in "/[a:*/%2x.é]{0,20}", path in "/.{0,20}"
        ) {
            for dialect in Dialect::ALL {
                if let Ok(compiled) = Pattern::parse(&pattern, Use::Headers, dialect) {
                    let _ = compiled.matches(&path);
                }
            }
        }
    }
}
