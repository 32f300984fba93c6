//! How fast is nigh, beside the programs that people would use instead?
//!
//! Peer and nigh run in one run on one machine, in turns, so the figure to report is their ratio.
//! The load generator shares the cores, so servers are compared by requests per second of their own
//! CPU time. `tree` makes what is pushed, `peer` starts the other programs, `process` reads what a
//! process used, and each measurement has a module of its own.

pub mod command;
pub mod memory;
pub mod peer;
pub mod process;
pub mod push;
pub mod serve;
pub mod summary;
pub mod tree;
