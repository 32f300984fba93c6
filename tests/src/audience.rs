//! Does every visitor of every edge get the right bytes?

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use nigh_proto::Digest;
use nigh_testkit::{Visit, Visitor, tree::Contents};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// How many requests are under way on one connection.
const AT_ONCE: usize = 8;
/// How many redirects lead to a file at most.
const REDIRECTS_MAX: usize = 2;
/// How many wrong files are told of.
const TOLD_MAX: usize = 8;

/// What must be encoded in one segment of a path (RFC 3986, section 3.3).
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Files that are consumed by nigh and served to nobody.
const CONSUMED: [&str; 4] = ["_redirects", "_headers", "nigh.toml", ".nighignore"];

/// Where a file is found: pages have clean URLs.
pub fn url_of(path: &str) -> String {
    let clean = match path.strip_suffix("index.html") {
        Some(folder) if folder.is_empty() || folder.ends_with('/') => folder,
        _ => path.strip_suffix(".html").unwrap_or(path),
    };
    let segments = clean.split('/').map(|name| utf8_percent_encode(name, SEGMENT).to_string());
    format!("/{}", segments.collect::<Vec<_>>().join("/"))
}

/// Fetches a file as a browser does, redirects and all.
pub async fn fetch(visitor: &Visitor, path: &str) -> Result<Visit> {
    let mut visit = visitor.get(&url_of(path)).await?;
    for _ in 0..REDIRECTS_MAX {
        if visit.status != 308 {
            break;
        }
        let location = visit.header("location").context("a redirect without a location")?;
        visit = visitor.get(location).await?;
    }
    Ok(visit)
}

async fn check(visitor: &Visitor, path: &str, digest: &Digest) -> Result<()> {
    let visit = fetch(visitor, path).await?;
    ensure!(visit.status == 200, "status {}: {}", visit.status, visit.text());
    ensure!(Digest::of(&visit.body) == *digest, "other bytes ({} of them)", visit.body.len());
    Ok(())
}

/// Fetches every file over the connections of `visitors`; says what is wrong, path by path.
pub async fn fetch_all(visitors: &[Visitor], contents: &Contents) -> Vec<String> {
    let files = contents.iter().filter(|(path, _)| !CONSUMED.contains(&path.as_str()));
    let checks = files.zip(visitors.iter().cycle()).map(async |((path, digest), visitor)| {
        check(visitor, path, digest).await.map_err(|error| format!("{path}: {error:#}"))
    });
    let results = stream::iter(checks).buffer_unordered(AT_ONCE * visitors.len());
    results.filter_map(async |result| result.err()).collect().await
}

/// The first few of many complaints.
pub fn told(wrong: &[String]) -> String {
    let mut text = wrong.iter().take(TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    if wrong.len() > TOLD_MAX {
        let _ = write!(text, "\n  … and {} more", wrong.len() - TOLD_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_looked_for_at_their_clean_urls() {
        for (path, url) in [
            ("index.html", "/"),
            ("a/index.html", "/a/"),
            ("a/page.html", "/a/page"),
            ("a/my index.html", "/a/my%20index"),
            ("a.css", "/a.css"),
            ("100%/ü?.txt", "/100%25/%C3%BC%3F.txt"),
        ] {
            assert_eq!(url_of(path), url);
        }
    }
}
