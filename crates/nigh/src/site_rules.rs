//! Which rules does a folder have, and may it be pushed with them?

use std::{io::ErrorKind, path::Path};

use nigh_core::rules::{self, HEADERS_FILE, Notice, Parsed, REDIRECTS_FILE, RuleFiles};
use nigh_proto::Manifest;

use crate::{exit::Exit, failure::Failure, site_file::SiteFile};

/// Reads the rules of the folder `dir` and of `nigh.toml`, in its dialect.
pub(crate) fn read(
    dir: &Path,
    site: &SiteFile,
    manifest: Option<&Manifest>,
) -> Result<Parsed, Failure> {
    let redirects = text(dir, REDIRECTS_FILE)?;
    let headers = text(dir, HEADERS_FILE)?;
    let files = RuleFiles {
        redirects: redirects.as_deref(),
        headers: headers.as_deref(),
        redirect_items: &site.redirects,
        header_items: &site.headers,
        html: site.html.mode,
        not_found: site.html.not_found,
        hsts: site.hosts.hsts,
        manifest,
    };
    Ok(rules::parse(&files, site.rules.dialect))
}

fn text(dir: &Path, name: &str) -> Result<Option<String>, Failure> {
    let path = dir.join(name);
    let failed = || Failure::new(Exit::Invalid, format!("{} cannot be read", path.display()));
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed().caused_by(&error)),
        Ok(metadata) if metadata.len() > Parsed::MAX_FILE_BYTES as u64 => {
            return Err(failed().why(format!("it is larger than {} bytes", Parsed::MAX_FILE_BYTES)));
        }
        Ok(_) => {}
    }
    match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| failed().why("it is not UTF-8 text").hint("save it as UTF-8")),
        Err(error) => Err(failed().caused_by(&error)),
    }
}

/// One notice as people and editors read it: `_redirects:3: message [code]`.
pub(crate) fn line(notice: &Notice) -> String {
    let Notice { file, line, code, message } = notice;
    match line {
        0 => format!("{file}: {message} [{code}]"),
        _ => format!("{file}:{line}: {message} [{code}]"),
    }
}

/// Refuses rules with errors and, when `is_strict`, those with warnings.
pub(crate) fn accept(parsed: &Parsed, is_strict: bool) -> Result<(), Failure> {
    let mut wrong: Vec<String> = parsed.errors.iter().map(line).collect();
    if is_strict {
        wrong.extend(parsed.warnings.iter().map(line));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let what = format!("the rules have {} mistakes", wrong.len());
    let what = if wrong.len() == 1 { "the rules have a mistake".to_owned() } else { what };
    Err(Failure::new(Exit::Invalid, what)
        .code("rules_invalid")
        .details(wrong)
        .hint("see them all: nigh check DIR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_file_that_is_not_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("_redirects"), b"/a /\xff").unwrap();
        let failure = read(dir.path(), &SiteFile::default(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert!(failure.what.ends_with("_redirects cannot be read"));
    }

    #[test]
    fn strict_makes_warnings_mistakes() {
        let notice = Notice {
            file: "_redirects".to_owned(),
            line: 3,
            code: "shadowed_rule".to_owned(),
            message: "it never applies".to_owned(),
        };
        let parsed = Parsed { warnings: vec![notice], ..Parsed::default() };
        accept(&parsed, false).unwrap();
        let failure = accept(&parsed, true).unwrap_err();
        assert_eq!(failure.details, ["_redirects:3: it never applies [shadowed_rule]"]);
    }
}
