//! Which program is under test?

use std::{
    env,
    path::{Path, PathBuf},
};

/// `NIGH_BINARY`, or else `nigh` in the target folder that this test was built into.
///
/// # Panics
///
/// When there is no such file: a test of nothing must not pass.
pub fn nigh() -> PathBuf {
    if let Some(path) = env::var_os("NIGH_BINARY") {
        return existing(PathBuf::from(path), "NIGH_BINARY names it");
    }
    let test = env::current_exe().expect("a test knows its own program");
    // target/debug/deps/promises-0123456789abcdef
    let profile = test.parent().and_then(Path::parent).expect("tests are built into a folder");
    existing(profile.join("nigh"), "build it with `cargo build -p nigh`")
}

/// The program of the last protocol, which `tests/install --last` builds from the history.
///
/// # Panics
///
/// When there is no such file.
pub fn last() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/last/nigh");
    existing(path, "build it with `tests/install --last`")
}

fn existing(path: PathBuf, hint: &str) -> PathBuf {
    assert!(path.is_file(), "{} is not there: {hint}", path.display());
    path.canonicalize().expect("the file was there a moment ago")
}
