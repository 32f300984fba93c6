//! Does a path fit a pattern with `:placeholders` and `*`, and what did they stand for?
//!
//! A pattern is cut at its stars into an anchored head, floating middles and an anchored tail. A
//! placeholder is one segment, so every step has one place to go: matching is linear in the length
//! of the path and never backtracks, whatever the pattern and whoever wrote the path.

mod compile;

use nigh_proto::rules::Dialect;

use super::compiled::ignores_slash;
use crate::http::path;

pub(crate) use compile::name_at;
use compile::{after_star, split_site, tokenize};

/// Where a pattern is used decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// One star at most.
    Redirect,
    /// Any number of stars, up to [`MAX_STARS`].
    Headers,
}

/// How many segments of a pattern lead to it: each is a place in memory for as long as the release
/// is held.
const MAX_STEPS: usize = 8;

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
        let ignores_slash = ignores_slash(dialect);
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
        let mut segments: Vec<&str> = skeleton.split('/').skip(1).take(MAX_STEPS + 1).collect();
        let is_whole = |segment: &&&str| **segment == "\0" || !segment.contains('\0');
        let whole = segments.iter().take_while(is_whole).count();
        let is_cut = whole < segments.len() || segments.len() > MAX_STEPS;
        let is_open = self.rest.is_some() || is_cut;
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
mod tests;
