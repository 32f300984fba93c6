//! What does a machine tell control of itself, and when?

use std::time::{Duration, Instant, SystemTime};

use nigh_proto::{
    Timestamp,
    report::{MachineAbout, REPORT_MS, Report, SiteReport},
    state::Revision,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{backoff, health::Sampler, uplink::Uplink};

/// What the role knows: sent by it on every change, passed on at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The revision that the role has acted on.
    pub applied: Option<Revision>,
    /// Edges: one per site of the state.
    pub sites: Vec<SiteReport>,
}

/// Posts `facts` on every change and at least every [`REPORT_MS`], until `stop`.
pub(crate) async fn run(
    uplink: watch::Receiver<Option<Uplink>>,
    about: MachineAbout,
    mut facts: watch::Receiver<Facts>,
    mut sampler: Sampler,
    stop: CancellationToken,
) {
    let started = Instant::now();
    let mut failures = 0;
    loop {
        let now = facts.borrow_and_update().clone();
        let current = uplink.borrow().clone();
        if let Some(uplink) = current {
            let report = Report {
                about: about.clone(),
                revision: now.applied,
                sites: now.sites,
                health: sampler.sample(started.elapsed()),
                sent_at: this_moment(),
            };
            match uplink.report(&report).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(error = %chain(&error), "control did not take the report");
                }
            }
        }
        let pause = match failures {
            0 => Duration::from_millis(REPORT_MS),
            failures => backoff::wait(failures, backoff::random()) + Duration::from_millis(50),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = facts.changed(), if failures == 0 => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// This machine's clock, so that control can warn of one that is wrong.
fn this_moment() -> Timestamp {
    SystemTime::now().into()
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
