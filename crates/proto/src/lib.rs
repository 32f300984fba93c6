//! Words and messages that cross a process boundary, parsed on the way in.
//!
//! `digest`, `names`, `path`, `ids` and `time` are the words. `manifest`, `rules`, `pack` and
//! `variants` are documents that travel as blobs. `state`, `watch`, `report` and `locations` are what control
//! and a machine say to each other, `protocol` whether they can, and `document` is a state in pieces that can be changed; `api` is what control and people say to each other.
//! Nothing here does I/O, reads a clock or trusts its input.

pub mod access;
pub mod api;
pub mod audit;
pub mod digest;
pub mod document;
pub mod ids;
pub mod locations;
pub mod manifest;
pub mod names;
pub mod pack;
pub mod path;
pub mod protocol;
pub mod refill;
pub mod report;
pub mod rules;
mod schema;
pub mod state;
pub mod time;
pub mod variants;
pub mod watch;
pub mod zone;

pub use digest::Digest;
pub use ids::{FleetId, MachineId, OperationId, ReleaseId, TokenId, WebhookId};
pub use manifest::{Entry, Manifest};
pub use names::{Host, MachineName, PreviewName, RegionName, SiteName};
pub use path::SitePath;
pub use protocol::Protocols;
pub use time::Timestamp;
