//! How is the text of a pattern cut into tokens, and which texts have no one meaning?

use nigh_proto::rules::{Dialect, authority};

use super::{AfterStar, InvalidPattern, Site, Token};
use crate::http::path;

/// The host that a pattern asks for, and its path as it was written.
pub(super) fn split_site(
    text: &str,
    dialect: Dialect,
) -> Result<(Option<Site>, &str), InvalidPattern> {
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

/// What follows the first star, cut at the others; `None` when that has no one meaning.
pub(super) fn after_star(parts: Vec<&[Token]>) -> Option<AfterStar> {
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
pub(super) fn tokenize(
    raw: &str,
    has_inner_placeholders: bool,
) -> Result<Vec<Token>, InvalidPattern> {
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
