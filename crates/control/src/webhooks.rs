//! How are events told to a server that cannot ask?
//!
//! A webhook is a cursor into the log of events: what it has not been told yet is whatever lies
//! behind the cursor, so there is no queue and no copy per delivery. Events go one after the other;
//! one that fails is tried again with growing waits for a day. `target` says where a webhook may
//! go, `signature` how a receiver knows that control sends, `send` makes one request, and
//! `schedule` decides when the next one is due.

mod schedule;
mod send;
mod signature;
mod target;
mod trust;

pub(crate) use schedule::{After, Failing, after_failure};
pub(crate) use send::{DELIVERY_TIMEOUT, Delivery, SendError, send};
pub(crate) use signature::{base64, new_secret, sign};
pub(crate) use target::{BadTarget, Target};
#[expect(unreachable_pub, reason = "a source of `StartError`")]
pub use trust::TrustError;
pub(crate) use trust::client_config;
