//! Whose rules are these, when nobody says?
//!
//! A few things are written in one dialect only. Without any of them, or with some of each, the
//! files are read in nigh's own dialect, and a notice says why.

use nigh_proto::rules::Dialect;

use super::{
    parse::{CONFIG_FILE, Notices, RuleFiles},
    redirects::{is_target, status, tokens},
};

/// The dialect that the files look like.
pub(crate) fn detect(files: &RuleFiles<'_>, notices: &mut Notices) -> Dialect {
    let is_netlify = files.redirects.is_some_and(|text| text.lines().any(is_netlify_redirect));
    let is_cloudflare = files.headers.is_some_and(|text| text.lines().any(is_cloudflare_header));
    match (is_netlify, is_cloudflare) {
        (true, false) => Dialect::Netlify,
        (false, true) => Dialect::Cloudflare,
        (false, false) => Dialect::Nigh,
        (true, true) => {
            let message = "_redirects looks like Netlify's and _headers like Cloudflare's; both are \
                           read in nigh's dialect. Set rules.dialect to be sure";
            notices.warn(CONFIG_FILE, 0, "ambiguous_dialect", message);
            Dialect::Nigh
        }
    }
}

/// A status with `!`, a query before the target, or a condition after it.
fn is_netlify_redirect(line: &str) -> bool {
    let tokens = tokens(line);
    if tokens.len() < 2 || !is_target(tokens[0]) {
        return false;
    }
    let has_condition = tokens[1..].iter().any(|token| {
        let name = token.split_once('=').map(|(name, _)| name.to_ascii_lowercase());
        name.is_some_and(|name| ["country", "language", "role", "cookie"].contains(&name.as_str()))
    });
    let is_forced = tokens[1..].iter().any(|token| status(token).is_some_and(|(_, force)| force));
    let has_query = !is_target(tokens[1]) && tokens[1].contains('=');
    has_condition || is_forced || has_query
}

/// `! Name`, or a block for a URL with a host.
fn is_cloudflare_header(line: &str) -> bool {
    let text = line.trim();
    text.starts_with("! ") || text.starts_with("https://")
}
