//! What promises across roles are told with; the promises themselves are in `tests/`.
//!
//! `binary` is the program under test. `cdn` is a fleet with one site and somebody at a terminal,
//! who is in `person`; `certified` is one whose certificates come from a CA. `patience` waits for what must come. `audience` fetches every file from every
//! edge, `curl` asks one edge, `browser` is a real one, `vault` looks at every blob on disk, `proxy` is a network that breaks
//! on demand.

pub mod audience;
pub mod binary;
pub mod browser;
pub mod cdn;
pub mod certified;
pub mod curl;
pub mod patience;
pub mod person;
pub mod proxy;
pub mod vault;

pub use cdn::Cdn;
pub use patience::eventually;
pub use person::{Person, Pushed, Run};
