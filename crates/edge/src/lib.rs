//! Serves sites from this machine's own disk over HTTP/1.1 and HTTP/2.
//!
//! `server` starts it all. Requests: `connection` accepts and bounds them (`places`,
//! `conduct`, `stall`, `line_ends`, `tls` with `certificates` and `tickets`), `service` counts and logs them, `answer` decides with `authority` and `respond` what they get,
//! `body` sends it. What is served is a `world`, an immutable snapshot. The way there: the replica
//! brings a state, `stager` sees what it needs, `stage` fetches through `intake` from `peers` or a `source`: the `bucket` where control has one,
//! `load` builds releases, `credentials` takes certificates over once `proof` says that they work. `shelf` holds bytes in memory; `checked`, `heal` and `upkeep` keep those on
//! disk whole.

mod access_log;
mod answer;
mod authority;
mod body;
mod bucket;
mod certificates;
mod checked;
mod conduct;
mod config;
mod connection;
mod credentials;
mod edge;
mod give_back;
mod heal;
mod intake;
mod line_ends;
mod load;
mod machine_metrics;
mod metrics;
mod peers;
mod places;
mod plain;
mod proof;
mod respond;
mod server;
mod service;
mod shelf;
mod source;
mod stage;
mod stager;
mod stall;
mod tickets;
mod tls;
mod upkeep;
mod world;

pub use access_log::{AccessLogConfig, Format, LogFileError, Output};
pub use config::{
    EdgeConfig, HttpConfig, HttpsConfig, InvalidConfig, LimitsConfig, OpsConfig, PeersConfig,
    StorageConfig,
};
pub use server::{EdgeServer, StartError};
pub use source::{BlobSource, Fetching, Outlining};
