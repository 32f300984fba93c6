//! How is a file replaced so that nobody ever finds half of it?
//!
//! New bytes are written under a name of no meaning, synced, and renamed; then the folder is
//! synced, since a name is as easily lost as bytes are. A crash leaves at most a file called
//! `.tmp-…` beside the old one, which [`remove_unfinished`](crate::remove_unfinished) removes.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use tempfile::NamedTempFile;

/// How the names of unfinished files begin.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// Puts a finished file under `name` in `dir`, replacing what had that name.
///
/// The bytes are synced before the name exists, and the name before anyone is told about it. `file`
/// has to be on the same file system as `dir`. If only the last sync fails the name may exist
/// although the caller is told `Err`; the file is whole all the same, and a repeat succeeds.
pub fn put(dir: &Path, name: &str, file: NamedTempFile) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(dir.join(name))?;
    sync_dir(dir)
}

/// Gives the finished `file`, which is called `from`, the name `to`, as [`put`] does.
///
/// The old name may come back after a power cut, beside the new one.
pub fn rename(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(from, to)?;
    sync_dir(parent(to))
}

/// Replaces the file at `path` with `bytes`; mode 0644 less the umask.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o644)
}

/// Replaces the file at `path` with `bytes` that only the owner may read; mode 0600.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o600)
}

/// Appends `bytes` to the file at `path`, which only the owner may read when it is new; mode 0600.
///
/// After `Ok` they survive a power cut. After `Err`, or a crash in between, the file may end with
/// a part of them: whoever reads it has to know where a record ends.
pub fn append_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    if is_new { sync_dir(parent(path)) } else { Ok(()) }
}

/// The bytes of the file at `path`, `None` when there is no such file.
pub fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the names in `dir` last: those that were made, and that others are gone.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the path has no file name"))?;
    let dir = parent(path);
    let mut file = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(dir)?;
    file.write_all(bytes)?;
    put(dir, name, file)
}

/// The folder that `path` lies in; a bare name lies in the current one.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_write_replaces_the_old_bytes_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write(&path, b"a much longer first state").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read_optional(&path).unwrap().unwrap(), b"second");
        assert_eq!(names(dir.path()), ["state.json"]);
    }

    #[test]
    fn a_write_that_fails_keeps_the_old_bytes_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        // A folder in the way makes the rename fail, after everything before it has succeeded.
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), b"kept").unwrap();
        write(&path, b"new").unwrap_err();
        assert_eq!(names(dir.path()), ["taken"]);
        assert_eq!(std::fs::read(path.join("inside")).unwrap(), b"kept");
    }

    #[test]
    fn a_secret_is_for_its_owner_alone_even_when_it_replaces_a_public_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"public").unwrap();
        assert_eq!(mode(&path) & 0o400, 0o400);
        write_secret(&path, b"secret").unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn what_is_appended_stands_behind_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changes");
        append_secret(&path, b"first\n").unwrap();
        append_secret(&path, b"second\n").unwrap();
        assert_eq!(read_optional(&path).unwrap().unwrap(), b"first\nsecond\n");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_missing_file_is_none_and_an_unreadable_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_optional(&dir.path().join("missing")).unwrap(), None);
        assert!(read_optional(dir.path()).is_err());
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert_eq!(write(Path::new("/"), b"").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(parent(Path::new("bare")), Path::new("."));
    }

    #[test]
    fn a_renamed_file_has_only_its_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("partial"), dir.path().join("whole"));
        std::fs::write(&from, b"bytes").unwrap();
        rename(&File::open(&from).unwrap(), &from, &to).unwrap();
        assert_eq!(names(dir.path()), ["whole"]);
        assert_eq!(std::fs::read(&to).unwrap(), b"bytes");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("any");
            write(&path, &bytes).unwrap();
            prop_assert_eq!(read_optional(&path).unwrap().unwrap(), bytes);
        }
    }
}
