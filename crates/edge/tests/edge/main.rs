//! What visitors, and those who mean no good, see of a running edge. Control is never there: states
//! and blobs are on disk, or come from a source of the test.

mod disk;
mod files;
mod fixture;
mod hostile;
mod hosts;
mod wire;
