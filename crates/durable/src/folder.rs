//! Who owns the folder that a process keeps its state in?
//!
//! Two processes on one folder would each believe its own memory of it, so the first takes an
//! exclusive lock and the second is told which folder is taken. The kernel drops the lock when the
//! process ends, however it ends; there is no stale lock to remove by hand.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::file::{TEMP_PREFIX, parent, sync_dir};

const LOCK_NAME: &str = "lock";

/// A folder that this process alone works in, until the value is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

/// Why a folder cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("could not create the folder {path}; create it, or choose another one", path = path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another nigh process; stop that one, or choose another folder", path = path.display())]
    InUse { path: PathBuf },
    #[error("could not lock {path}; the folder has to be writable", path = path.display())]
    Lock { path: PathBuf, source: io::Error },
}

impl StateDir {
    /// Makes `dir` (mode 0700) if it is missing, locks it, and removes unfinished files that a
    /// crash left directly in it.
    pub fn lock(dir: &Path) -> Result<Self, LockError> {
        let path = dir.to_owned();
        create_dir(dir).map_err(|source| LockError::Create { path: path.clone(), source })?;
        let lock = open_locked(&dir.join(LOCK_NAME)).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => LockError::InUse { path: path.clone() },
            _ => LockError::Lock { path: path.clone(), source },
        })?;
        remove_unfinished(dir).map_err(|source| LockError::Lock { path: path.clone(), source })?;
        Ok(StateDir { path, lock })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread is just starting has a copy of the
        // open file until it runs its own program. If this fails the close releases the lock.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Makes `dir` and the folders above it that are missing, mode 0700, so that they last.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    if above != dir {
        create_dir(above)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        // Another thread may be between its mkdir and its sync; syncing again costs little.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => sync_dir(above),
        Err(error) => Err(error),
        Ok(()) => sync_dir(above),
    }
}

fn open_locked(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Removes the files in `dir` that [`write`](crate::write) had not finished when a process ended.
/// Nobody may be writing there.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_unfinished = entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX);
        if is_unfinished && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_lock_is_refused_by_name_until_the_first_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let first = StateDir::lock(&dir).unwrap();
        let refused = StateDir::lock(&dir).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }));
        assert!(refused.to_string().contains(&dir.display().to_string()), "{refused}");
        drop(first);
        assert_eq!(StateDir::lock(&dir).unwrap().path(), dir);
    }

    #[test]
    fn a_child_process_that_is_being_started_does_not_keep_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::lock(root.path()).unwrap();
        // What a fork has until it runs its program.
        let _inherited = first.lock.try_clone().unwrap();
        drop(first);
        StateDir::lock(root.path()).unwrap();
    }

    #[test]
    fn a_new_folder_is_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("state");
        let _held = StateDir::lock(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, b"").unwrap();
        let refused = StateDir::lock(&path).unwrap_err();
        assert!(matches!(refused, LockError::Create { .. }), "{refused}");
        assert!(refused.to_string().contains("file"), "{refused}");
    }

    #[test]
    fn unfinished_files_of_an_earlier_process_are_removed_and_others_kept() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(".tmp-abc"), b"half").unwrap();
        std::fs::write(root.path().join("state.json"), b"{}").unwrap();
        let _held = StateDir::lock(root.path()).unwrap();
        assert!(!root.path().join(".tmp-abc").exists());
        assert!(root.path().join("state.json").exists());
    }
}
