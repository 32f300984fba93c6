//! Which files are young?
//!
//! The time is that of a file made for the purpose: ages are then differences of one clock, also
//! when the folder lies on another machine.

use std::{
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::NamedTempFile;

use super::error::FileError;

/// What counts as young at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    now: SystemTime,
    young: Duration,
}

impl Ages {
    pub(super) fn now(tmp: &Path, young: Duration) -> Result<Self, FileError> {
        let file = NamedTempFile::new_in(tmp).map_err(FileError::at("make a file in", tmp))?;
        let modified = file.as_file().metadata().and_then(|metadata| metadata.modified());
        Ok(Ages { now: modified.map_err(FileError::at("date", file.path()))?, young })
    }

    /// A file from the future is as young as can be.
    pub(super) fn is_old(&self, time: SystemTime) -> bool {
        self.now.duration_since(time).is_ok_and(|age| age >= self.young)
    }

    /// When the file at `path` was made, `None` when it is gone.
    pub(super) fn modified(&self, path: &Path) -> Result<Option<SystemTime>, FileError> {
        match std::fs::metadata(path).and_then(|metadata| metadata.modified()) {
            Ok(time) => Ok(Some(time)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::at("read", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_old_from_its_age_on_and_never_before_its_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let ages = Ages { now, young: Duration::from_secs(10) };
        for (age_secs, is_old) in [(-5i64, false), (0, false), (9, false), (10, true), (999, true)]
        {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs((1000 - age_secs) as u64);
            assert_eq!(ages.is_old(time), is_old, "{age_secs} s");
        }
    }

    #[test]
    fn with_no_youth_at_all_a_new_file_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        std::fs::write(&path, b"").unwrap();
        let ages = Ages::now(dir.path(), Duration::ZERO).unwrap();
        assert!(ages.is_old(ages.modified(&path).unwrap().unwrap()));
        assert_eq!(ages.modified(&dir.path().join("gone")).unwrap(), None);
    }
}
