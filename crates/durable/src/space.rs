//! How much room is left on a disk?

use std::{io, path::Path};

/// The room on the file system that a folder lies on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What a process without privileges may still write.
    pub free_bytes: u64,
    /// The whole file system.
    pub total_bytes: u64,
}

/// What is free and what there is on the file system of `dir`.
pub fn space(dir: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// What a process without privileges may still write below `dir`, in bytes.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    Ok(space(dir)?.free_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_no_more_free_than_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path()).unwrap();
        assert!(space.total_bytes > 0);
        assert!(space.free_bytes <= space.total_bytes);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(&dir.path().join("missing")).is_err());
    }
}
