//! How do people and their tools talk to control?
//!
//! `router` is the flat list of every route, with its description. A handler is: who, may they, do
//! it, show it; the verbs are in `app`. `caller` finds out who, `problem` is the one place where
//! errors become answers, `body` takes bodies in with a bound, `json` reads them, `segments`
//! takes paths apart, `parameters` looks at queries and header fields.

mod audit;
mod backup;
mod blobs;
mod body;
mod browse;
mod ca;
mod caller;
mod certificates;
mod conditional;
mod description;
mod events;
mod idempotency;
mod json;
mod leftover;
mod machines;
mod operations;
mod page;
mod parameters;
pub(crate) mod problem;
mod releases;
mod router;
mod segments;
mod sites;
mod status;
mod takeover;
mod tokens;
mod webhooks;

pub(crate) use blobs::{PACK_MAX_BYTES, put_blob};
pub(crate) use body::{Large, OfMachine, expect_media_type};
pub(crate) use page::Params;
#[cfg(test)]
pub(crate) use router::description;
pub(crate) use router::{guard, router};
pub(crate) use segments::Segments;
