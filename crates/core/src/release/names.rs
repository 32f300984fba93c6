//! What does a file's name say about it: is it served at all, and will it ever change?

/// Whether a file is consumed by nigh, or was never meant to be public. Such files are in the
/// manifest, so that a folder keeps its digest, and are never served.
pub fn is_hidden(path: &str) -> bool {
    const AT_ROOT: [&str; 4] = ["_redirects", "_headers", "nigh.toml", ".nighignore"];
    const FOLDERS: [&str; 3] = [".git", ".hg", ".svn"];
    let is_env = |name: &str| name == ".env" || name.starts_with(".env.");
    AT_ROOT.contains(&path) || path.split('/').any(|name| FOLDERS.contains(&name) || is_env(name))
}

/// Whether a bundler wrote a hash of the content into the name, so that other content has
/// another name: `app.3f2a9c1b.js`, `index-DiwrgTda.js`, anything below `_next/static/`.
///
/// It decides what an edge keeps for a grace period after a release is gone, where a wrong yes
/// costs little. It is no reason to tell browsers `immutable`, where a wrong yes lasts a year:
/// that takes a rule in `_headers`.
pub fn is_hashed(path: &str) -> bool {
    const FOLDERS: [&str; 2] = ["_next/static/", "_app/immutable/"];
    if FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return true;
    }
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let Some((stem, _extension)) = name.split_once('.') else { return false };
    let is_in_stem =
        stem.match_indices('-').any(|(at, _)| looks_hashed(&stem[at + 1..])) || looks_hashed(stem);
    // Between the name and the last extension: `app.3f2a9c1b.js`, `app.3f2a9c1b.js.map`.
    is_in_stem || name.split('.').skip(1).any(looks_hashed)
}

/// At least eight characters of base 62 (or of base 64 for URLs) that are no word and no number.
fn looks_hashed(text: &str) -> bool {
    let is_base64 = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !(8..=64).contains(&text.len()) || !is_base64 {
        return false;
    }
    let has = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
    let (lower, upper) = (has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase));
    let (digit, separator) = (has(u8::is_ascii_digit), text.contains(['-', '_']));
    let is_word = lower && !upper && !digit;
    // `release-2024notes` is not a hash; one that holds a separator mixes all kinds.
    let is_mixed = (digit && (lower || upper)) || (lower && upper);
    if separator { lower && upper && digit } else { !is_word && is_mixed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nigh_consumes_and_what_is_secret_is_never_served() {
        for (path, hidden) in [
            ("_redirects", true),
            ("_headers", true),
            ("nigh.toml", true),
            (".nighignore", true),
            (".git/config", true),
            ("sub/.git/HEAD", true),
            (".env", true),
            ("api/.env.production", true),
            ("docs/_redirects", false),
            (".gitignore", false),
            (".environment", false),
            (".well-known/security.txt", false),
            ("a.git/x", false),
        ] {
            assert_eq!(is_hidden(path), hidden, "{path}");
        }
    }

    #[test]
    fn hashes_of_common_bundlers_are_seen() {
        for (path, hashed) in [
            ("assets/app.3f2a9c1b.js", true),
            ("assets/app.3f2a9c1b.js.map", true),
            ("assets/index-DiwrgTda.js", true),
            ("assets/index-D_wr9Tda.css", true),
            ("chunk-ABCD12EF.js", true),
            ("static/js/main.8e1b0a2c.chunk.js", true),
            ("8e1b0a2c9d.png", true),
            ("_next/static/x/page.js", true),
            ("_app/immutable/entry.js", true),
            ("index.html", false),
            ("bootstrap.min.js", false),
            ("report-20240101.pdf", false),
            ("documentation.html", false),
            ("jquery-3.7.1.js", false),
            ("release-notes-overview.html", false),
            ("assets/logo.png", false),
            ("LICENSE", false),
        ] {
            assert_eq!(is_hashed(path), hashed, "{path}");
        }
    }
}
