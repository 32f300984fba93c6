//! Authoritative answers, nearest healthy edge first.
//!
//! `answer` is the heart: bytes in, bytes out. It reads a `snapshot`, which is `zone`s (names and
//! records) and a `fleet` (edges, sites, health). `locate` places a client by `networks`, `geo` or
//! `coarse`; `steer` picks edges for it; `explain` says why. `query`, `edns` and `reply` know the
//! wire, `name`, `records` and `rr` the words on it. None of these waits or reads a clock.
//!
//! Around them, `probe` asks edges whether they are up, `files` follows GeoIP files and `publish` the
//! state; `responder` holds the current snapshot, `udp` and `tcp` ask it, and `server` owns them all.

pub mod answer;
pub mod coarse;
pub mod config;
mod edns;
pub mod explain;
pub mod files;
#[cfg(test)]
mod fixture;
pub mod fleet;
pub mod geo;
pub mod locate;
mod machine_metrics;
pub mod metrics;
pub mod name;
pub mod networks;
pub mod probe;
mod publish;
mod query;
pub mod records;
mod reply;
pub mod responder;
pub mod rr;
pub mod server;
pub mod snapshot;
pub mod steer;
mod tcp;
mod udp;
pub mod zone;

pub use answer::{Reply, Transport, answer};
pub use config::DnsConfig;
pub use explain::{Explanation, explain};
pub use server::{DnsServer, StartError};
pub use snapshot::{Geo, Snapshot};
