//! What does `nigh.toml` beside a site say?

use std::path::{Path, PathBuf};

use nigh_core::rules::{Dialect, HeaderItem, Hsts, HtmlMode, NotFound, RedirectItem};
use nigh_proto::Host;
use serde::Deserialize;

use crate::{exit::Exit, failure::Failure, toml_file, units};

/// The name of the file.
pub(crate) const FILE_NAME: &str = "nigh.toml";

/// Keys that people may expect here, and what to do instead.
const INSTEAD: [(&str, &str); 3] = [
    (
        "hosts.primary",
        "list it in aliases; to send another host there, put a rule into _redirects: \
         https://other.example/* https://main.example/:splat 301!",
    ),
    ("release.grace", "it is one for the whole fleet: grace_ms in [sites] of control.toml"),
    ("access", "every release is public so far: push nothing that must stay private"),
];

/// The whole of `nigh.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SiteFile {
    pub(crate) site: SiteSection,
    pub(crate) html: HtmlSection,
    pub(crate) rules: RulesSection,
    pub(crate) hosts: HostsSection,
    pub(crate) release: ReleaseSection,
    pub(crate) redirects: Vec<RedirectItem>,
    pub(crate) headers: Vec<HeaderItem>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SiteSection {
    /// The site's name.
    pub(crate) name: Option<String>,
    /// The folder that is pushed, relative to this file.
    pub(crate) publish: Option<PathBuf>,
    /// Patterns of files that are not pushed, as in `.nighignore`.
    pub(crate) ignore: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HtmlSection {
    pub(crate) mode: HtmlMode,
    pub(crate) not_found: NotFound,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RulesSection {
    pub(crate) dialect: Option<Dialect>,
    /// Whether warnings refuse a push.
    pub(crate) strict: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HostsSection {
    /// Hosts that the site shall answer to besides its default one; a push adds those that it lacks.
    pub(crate) aliases: Vec<Host>,
    pub(crate) hsts: Option<Hsts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReleaseSection {
    /// How many releases that are not live stay after a push; control's own bound otherwise.
    pub(crate) keep: Option<u32>,
    /// How long previews live: `7d`.
    pub(crate) preview_expires: Option<String>,
}

/// A site file, and the folder that it stands in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundSite {
    pub(crate) file: SiteFile,
    pub(crate) folder: Option<PathBuf>,
}

impl FoundSite {
    /// Reads the file that was named, or else the first of `folders` that has one.
    pub(crate) fn find(named: Option<&Path>, folders: &[&Path]) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => Some(path.to_owned()),
            None => folders.iter().map(|folder| folder.join(FILE_NAME)).find(|path| path.exists()),
        };
        match path {
            None => Ok(Self::default()),
            Some(path) => Self::read(&path),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} cannot be read", path.display()))
                .caused_by(&error)
        })?;
        let file: SiteFile = toml_file::parse_with(&text, path, &INSTEAD)?;
        if let Some(expires) = &file.release.preview_expires {
            units::parse_duration(expires).map_err(|why| {
                Failure::new(Exit::Invalid, format!("{}: preview_expires", path.display())).why(why)
            })?;
        }
        let folder = path.parent().map(Path::to_owned);
        Ok(Self { file, folder })
    }

    /// The folder that is pushed when the command names none.
    pub(crate) fn publish(&self) -> Option<PathBuf> {
        let publish = self.file.site.publish.as_deref()?;
        Some(self.folder.as_deref().unwrap_or(Path::new(".")).join(publish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_file_is_read_from_the_first_folder_that_has_one() {
        let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = "[site]\nname = \"docs\"\npublish = \"public\"\n[html]\nnot_found = \"spa\"\n\
                    [[redirects]]\nfrom = \"/a\"\nto = \"/b\"\nstatus = 302\n\
                    [[headers]]\nfor = \"/*\"\nvalues = { X-A = \"b\" }\n";
        std::fs::write(far.path().join(FILE_NAME), text).unwrap();
        let found = FoundSite::find(None, &[near.path(), far.path()]).unwrap();
        assert_eq!(found.file.site.name.as_deref(), Some("docs"));
        assert_eq!(found.publish(), Some(far.path().join("public")));
        assert_eq!(found.file.html.not_found, NotFound::Spa);
        assert_eq!((found.file.redirects.len(), found.file.headers.len()), (1, 1));
    }

    #[test]
    fn an_unknown_section_is_refused_with_a_suggestion() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "[sites]\nname = \"docs\"\n").unwrap();
        let failure = FoundSite::find(None, &[dir.path()]).unwrap_err();
        assert_eq!(failure.hints, ["did you mean site?"]);
    }

    #[test]
    fn keys_that_people_expect_elsewhere_say_what_to_do_instead() {
        let dir = tempfile::tempdir().unwrap();
        for (text, hint) in [
            ("[hosts]\nprimary = \"a.example\"\n", "aliases"),
            ("[release]\ngrace = \"7d\"\n", "grace_ms in [sites] of control.toml"),
            ("[access]\nbasic = \"a:b\"\n", "public"),
        ] {
            std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
            let failure = FoundSite::find(None, &[dir.path()]).unwrap_err();
            assert!(failure.hints[0].contains(hint), "{failure:?}");
        }
        let text = "[hosts]\naliases = [\"www.a.example\"]\n[release]\nkeep = 5\n";
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        let file = FoundSite::find(None, &[dir.path()]).unwrap().file;
        assert_eq!((file.hosts.aliases.len(), file.release.keep), (1, Some(5)));
    }
}
