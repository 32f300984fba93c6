//! How is a body read from a pack without opening the pack each time?

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::Arc,
};

use quick_cache::sync::Cache;
use rustix::io::Errno;

use super::{index::Location, layout::Layout};

/// Pack files, of which a bounded number stays open.
///
/// Reads are positioned, so any number of threads share one open file. A file that was removed
/// stays readable for those who have it open.
#[derive(Debug)]
pub(super) struct PackFiles {
    layout: Arc<Layout>,
    open: Cache<u32, Arc<File>>,
}

impl PackFiles {
    pub(super) fn new(layout: Arc<Layout>, open_max: usize) -> Self {
        PackFiles { layout, open: Cache::new(open_max.max(1)) }
    }

    /// The stored body at `location`.
    ///
    /// # Errors
    ///
    /// `NotFound` when the pack is gone, `UnexpectedEof` when it is too short.
    pub(super) fn read(&self, location: Location) -> io::Result<Vec<u8>> {
        let mut body = vec![0; location.stored_len as usize];
        self.get(location.pack)?.read_exact_at(&mut body, u64::from(location.offset))?;
        Ok(body)
    }

    /// Closes the files of packs for which `is_kept` does not hold, when their readers are done.
    pub(super) fn close_unless(&self, is_kept: impl Fn(u32) -> bool) {
        self.open.retain(|&id, _| is_kept(id));
    }

    fn get(&self, id: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.get(&id) {
            return Ok(file);
        }
        let file = Arc::new(File::open(self.layout.pack(id))?);
        self.open.insert(id, Arc::clone(&file));
        Ok(file)
    }
}

/// Whether a failed read means that the bytes are lost: a file that was cut off, or a sector that
/// the disk cannot read. Other failures, such as too many open files, pass.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof || Errno::from_io_error(error) == Some(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_sector_is_damage_and_a_shortage_is_not() {
        assert!(is_damage(&Errno::IO.into()));
        assert!(is_damage(&ErrorKind::UnexpectedEof.into()));
        assert!(!is_damage(&Errno::MFILE.into()));
        assert!(!is_damage(&ErrorKind::PermissionDenied.into()));
    }
}
