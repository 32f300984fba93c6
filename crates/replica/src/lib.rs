//! A machine's copy of its desired state: joins, follows control, keeps the copy on disk, reports.
//!
//! `identity` is who the machine is to control; `uplink` is every call that it makes there. `copy`
//! keeps the state document; `watch` follows the stream of changes; `report` says how things stand,
//! with what `health` reads from the kernel. `replica` runs them. Nothing here waits for control
//! before the machine may serve.

mod backoff;
mod config;
mod copy;
mod health;
mod identity;
mod lines;
mod replica;
mod report;
mod uplink;
mod watch;

pub use config::{ReplicaConfig, UpstreamConfig};
pub use copy::{Accept, StateFileError};
pub use identity::IdentityError;
pub use replica::{Replica, StartError};
pub use report::Facts;
pub use uplink::{Uplink, UplinkError};
