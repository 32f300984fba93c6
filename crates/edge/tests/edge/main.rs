//! What visitors, and those who mean no good, see of a running edge. Control is never there: states
//! and blobs are on disk, or come from a source of the test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod disk;
mod files;
mod fixture;
mod h2;
mod hostile;
mod hosts;
mod log;
mod peers;
mod tls;
mod wire;
