//! A small site that has one of everything.

use std::{
    io,
    path::{Path, PathBuf},
};

macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!("../../sample/", $path)))
    };
}

/// Every file, by its path.
const FILES: [(&str, &str); 8] = [
    file!("index.html"),
    file!("about.html"),
    file!("404.html"),
    file!("assets/style.css"),
    file!("assets/app.5f2c9a1e.js"),
    file!("_redirects"),
    file!("_headers"),
    file!(".well-known/security.txt"),
];

/// Writes the sample to `dir`, unless there is a folder already: somebody may have changed it.
pub(crate) fn write(dir: &Path) -> io::Result<PathBuf> {
    if !dir.exists() {
        for (path, text) in FILES {
            let file = dir.join(path);
            std::fs::create_dir_all(file.parent().unwrap_or(dir))?;
            std::fs::write(file, text)?;
        }
    }
    dir.canonicalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{site_file::SiteFile, site_rules};

    #[test]
    fn the_sample_has_no_mistakes() {
        let dir = tempfile::tempdir().unwrap();
        let site = write(&dir.path().join("site")).unwrap();
        let parsed = site_rules::read(&site, &SiteFile::default(), None).unwrap();
        assert_eq!((parsed.errors, parsed.warnings), (Vec::new(), Vec::new()));
        assert_eq!((parsed.rules.redirects.len(), parsed.rules.headers.len()), (2, 2));
    }

    #[test]
    fn a_changed_sample_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let site = write(&dir.path().join("site")).unwrap();
        std::fs::write(site.join("index.html"), "mine").unwrap();
        write(&site).unwrap();
        assert_eq!(std::fs::read_to_string(site.join("index.html")).unwrap(), "mine");
    }
}
