//! What any long-running program needs: one way to start, to be watched, to reload and to stop.
//!
//! `clock` tells the time. `logging` writes what happened, `metrics` counts it and `readiness` says
//! what is still missing; `ops` shows the last two to operators. `tasks` owns background work.
//! `listen` binds sockets and `sockets` takes those that systemd bound. `signals` and `notify`
//! talk to whoever supervises the process. `role` puts them together: a role that is started is
//! bound, a role that is stopped is drained. Nothing here knows what a role does, and nothing
//! reads the environment: the caller passes values in.

pub mod clock;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod ops;
pub mod readiness;
pub mod role;
pub mod signals;
pub mod sockets;
pub mod tasks;

pub use clock::Clock;
pub use listen::{BindError, TcpListen, UdpListen};
pub use logging::LogConfig;
pub use metrics::Metrics;
pub use notify::Notify;
pub use readiness::Readiness;
pub use role::{Context, Role, Setup, run};
pub use signals::{Signal, Signals};
pub use sockets::Sockets;
pub use tasks::Tasks;
