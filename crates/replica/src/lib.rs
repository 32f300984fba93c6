//! A machine's copy of its desired state: follows control, keeps it on disk, reports back.
//!
//! `identity` is who the machine is, `join` how it becomes one of the fleet (`pin`: without a file
//! that says who control is) and `renew` how it stays one. `link` makes connections to control that
//! prove it, `backoff` says when to make the next and `explain` what a refused one means. `watch` follows the
//! desired state, `frames` cuts its stream into lines and `keep` has the state on disk before
//! anyone acts on it. `report` tells control how things stand, with `health` measured by the way and
//! `fit` to keep it short. `said` keeps the log from saying the same for weeks.
//! `fetch` brings blobs from control and `objects` from its bucket, `give` takes some back to a control
//! that has lost them; `member` is what machines show each other. Nothing here waits for control before
//! a machine may serve: what is on
//! disk is there as soon as [`Replica::open`] returns.

mod backoff;
mod config;
mod explain;
mod fetch;
mod fit;
mod frames;
mod give;
pub mod health;
mod identity;
mod join;
mod keep;
mod link;
mod member;
mod objects;
mod pin;
mod renew;
mod replica;
mod report;
mod said;
mod sequel;
mod watch;

pub use config::{ControlConfig, ReplicaConfig};
pub use fetch::{ByteStream, FetchError, PACK_RAW_BYTES_MAX};
pub use identity::IdentityError;
pub use keep::KeepError;
pub use link::LinkError;
pub use member::{Credentials, Member};
pub use nigh_dial::ControlUrls;
pub use objects::ObjectError;
pub use replica::{Follower, OpenError, Replica};
pub use report::Standing;
