//! Which files does a folder hold, and could every edge serve them?
//!
//! `.nighignore` (in any folder, with the rules of `.gitignore`) and `[site] ignore` leave files out;
//! nothing else does, hidden files are pushed. What cannot be pushed is refused with every place at once.

use std::{
    collections::HashMap,
    fs::Metadata,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::mpsc,
};

use ignore::{
    DirEntry, WalkBuilder, WalkState,
    gitignore::{Gitignore, GitignoreBuilder},
};
use nigh_core::rules::{HEADERS_FILE, REDIRECTS_FILE};
use nigh_proto::{Digest, Entry, Manifest, SitePath, api::BLOB_MAX_BYTES};

use crate::{exit::Exit, failure::Failure, site_file};

/// What a walk leaves out and lets pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkOptions {
    /// Patterns as in `.nighignore`, from the top.
    pub(crate) ignore: Vec<String>,
    pub(crate) allow_case_collisions: bool,
}

/// A file of the folder, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: SitePath,
    pub(crate) stamp: Stamp,
}

/// What changes when a file does. Equal stamps, old enough, mean equal bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size_bytes: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) inode: u64,
    pub(crate) device: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size_bytes: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// How many threads look at folders at most.
const THREADS_MAX: usize = 8;
const IGNORE_FILE: &str = ".nighignore";

/// Every file of `dir`, sorted by path.
pub(crate) fn walk(dir: &Path, options: &WalkOptions) -> Result<Vec<File>, Failure> {
    let walk = Walk { root: dir.to_owned(), ignore: patterns(dir, &options.ignore)? };
    let (sender, receiver) = mpsc::channel();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let mut builder = WalkBuilder::new(dir);
    builder
        .standard_filters(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .follow_links(true)
        .threads(threads);
    builder.build_parallel().run(|| {
        let (sender, walk) = (sender.clone(), &walk);
        Box::new(move |entry| {
            let (seen, next) = walk.look(entry);
            if let Some(seen) = seen {
                // The receiver lives as long as the walk.
                let _ = sender.send(seen);
            }
            next
        })
    });
    drop(sender);
    gather(dir, receiver.into_iter(), options)
}

fn patterns(dir: &Path, lines: &[String]) -> Result<Gitignore, Failure> {
    let invalid = |error: ignore::Error| {
        Failure::new(Exit::Invalid, "[site] ignore of nigh.toml is not valid").caused_by(&error)
    };
    let mut builder = GitignoreBuilder::new(dir);
    for line in lines {
        builder.add_line(None, line).map_err(invalid)?;
    }
    builder.build().map_err(invalid)
}

/// What a walk came across: a file, or a reason to refuse the folder.
type Seen = Result<File, String>;

struct Walk {
    root: PathBuf,
    ignore: Gitignore,
}

impl Walk {
    fn look(&self, entry: Result<DirEntry, ignore::Error>) -> (Option<Seen>, WalkState) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return (Some(Err(self.unreadable(&error))), WalkState::Continue),
        };
        if entry.depth() == 0 {
            return (None, WalkState::Continue);
        }
        let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
        let is_ignored = self.ignore.matched(entry.path(), is_dir).is_ignore();
        if is_ignored || is_not_pushed(&entry) {
            return (None, WalkState::Skip);
        }
        if entry.path_is_symlink() && !self.is_inside(entry.path()) {
            let reason = format!("{}: a symlink that leads out of the folder", self.shown(&entry));
            return (Some(Err(reason)), WalkState::Skip);
        }
        if is_dir {
            return (None, WalkState::Continue);
        }
        (Some(self.file(&entry)), WalkState::Continue)
    }

    fn file(&self, entry: &DirEntry) -> Seen {
        let shown = || self.shown(entry);
        if let Some(kind) = entry.file_type().and_then(unusual) {
            return Err(format!("{}: {kind}", shown()));
        }
        let relative = entry.path().strip_prefix(&self.root).unwrap_or(entry.path());
        let name =
            relative.to_str().ok_or_else(|| format!("{}: the name is not UTF-8", shown()))?;
        let path = name.parse().map_err(|error| format!("{}: {error}", shown()))?;
        let metadata = entry.metadata().map_err(|error| format!("{}: {error}", shown()))?;
        if metadata.len() > BLOB_MAX_BYTES {
            return Err(format!("{}: larger than {BLOB_MAX_BYTES} bytes", shown()));
        }
        Ok(File { path, stamp: Stamp::of(&metadata) })
    }

    /// Whether the end of a symlink lies in the folder.
    fn is_inside(&self, link: &Path) -> bool {
        link.canonicalize().is_ok_and(|end| end.starts_with(&self.root))
    }

    fn shown(&self, entry: &DirEntry) -> String {
        self.relative(entry.path())
    }

    /// A path as it may be printed: no byte of a name reaches the terminal unseen.
    fn relative(&self, path: &Path) -> String {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let text = relative.to_string_lossy();
        match text.chars().any(char::is_control) {
            true => text.escape_debug().to_string(),
            false => text.into_owned(),
        }
    }

    fn unreadable(&self, error: &ignore::Error) -> String {
        match error {
            ignore::Error::Loop { child, .. } => {
                format!("{}: a symlink that leads back to a folder above it", self.relative(child))
            }
            ignore::Error::WithPath { path, err } => match &**err {
                error @ ignore::Error::Loop { .. } => self.unreadable(error),
                error => {
                    let is_dangling = path.is_symlink() && !path.exists();
                    let reason = if is_dangling {
                        "a symlink to nothing".to_owned()
                    } else {
                        error.to_string()
                    };
                    format!("{}: {reason}", self.relative(path))
                }
            },
            ignore::Error::WithDepth { err, .. } => self.unreadable(err),
            error => error.to_string(),
        }
    }
}

/// What belongs to the folder and not to the site.
fn is_not_pushed(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let at_top = [REDIRECTS_FILE, HEADERS_FILE, site_file::FILE_NAME];
    name == ".git"
        || name == IGNORE_FILE
        || (entry.depth() == 1 && at_top.iter().any(|top| name == *top))
}

fn unusual(kind: std::fs::FileType) -> Option<&'static str> {
    if kind.is_socket() {
        Some("a socket")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("a device")
    } else {
        (!kind.is_file()).then_some("neither a file nor a folder")
    }
}

fn gather(
    dir: &Path,
    seen: impl Iterator<Item = Seen>,
    options: &WalkOptions,
) -> Result<Vec<File>, Failure> {
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for seen in seen {
        match seen {
            Ok(file) => files.push(file),
            Err(reason) => refused.push(reason),
        }
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut hint = None;
    if !options.allow_case_collisions {
        let before = refused.len();
        refused.extend(case_collisions(&files));
        hint = (refused.len() > before)
            .then_some("--allow-case-collisions pushes names that differ only in case");
    }
    let failed = |why: String| {
        Failure::new(Exit::Invalid, format!("{} cannot be pushed", dir.display())).why(why)
    };
    if !refused.is_empty() {
        refused.sort_unstable();
        let failure = failed(format!("{} of its files cannot be served by edges", refused.len()))
            .code("folder_refused")
            .details(refused)
            .hint("remove them, or name them in .nighignore");
        return Err(match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    if files.is_empty() {
        return Err(failed("it holds no files".to_owned())
            .code("folder_empty")
            .hint("is it the folder that your site generator writes to?"));
    }
    if files.len() > Manifest::MAX_ENTRIES {
        let max = Manifest::MAX_ENTRIES;
        return Err(failed(format!("it holds {} files, a release at most {max}", files.len()))
            .code("too_many_files"));
    }
    Ok(files)
}

/// Files that would be one on a file system without case; a visitor who types gets either.
fn case_collisions(files: &[File]) -> Vec<String> {
    let mut seen: HashMap<String, &SitePath> = HashMap::with_capacity(files.len());
    let collisions = files.iter().filter_map(|file| {
        let other = seen.insert(file.path.as_str().to_lowercase(), &file.path)?;
        Some(format!("{}: differs from {other} only in case", file.path))
    });
    collisions.collect()
}

/// A manifest that has the names and no bytes, for lints that ask what files there are.
pub(crate) fn names(files: &[File]) -> Option<Manifest> {
    let nothing = Digest::of(b"");
    let entry = |file: &File| Entry {
        path: file.path.clone(),
        digest: nothing,
        size_bytes: file.stamp.size_bytes,
        content_type: None,
    };
    Manifest::new(files.iter().map(entry).collect()).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    };

    use tempfile::TempDir;

    use super::*;

    fn tree(files: &[&str]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        dir
    }

    fn paths(dir: &Path, options: &WalkOptions) -> Vec<String> {
        let dir = dir.canonicalize().unwrap();
        walk(&dir, options).unwrap().into_iter().map(|file| file.path.to_string()).collect()
    }

    fn refused(dir: &Path) -> Vec<String> {
        let failure = walk(&dir.canonicalize().unwrap(), &WalkOptions::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        failure.details
    }

    #[test]
    fn hidden_files_are_pushed_and_what_belongs_to_the_folder_is_not() {
        let dir = tree(&[
            ".well-known/security.txt",
            ".git/config",
            "sub/.git/config",
            ".gitignore",
            ".nighignore",
            "nigh.toml",
            "_redirects",
            "_headers",
            "sub/_redirects",
            "index.html",
        ]);
        std::fs::write(dir.path().join(".gitignore"), "index.html").unwrap();
        std::fs::write(dir.path().join(".nighignore"), "*.bak").unwrap();
        std::fs::write(dir.path().join("x.bak"), "").unwrap();
        let expected = [".gitignore", ".well-known/security.txt", "index.html", "sub/_redirects"];
        assert_eq!(paths(dir.path(), &WalkOptions::default()), expected);
    }

    #[test]
    fn patterns_of_the_site_file_leave_files_out() {
        let dir = tree(&["a.html", "drafts/b.html", "c.map"]);
        let ignore = vec!["drafts/".to_owned(), "*.map".to_owned()];
        let options = WalkOptions { ignore, ..WalkOptions::default() };
        assert_eq!(paths(dir.path(), &options), ["a.html"]);
    }

    #[test]
    fn symlinks_within_the_folder_are_followed() {
        let dir = tree(&["real/a.html"]);
        symlink("real", dir.path().join("link")).unwrap();
        symlink("real/a.html", dir.path().join("b.html")).unwrap();
        let expected = ["b.html", "link/a.html", "real/a.html"];
        assert_eq!(paths(dir.path(), &WalkOptions::default()), expected);
    }

    #[test]
    fn everything_that_no_edge_could_serve_is_refused_at_once() {
        let dir = tree(&["ok.html", "back\\slash", "new\nline", "sub/x"]);
        let outside = tree(&["secret"]);
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("out-file")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        symlink("..", dir.path().join("sub/loop")).unwrap();
        std::fs::write(dir.path().join(OsStr::from_bytes(b"bad\xff")), "").unwrap();
        let refused = refused(dir.path()).join("\n");
        for reason in [
            "socket: a socket",
            "out: a symlink that leads out",
            "out-file: a symlink that leads out",
            "dangling: a symlink to nothing",
            "sub/loop: a symlink that leads back",
            "the name is not UTF-8",
            "backslash",
            "new\\nline",
        ] {
            assert!(refused.contains(reason), "{reason} is not in\n{refused}");
        }
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused_unless_allowed() {
        let dir = tree(&["Über.html", "über.html", "a.html"]);
        assert_eq!(refused(dir.path()), ["über.html: differs from Über.html only in case"]);
        let options = WalkOptions { allow_case_collisions: true, ..WalkOptions::default() };
        assert_eq!(paths(dir.path(), &options).len(), 3);
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let dir = tree(&[".git/config"]);
        let failure = walk(dir.path(), &WalkOptions::default()).unwrap_err();
        assert_eq!(failure.code.as_deref(), Some("folder_empty"));
    }
}
