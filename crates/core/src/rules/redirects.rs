//! Which redirects does a text in the form of `_redirects` hold?
//!
//! One rule per line: `from [key=value ...] [to] [status[!]] [Condition=value ...]`, tokens apart
//! by white space. `#` begins a comment where a token would begin. Cloudflare's form
//! is stricter: two or three tokens, no queries, no conditions.

use std::collections::BTreeMap;

use nigh_proto::rules::{Conditions, Dialect, InvalidRule, Redirect};

use super::{
    parse::{Notices, Parsed, REDIRECTS_FILE},
    pattern::{Pattern, Use},
};

/// Reads every rule of `text`; what cannot be read is reported and left out.
pub(crate) fn read_redirects(text: &str, dialect: Dialect, notices: &mut Notices) -> Vec<Redirect> {
    let mut redirects = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if text.len() > Parsed::MAX_REDIRECT_LINE_BYTES {
            let max = Parsed::MAX_REDIRECT_LINE_BYTES;
            let message =
                format!("the line has {} bytes, more than {max}; it is left out", text.len());
            notices.warn(REDIRECTS_FILE, line, "line_too_long", message);
            continue;
        }
        let tokens = tokens(text);
        if tokens.is_empty() {
            continue;
        }
        if looks_like_header(text, &tokens) {
            let message = "this looks like a header; headers belong in the file _headers";
            notices.warn(REDIRECTS_FILE, line, "looks_like_headers", message);
            continue;
        }
        match read_line(&tokens, dialect) {
            Ok(read) => redirects.extend(accept(read, line, dialect, notices)),
            Err(bad) => {
                notices.warn(REDIRECTS_FILE, line, bad.code(), format!("{bad}; it is left out"))
            }
        }
    }
    redirects
}

/// Why a line is not a rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("the rule has no destination: write `/from /to [status]`")]
    NoDestination,
    #[error("{0:?} is not a status: a number such as 301, with ! to override files")]
    Status(String),
    #[error("{0:?} stands where nothing is expected")]
    Unexpected(String),
    #[error("{0:?} is not a condition: use Country=, Language=, Cookie= or Role=")]
    Condition(String),
    #[error("signed proxy requests (Sign=) are not supported")]
    Sign,
    #[error("in the cloudflare dialect a rule is `/from /to [status]`, without {0:?}")]
    NotInDialect(String),
    #[error("rules for paths under /.netlify have no meaning here")]
    ReservedPath,
}

impl BadLine {
    const fn code(&self) -> &'static str {
        match self {
            BadLine::NoDestination => "missing_destination",
            BadLine::Status(_) => "invalid_status",
            BadLine::Unexpected(_) => "unexpected_token",
            BadLine::Condition(_) => "unknown_condition",
            BadLine::Sign => "sign_unsupported",
            BadLine::NotInDialect(_) => "not_in_dialect",
            BadLine::ReservedPath => "reserved_path",
        }
    }
}

/// The parts of a line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    from: String,
    query: BTreeMap<String, String>,
    to: Option<String>,
    status: Option<u16>,
    force: bool,
    conditions: Conditions,
}

/// Words up to the first that begins with `#`.
pub(crate) fn tokens(line: &str) -> Vec<&str> {
    line.split_whitespace().take_while(|token| !token.starts_with('#')).collect()
}

pub(crate) fn is_target(token: &str) -> bool {
    token.starts_with('/') || token.starts_with("http://") || token.starts_with("https://")
}

/// A number with an optional `!`, as statuses are written.
pub(crate) fn status(token: &str) -> Option<(u16, bool)> {
    let (digits, force) = match token.strip_suffix('!') {
        Some(digits) => (digits, true),
        None => (token, false),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| (digits.parse().unwrap_or(u16::MAX), force))
}

/// `Name: value` on an indented line, or a field's name where a path should be.
fn looks_like_header(line: &str, tokens: &[&str]) -> bool {
    let name = tokens[0].strip_suffix(':').unwrap_or_default();
    let is_name = !name.is_empty() && nigh_proto::rules::check_field_name(name).is_ok();
    is_name || (line.starts_with([' ', '\t']) && !is_target(tokens[0]) && tokens[0].contains(':'))
}

fn read_line(tokens: &[&str], dialect: Dialect) -> Result<Line, BadLine> {
    let mut tokens = tokens.iter().copied();
    let mut line = Line { from: tokens.next().unwrap_or_default().to_owned(), ..Line::default() };
    if line.from.starts_with("/.netlify") {
        return Err(BadLine::ReservedPath);
    }
    if dialect == Dialect::Cloudflare && !is_target(&line.from) {
        line.from.insert(0, '/');
    }
    for token in tokens {
        read_token(&mut line, token, dialect)?;
    }
    Ok(line)
}

fn read_token(line: &mut Line, token: &str, dialect: Dialect) -> Result<(), BadLine> {
    let unexpected = || BadLine::Unexpected(token.to_owned());
    let is_plain = matches!(dialect, Dialect::Cloudflare | Dialect::Ipfs);
    if let Some((number, force)) = status(token) {
        let is_repeated = line.status.replace(number).is_some();
        line.force = force;
        return if is_repeated { Err(unexpected()) } else { Ok(()) };
    }
    match (&line.to, line.status) {
        (None, None) if is_target(token) => line.to = Some(token.to_owned()),
        _ if is_plain => return Err(BadLine::NotInDialect(token.to_owned())),
        (None, None) => {
            let (key, value) = token.split_once('=').unwrap_or((token, "*"));
            if key.is_empty() {
                return Err(unexpected());
            }
            line.query.insert(key.to_owned(), value.to_owned());
        }
        (Some(_), None) if !token.contains('=') => return Err(BadLine::Status(token.to_owned())),
        _ => read_condition(&mut line.conditions, token)?,
    }
    Ok(())
}

fn read_condition(conditions: &mut Conditions, token: &str) -> Result<(), BadLine> {
    let unknown = || BadLine::Condition(token.to_owned());
    let (name, values) = token.split_once('=').ok_or_else(unknown)?;
    let list = match name {
        "Country" | "country" => &mut conditions.country,
        "Language" | "language" => &mut conditions.language,
        "Cookie" | "cookie" => &mut conditions.cookie,
        "Role" | "role" => &mut conditions.role,
        "Sign" | "sign" | "Signed" | "signed" => return Err(BadLine::Sign),
        _ => return Err(unknown()),
    };
    list.extend(values.split(',').filter(|value| !value.is_empty()).map(str::to_owned));
    if list.is_empty() { Err(unknown()) } else { Ok(()) }
}

/// The rule of a line, if an edge can apply it.
fn accept(line: Line, number: u32, dialect: Dialect, notices: &mut Notices) -> Option<Redirect> {
    let Line { mut from, query, to, status, force, conditions } = line;
    let to = match to {
        Some(to) => to,
        None => match forwarded(&from, status) {
            Some(to) => to,
            None => {
                let bad = BadLine::NoDestination;
                notices.warn(REDIRECTS_FILE, number, bad.code(), format!("{bad}; it is left out"));
                return None;
            }
        },
    };
    if dialect == Dialect::Cloudflare {
        from.truncate(from.find(['?', '#']).unwrap_or(from.len()));
    }
    if status.is_none() && dialect == Dialect::Nigh {
        let message = "no status is given, so it is 301; hosts differ in this, so write it";
        notices.warn(REDIRECTS_FILE, number, "missing_status", message);
    }
    let status = status.unwrap_or(default_status(dialect));
    let redirect = Redirect { from, to, status, force, query, conditions, line: number };
    check(redirect, REDIRECTS_FILE, dialect, notices)
}

/// `/admin/* 200!` without a target shows what is there.
fn forwarded(from: &str, status: Option<u16>) -> Option<String> {
    let folder = from.strip_suffix("/*")?;
    (200..300).contains(&status?).then(|| format!("{folder}/:splat"))
}

/// The status of a rule that has none.
pub(crate) const fn default_status(dialect: Dialect) -> u16 {
    match dialect {
        Dialect::Cloudflare => 302,
        Dialect::Nigh | Dialect::Netlify | Dialect::Ipfs => 301,
    }
}

/// Whether the dialect has this status at all.
fn has_status(dialect: Dialect, status: u16) -> bool {
    match dialect {
        Dialect::Cloudflare => matches!(status, 200 | 301 | 302 | 303 | 307 | 308),
        Dialect::Nigh | Dialect::Netlify | Dialect::Ipfs => true,
    }
}

/// Reports a rule that no edge could apply and leaves it out.
pub(crate) fn check(
    redirect: Redirect,
    file: &str,
    dialect: Dialect,
    notices: &mut Notices,
) -> Option<Redirect> {
    let line = redirect.line;
    if let Err(invalid) = redirect.check() {
        notices.refuse(file, line, &invalid);
        return None;
    }
    if !has_status(dialect, redirect.status) {
        notices.refuse(file, line, &InvalidRule::Status(redirect.status));
        return None;
    }
    if dialect == Dialect::Cloudflare && !redirect.from.starts_with('/') {
        let message = "the cloudflare dialect has no rules for other hosts; it is left out";
        notices.warn(file, line, "not_in_dialect", message);
        return None;
    }
    if let Err(invalid) = Pattern::parse(&redirect.from, Use::Redirect, dialect) {
        notices.warn(file, line, "invalid_pattern", format!("{invalid}; it is left out"));
        return None;
    }
    Some(redirect)
}
