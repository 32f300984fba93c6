//! The role that decides what the fleet holds.
//!
//! `config` is what operators say, `server` how control lives.

pub mod config;
mod server;

pub use config::ControlConfig;
pub use server::{ControlServer, StartError};
