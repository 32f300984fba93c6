//! How does everything that control knows become one file, and a control again?
//!
//! A backup is one zstd stream of lines of JSON: a head, every row of one moment of the database, and
//! unless they are left out the blobs of all releases, in packs. The last line holds a digest of
//! everything before it, so that half a backup is never taken for a whole one. `line` has the
//! format, `write` makes one while pushes go on, `restore` fills an empty control with one.

mod line;
mod restore;
mod write;

pub use restore::{RestoreError, Restored, check, restore};
pub(crate) use write::BackupError;

/// What a backup is to whoever transports it (RFC 8878, section 7.1).
pub(crate) const MEDIA_TYPE: &str = "application/zstd";
