//! Authoritative answers, nearest healthy edge first.

pub mod config;
pub mod server;

pub use config::DnsConfig;
pub use server::{DnsServer, StartError};
