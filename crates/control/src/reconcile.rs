//! What brings the fleet in line with the database?
//!
//! Each pass compares and acts and is told nothing about what changed; doing it twice does no
//! harm, so a lost wake-up costs a delay and never a wrong result. `progress` lets releases go
//! live, `expiry` ends what is over, `events` follows and bounds the log of events, `webhooks` tells
//! of them, `renewal` replaces certificates of the own CA, `own` those of control and `rotation` that
//! CA, `acme` asks public CAs, `proving` has an edge try what they made, `tickets` makes keys for TLS
//! sessions, `refill` finds blobs that are missing, `collection` gives disk back, `cache` keeps folder
//! and bucket in line, `scrub` finds damaged blobs, `books` keeps control's own records and `health`
//! says whether control can write.

pub(crate) mod acme;
pub(crate) mod books;
pub(crate) mod cache;
pub(crate) mod collection;
pub(crate) mod events;
pub(crate) mod expiry;
pub(crate) mod health;
pub(crate) mod own;
pub(crate) mod progress;
pub(crate) mod proving;
pub(crate) mod refill;
pub(crate) mod renewal;
pub(crate) mod rotation;
pub(crate) mod scrub;
pub(crate) mod tickets;
pub(crate) mod webhooks;

use std::{error::Error, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::controls::Leader;

/// Brings one part of the fleet in line with what the database says it should be.
pub(crate) trait Reconcile: Send + 'static {
    const NAME: &'static str;

    type Error: Error + Send + 'static;

    /// Who says which control does it, when only one of several may. Whatever the pass writes is
    /// refused when another one leads since.
    fn led_by(&self) -> Option<Leader> {
        None
    }

    /// How long to wait at most until the next pass.
    fn pass(&mut self) -> impl Future<Output = Result<Duration, Self::Error>> + Send;
}

/// After a pass that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Runs `task` when `changed` rings and whenever it asked for, until `stop`.
pub(crate) async fn run<T: Reconcile>(mut task: T, changed: &Notify, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let passed = match task.led_by() {
            None => task.pass().await,
            Some(mut leader) => {
                if stop.run_until_cancelled(leader.elected()).await.is_none() {
                    return;
                }
                leader.leading(task.pass()).await
            }
        };
        let wait = match passed {
            Ok(wait) => wait,
            Err(error) => {
                let error = nigh_daemon::logging::causes(&error);
                tracing::warn!(task = T::NAME, error, "{} failed, next try in {RETRY:?}", T::NAME);
                RETRY
            }
        };
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}
