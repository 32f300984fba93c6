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

/// Moves a damaged file out of the store, keeping it for an operator to look at. A file that is
/// gone already is no error.
pub(super) fn quarantine(layout: &Layout, path: &Path) -> Result<(), FileError> {
    let dir = layout.quarantine();
    make_room(&dir).map_err(FileError::at("clear", &dir))?;
    let kept = free_name(&dir, path);
    match std::fs::rename(path, &kept) {
        Ok(()) => {
            warn!(file.path = %kept.display(), "moved the damaged file {} to {}", path.display(), kept.display());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::at("move", path)(error)),
    }
    // Without this a power cut could bring the damaged file back under its old name.
    let from = path.parent().unwrap_or(&dir);
    nigh_durable::sync_dir(from).map_err(FileError::at("sync", from))
}

/// Removes the oldest files until another one may come.
fn make_room(dir: &Path) -> io::Result<()> {
    let mut files = std::fs::read_dir(dir)?.map(dated).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
    files.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
}

fn dated(entry: io::Result<std::fs::DirEntry>) -> io::Result<(SystemTime, PathBuf)> {
    let entry = entry?;
    Ok((entry.metadata()?.modified()?, entry.path()))
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
}
