//! Where do damaged files go?

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::SystemTime,
};

use tracing::warn;

use super::{error::FileError, layout::Layout};

/// Enough to see what happened to a disk; more only fills it.
const FILES_MAX: usize = 16;
/// A file that is larger than this is not kept at all.
const BYTES_MAX: u64 = 256 << 20;

/// Moves a damaged file out of the store, keeping it for an operator to look at unless it is very
/// large. A file that is gone already is no error.
pub(super) fn quarantine(layout: &Layout, path: &Path) -> Result<(), FileError> {
    let dir = layout.quarantine();
    let bytes = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(FileError::at("read", path))?.len(),
    };
    if bytes > BYTES_MAX {
        std::fs::remove_file(path).map_err(FileError::at("remove", path))?;
        warn!(file.path = %path.display(), "removed the damaged file {}", path.display());
    } else {
        make_room(&dir, bytes).map_err(FileError::at("clear", &dir))?;
        let kept = free_name(&dir, path);
        std::fs::rename(path, &kept).map_err(FileError::at("move", path))?;
        warn!(file.path = %kept.display(), "moved the damaged file {} to {}", path.display(), kept.display());
    }
    // Without this a power cut could bring the damaged file back under its old name.
    let from = path.parent().unwrap_or(&dir);
    nigh_durable::sync_dir(from).map_err(FileError::at("sync", from))
}

/// Removes the oldest files until another one of `bytes` may come.
fn make_room(dir: &Path, mut bytes: u64) -> io::Result<()> {
    let mut files = std::fs::read_dir(dir)?.map(Kept::read).collect::<io::Result<Vec<_>>>()?;
    files.sort_by_key(|file| std::cmp::Reverse(file.modified));
    for (younger, file) in files.iter().enumerate() {
        bytes = bytes.saturating_add(file.bytes);
        if younger + 1 >= FILES_MAX || bytes > BYTES_MAX {
            std::fs::remove_file(&file.path)?;
        }
    }
    Ok(())
}

/// A file that was moved aside before.
struct Kept {
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
}

impl Kept {
    fn read(entry: io::Result<std::fs::DirEntry>) -> io::Result<Self> {
        let entry = entry?;
        let metadata = entry.metadata()?;
        Ok(Kept { path: entry.path(), modified: metadata.modified()?, bytes: metadata.len() })
    }
}

/// The name of `path` in `dir`, with a number when that is taken; there are few files to try.
fn free_name(dir: &Path, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let numbered = (1..).map(|number| {
        let mut name = OsString::from(name);
        name.push(format!(".{number}"));
        dir.join(name)
    });
    std::iter::once(dir.join(name))
        .chain(numbered)
        .find(|path| !path.exists())
        .expect("numbers do not run out before files do")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_kept_up_to_a_bound_and_names_do_not_collide() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.create().unwrap();
        let path = root.path().join("bad");
        for round in 0..FILES_MAX + 5 {
            std::fs::write(&path, round.to_string()).unwrap();
            quarantine(&layout, &path).unwrap();
            assert!(!path.exists());
        }
        let kept = std::fs::read_dir(layout.quarantine()).unwrap();
        assert_eq!(kept.count(), FILES_MAX);
        quarantine(&layout, &path).unwrap();
    }

    #[test]
    fn large_files_push_older_ones_out_and_the_largest_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.create().unwrap();
        let path = root.path().join("bad");
        // Files with a hole: they have a length and take no room.
        for (bytes, kept) in [(BYTES_MAX / 2, 1), (BYTES_MAX / 2, 2), (1, 2), (BYTES_MAX + 1, 2)] {
            std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
            quarantine(&layout, &path).unwrap();
            assert!(!path.exists());
            let files = std::fs::read_dir(layout.quarantine()).unwrap();
            assert_eq!(files.count(), kept, "after {bytes} bytes");
        }
    }
}
