//! A fleet of real processes, and what tests and the demo need around one.
//!
//! `place` says where edges and visitors are. `listeners` and `process` run one `nigh serve` child;
//! `config` writes what it reads; `ports` finds addresses for edges; `layout` remembers them. `fleet`
//! puts control, DNS servers and edges together; `postgres` is a database server for it. `visitor` fetches like a browser, `dig` asks like a
//! resolver, `tree` makes and compares folders; `mmdb` with `geo_fixture` makes a world of networks.

pub mod config;
pub mod dig;
pub mod fleet;
pub mod geo_fixture;
mod layout;
pub mod listeners;
pub mod mmdb;
pub mod pebble;
pub mod place;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod tree;
mod visitor;

pub use fleet::{Fleet, FleetBuilder, Machine};
pub use place::Place;
pub use process::Process;
pub use visitor::{Visit, Visitor};
