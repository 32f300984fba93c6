//! Does a machine keep its word to control, and to itself, over real sockets?
//!
//! `control` is a fake one: HTTP/2 over mutual TLS, whose every answer the test writes. `machine`
//! is a replica on a folder of its own; `clock` makes time go by and `log` is what its operator reads.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped has failed its test")]

mod clock;
mod control;
mod fetching;
mod following;
mod joining;
mod log;
mod machine;
mod protocols;
mod renewing;
mod reporting;
mod restarting;
mod several;
