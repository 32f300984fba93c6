//! How fast is nigh, beside the programs that people would use instead?
//!
//! Peer and nigh run in one run on one machine, in turns, so the figure to report is their ratio.
//! The load generator shares the cores, so servers are compared by requests per second of their own
//! CPU time. `tree` makes what is pushed, `peer` starts the other programs, `process` reads what a
//! process used, `simulated` is a machine without a disk, of which a thousand fit beside control,
//! `preload` gives control something to hold, and each measurement has a module of its own.

pub mod activate;
pub mod command;
pub mod fan_out;
mod http;
pub mod machines;
pub mod memory;
pub mod peer;
pub mod preload;
pub mod process;
pub mod push;
pub mod reads;
pub mod serve;
pub mod simulated;
pub mod summary;
pub mod tree;
