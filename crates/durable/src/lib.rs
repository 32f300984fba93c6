//! How does a file survive a power cut?
//!
//! `file` replaces files so that a reader, or the next start, finds the old bytes or the new ones
//! and never a mixture. `folder` makes folders that last and locks the one that a process works
//! in. `space` says how much room is left. Every other crate that writes state writes it here.

mod file;
mod folder;
mod space;

pub use file::{append_secret, put, read_optional, rename, sync_dir, write, write_secret};
pub use folder::{LockError, StateDir, create_dir, remove_unfinished};
pub use space::{Space, free_bytes, space};
