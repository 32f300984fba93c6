//! Which file does a URL mean, and is it that file's one URL?
//!
//! A page has one canonical URL, which depends on the site's [`HtmlMode`]. Other spellings lead
//! there by redirect, but only if the page is what the canonical URL shows: a file that is
//! hidden behind another is served where it was asked for.

use nigh_proto::rules::HtmlMode;

use super::index::{PathIndex, RowId};

/// What a URL leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The file is served here.
    Here(RowId),
    /// The file is served at its [canonical URL](canonical).
    Moved(RowId),
}

impl Found {
    pub(crate) const fn row(self) -> RowId {
        match self {
            Found::Here(row) | Found::Moved(row) => row,
        }
    }
}

/// Finds what the decoded `path` leads to.
pub(crate) fn find(index: &PathIndex, mode: HtmlMode, path: &str) -> Option<Found> {
    let (stem, is_folder) = match path.strip_prefix('/')? {
        "" => ("", true),
        rest => match rest.strip_suffix('/') {
            // `//` is not the root.
            Some("") => return None,
            Some(stem) => (stem, true),
            None => (rest, false),
        },
    };
    let row = meant(index, mode, stem, is_folder)?;
    let own = canonical(index, mode, row);
    let is_moved = own != (stem, is_folder) && meant(index, mode, own.0, own.1) == Some(row);
    // In this mode a page may be asked for by its file name.
    let is_exact = mode == HtmlMode::Exact && !is_folder && index.path(row) == stem;
    Some(if is_moved && !is_exact { Found::Moved(row) } else { Found::Here(row) })
}

/// The file that `/stem`, or the folder `/stem/`, means first of all.
fn meant(index: &PathIndex, mode: HtmlMode, stem: &str, is_folder: bool) -> Option<RowId> {
    if stem.is_empty() {
        return index.find("index.html", "");
    }
    let page = || if mode == HtmlMode::Exact { None } else { index.find(stem, ".html") };
    let folder = || index.find(stem, "/index.html");
    if is_folder {
        folder().or_else(page)
    } else {
        index.find(stem, "").or_else(page).or_else(folder)
    }
}

/// The URL of a row, without its first slash, and whether it ends in one.
pub(crate) fn canonical(index: &PathIndex, mode: HtmlMode, row: RowId) -> (&str, bool) {
    let path = index.path(row);
    if !index.rows[row as usize].is_html {
        return (path, false);
    }
    if path == "index.html" {
        return ("", true);
    }
    match (path.strip_suffix("/index.html"), mode) {
        (Some(folder), HtmlMode::Noslash) => (folder, false),
        (Some(folder), HtmlMode::Auto | HtmlMode::Slash | HtmlMode::Exact) => (folder, true),
        (None, HtmlMode::Exact) => (path, false),
        (None, HtmlMode::Slash) => (stem(path), true),
        (None, HtmlMode::Auto | HtmlMode::Noslash) => (stem(path), false),
    }
}

fn stem(path: &str) -> &str {
    path.strip_suffix(".html").unwrap_or(path)
}

/// Whether the file at `path` is a page: `.html` after a name.
pub(crate) fn is_page(path: &str) -> bool {
    path.strip_suffix(".html").is_some_and(|stem| !stem.is_empty() && !stem.ends_with('/'))
}

/// The URL's path of a row, decoded, with its first slash.
pub(crate) fn url(index: &PathIndex, mode: HtmlMode, row: RowId) -> String {
    let (stem, is_folder) = canonical(index, mode, row);
    let end = if is_folder && !stem.is_empty() { "/" } else { "" };
    format!("/{stem}{end}")
}

#[cfg(test)]
mod tests {
    use nigh_proto::Digest;
    use proptest::prelude::*;

    use super::*;

    fn index(paths: &[&str]) -> PathIndex {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        paths.dedup();
        let mut index = PathIndex::with_capacity(paths.len(), 0, 7);
        for path in paths {
            index.push(path, Digest::of(b""), 0, 0);
        }
        index.seal();
        for row in 0..index.rows.len() {
            index.rows[row].is_html = is_page(index.path(row as RowId));
        }
        index
    }

    /// `= file` when it is served here, `> url` when it has moved, `-` for nothing.
    fn shown(index: &PathIndex, mode: HtmlMode, path: &str) -> String {
        match find(index, mode, path) {
            None => "-".into(),
            Some(Found::Here(row)) => format!("= {}", index.path(row)),
            Some(Found::Moved(row)) => format!("> {}", url(index, mode, row)),
        }
    }

    #[test]
    fn the_matrix_of_spellings() {
        let index = index(&[
            "index.html",
            "file.html",
            "folder/index.html",
            "both.html",
            "both/index.html",
            "a.js",
            "twin",
            "twin.html",
        ]);
        use HtmlMode::{Auto, Exact, Noslash, Slash};
        for (path, auto, slash, noslash, exact) in [
            ("/", "= index.html", "= index.html", "= index.html", "= index.html"),
            ("/index.html", "> /", "> /", "> /", "= index.html"),
            ("/index", "> /", "> /", "> /", "-"),
            ("/index/", "> /", "> /", "> /", "-"),
            ("/file", "= file.html", "> /file/", "= file.html", "-"),
            ("/file/", "> /file", "= file.html", "> /file", "-"),
            ("/file.html", "> /file", "> /file/", "> /file", "= file.html"),
            ("/file.html/", "-", "-", "-", "-"),
            ("/folder", "> /folder/", "> /folder/", "= folder/index.html", "> /folder/"),
            (
                "/folder/",
                "= folder/index.html",
                "= folder/index.html",
                "> /folder",
                "= folder/index.html",
            ),
            ("/folder/index.html", "> /folder/", "> /folder/", "> /folder", "= folder/index.html"),
            ("/folder/index", "> /folder/", "> /folder/", "> /folder", "-"),
            ("/both", "= both.html", "= both.html", "= both.html", "> /both/"),
            (
                "/both/",
                "= both/index.html",
                "= both/index.html",
                "= both/index.html",
                "= both/index.html",
            ),
            ("/both.html", "> /both", "= both.html", "> /both", "= both.html"),
            ("/a.js", "= a.js", "= a.js", "= a.js", "= a.js"),
            ("/a.js/", "-", "-", "-", "-"),
            ("/twin", "= twin", "= twin", "= twin", "= twin"),
            ("/twin.html", "= twin.html", "> /twin/", "= twin.html", "= twin.html"),
            ("//", "-", "-", "-", "-"),
            ("//file", "-", "-", "-", "-"),
            ("/folder//", "-", "-", "-", "-"),
            ("/none", "-", "-", "-", "-"),
        ] {
            for (mode, expected) in
                [(Auto, auto), (Slash, slash), (Noslash, noslash), (Exact, exact)]
            {
                assert_eq!(shown(&index, mode, path), expected, "{mode:?} {path}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_redirect_is_never_followed_by_another(
            paths in proptest::collection::vec("[ab](/[ab]){0,2}(/index)?(\\.html|\\.js)?|index\\.html", 1..8),
            path in "/([ab]/){0,2}([ab]|index)?(\\.html)?/?",
        ) {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let index = index(&paths);
            for mode in [HtmlMode::Auto, HtmlMode::Slash, HtmlMode::Noslash, HtmlMode::Exact] {
                if let Some(Found::Moved(row)) = find(&index, mode, &path) {
                    let there = url(&index, mode, row);
                    prop_assert_eq!(find(&index, mode, &there), Some(Found::Here(row)));
                }
            }
        }

        #[test]
        fn every_file_can_be_reached(
            paths in proptest::collection::vec("[ab](/[ab]){0,2}(/index)?(\\.html|\\.js)?", 1..8),
        ) {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let index = index(&paths);
            for mode in [HtmlMode::Auto, HtmlMode::Slash, HtmlMode::Noslash, HtmlMode::Exact] {
                for path in &paths {
                    let found = find(&index, mode, &format!("/{path}")).unwrap();
                    prop_assert_eq!(index.path(found.row()), *path);
                }
            }
        }
    }
}
