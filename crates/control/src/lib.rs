//! The role that decides what the fleet holds.
//!
//! `config` is what operators say, `server` how control lives and `serve` how it speaks to
//! clients: `api` to people, `machines` to edges and DNS servers. Both ask `app` for everything
//! that can be done. `store` remembers it, `blobs` keeps the bytes, `ca` vouches for machines and
//! sites, `random` draws what nobody may guess. `request` goes with everything that somebody asked for, `limits` counts how often.
//! `webhooks` is how events are told to servers, `controls` how several of them act as one.
//! `fleet` holds the decisions, as pure functions; `reconcile` and `variants` act on them.

mod api;
mod app;
pub mod backup;
mod blobs;
mod ca;
mod certificates;
pub mod config;
mod controls;
mod fleet;
mod limits;
mod machines;
mod metered;
mod metrics;
mod random;
mod reconcile;
pub mod recovery;
mod request;
mod seal;
mod serve;
mod server;
mod store;
mod variants;
mod webhooks;

pub use backup::{RestoreError, Restored, restore};
pub use config::ControlConfig;
pub use server::{ADMIN_TOKEN_FILE, CA_FILE, ControlServer, KEY_FILE, StartError};
