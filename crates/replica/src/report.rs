//! When is control told how things stand?
//!
//! At once when something changes, and every [`REPORT_MS`]. Changes that come while a report is
//! on its way are in the next one: control always gets the newest, never a queue of old ones.

use std::time::Duration;

use nigh_proto::{
    report::{Health, REPORT_MAX_BYTES, REPORT_MS, Report, SiteReport},
    state::Revision,
};
use tokio::time::{Instant, timeout};

use crate::{
    backoff,
    health::Sampler,
    link::{self, CallError},
    replica::Shared,
};

/// A report that is not answered within this time has failed.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// How things stand on a machine, as its role knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The revision on disk and acted on.
    pub revision: Option<Revision>,
    /// Edges: one per site of the state.
    pub sites: Vec<SiteReport>,
}

/// Reports until it is dropped.
pub(crate) async fn report_for_ever(shared: &Shared) {
    let mut standing = shared.standing.subscribe();
    let mut sampler = Some(Sampler::new(&shared.state_dir, std::time::Instant::now()));
    let mut failures = 0;
    loop {
        let newest = standing.borrow_and_update().clone();
        sampler = sample(sampler, shared).await;
        let sent_at = Instant::now();
        let wait = match post(shared, newest).await {
            Ok(()) => {
                failures = 0;
                Duration::from_millis(REPORT_MS)
            }
            Err(error) => {
                // The watch says at a louder level that control is away.
                tracing::debug!(error = link::causes(&error), "control did not take a report");
                failures += 1;
                backoff::wait(failures, backoff::random())
            }
        };
        let next = tokio::time::sleep_until(sent_at + wait);
        if failures > 0 {
            // A change does not make an unreachable control reachable.
            tokio::select! { () = next => {}, () = shared.reconnected.notified() => {} }
            continue;
        }
        tokio::select! {
            () = next => {}
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
}

/// Measures on a thread that may wait for the disk.
async fn sample(sampler: Option<Sampler>, shared: &Shared) -> Option<Sampler> {
    let mut sampler = sampler?;
    let measured = tokio::task::spawn_blocking(move || {
        let health = sampler.sample(std::time::Instant::now());
        (sampler, health)
    });
    let (sampler, health) = measured.await.ok()?;
    shared.health.send_replace(health);
    Some(sampler)
}

async fn post(shared: &Shared, standing: Standing) -> Result<(), CallError> {
    let Some(link) = shared.link() else { return Err(not_joined()) };
    let health: Health = *shared.health.borrow();
    let Standing { revision, sites } = standing;
    let report =
        Report { about: shared.about.clone(), revision, sites, health, sent_at: (shared.now)() };
    let body = serde_json::to_vec(&report).map_err(|error| CallError::Garbled(error.into()))?;
    if body.len() > REPORT_MAX_BYTES {
        let bytes = body.len();
        tracing::error!(bytes, "this report is longer than control takes: too many sites");
    }
    let request = link
        .talk()
        .post(link.url("machine/v1/report"))
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .body(body);
    match timeout(POST_TIMEOUT, async { link::success(request.send().await).await }).await {
        Ok(answered) => answered.map(drop),
        Err(elapsed) => Err(CallError::Garbled(elapsed.into())),
    }
}

fn not_joined() -> CallError {
    CallError::Garbled("this machine has not joined".into())
}
