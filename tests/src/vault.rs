//! Is every blob on disk still what its name says?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nigh_core::blob::Store;
use nigh_proto::Digest;
use nigh_testkit::Fleet;

/// Where control keeps its blobs.
pub fn of_control(fleet: &Fleet) -> PathBuf {
    fleet.control_dir().join("blobs")
}

/// Where a machine keeps its blobs.
pub fn of_machine(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.machine_dir(name).join("blobs")
}

/// Reads every blob of the store in `dir`, which nobody may have open, and gives their digests.
/// An error when one of them is not whole.
pub fn verify(dir: &Path) -> Result<Vec<Digest>> {
    ensure!(dir.is_dir(), "there is no store in {}", dir.display());
    let store = Store::open(dir).with_context(|| format!("the store in {}", dir.display()))?;
    let digests = store.digests();
    let bad: Vec<_> = digests.iter().filter(|digest| !store.verify(digest)).collect();
    ensure!(bad.is_empty(), "in {} these blobs are not whole: {bad:?}", dir.display());
    Ok(digests)
}

/// The files of a store's packs and of its large blobs.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.join("packs"), dir.join("loose")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}
