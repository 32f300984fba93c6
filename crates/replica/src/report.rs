//! When is control told how things stand?
//!
//! At once when something changes, and every [`REPORT_MS`]. Changes that come while a report is
//! on its way are in the next one: control always gets the newest, never a queue of old ones. What
//! control acknowledged is left out of the next report, and told again once in [`WHOLE_EVERY`].

use std::time::Duration;

use nigh_proto::{
    Timestamp,
    refill::{ANSWER_MAX_BYTES, ReportAnswer},
    report::{
        CONTROL_TIME, CertificateReport, Health, REPORT_MAX_BYTES, REPORT_MS, REPORT_NUMBER,
        Report, SiteReport,
    },
    state::Revision,
};
use tokio::time::Instant;

use crate::{
    backoff,
    fit::fit,
    health::Sampler,
    link::{self, CallError},
    replica::Shared,
    said::Said,
    sequel::{Known, sequel},
};

/// A report that is not answered within this time has failed.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// However well control remembers, it is told everything this often.
const WHOLE_EVERY: Duration = Duration::from_secs(60);

/// A clock that is further off is worth saying: expiries and certificates are then wrong.
const CLOCK_AHEAD_MAX_MS: i64 = 5_000;

/// How things stand on a machine, as its role knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The revision on disk and acted on.
    pub revision: Option<Revision>,
    /// Edges: one per site of the state.
    pub sites: Vec<SiteReport>,
    /// Edges: one per certificate and candidate of the state.
    pub certificates: Vec<CertificateReport>,
}

/// Reports until it is dropped.
pub(crate) async fn report_for_ever(shared: &Shared) {
    let mut standing = shared.standing.subscribe();
    let mut credentials = shared.presented.subscribe();
    let mut clock_said = Said::default();
    let mut sampler = Some(Sampler::new(&shared.state_dir, std::time::Instant::now()));
    let (mut failures, mut said) = (0, Said::default());
    let (mut number, mut known): (u64, Option<Known>) = (0, None);
    loop {
        let newest = standing.borrow_and_update().clone();
        credentials.mark_unchanged();
        sampler = sample(sampler, shared).await;
        let sent_at = Instant::now();
        number += 1;
        let base = known.take().filter(|known| known.whole_at.elapsed() < WHOLE_EVERY);
        let wait = match post(shared, newest.clone(), base.as_ref(), number).await {
            // This control knows nothing of the report before, and is told everything.
            Ok(posted) if base.is_some() && !posted.is_known => continue,
            Ok(posted) => {
                failures = 0;
                if posted.is_known && posted.left_out.is_none() {
                    let whole_at = base.map_or(sent_at, |base| base.whole_at);
                    known = Some(Known { number, standing: newest, whole_at });
                }
                say_what_is_left_out(posted.left_out, &mut said);
                say_clock(shared, &mut clock_said);
                Duration::from_millis(REPORT_MS)
            }
            Err(error) => {
                say_why(shared, &error, &mut said);
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
            changed = credentials.changed() => if changed.is_err() { return },
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

/// The watch says that control is away; that it is there and refuses is news.
fn say_why(shared: &Shared, error: &CallError, said: &mut Said) {
    let why = shared.told(error);
    if matches!(error, CallError::Refused { .. }) && said.is_news(&why) {
        tracing::warn!(why, "control does not take this machine's reports");
    } else {
        tracing::debug!(why, "control did not take a report");
    }
}

fn say_clock(shared: &Shared, said: &mut Said) {
    let Some(ahead_ms) = *shared.clock_ahead_ms.borrow() else { return };
    if ahead_ms.abs() <= CLOCK_AHEAD_MAX_MS {
        return said.forget();
    }
    let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
    if said.is_news(which) {
        let (now, by) = ((shared.now)(), ahead_ms.abs());
        tracing::error!(
            ahead_ms,
            "this machine's clock says {now}, {by} ms {which} control's: set it (NTP), or \
             certificates and expiries go wrong"
        );
    }
}

fn say_what_is_left_out(left_out: Option<&'static str>, said: &mut Said) {
    match left_out {
        None => said.forget(),
        Some(what) if said.is_news(what) => {
            tracing::warn!("too much to report in {REPORT_MAX_BYTES} bytes: left out {what}");
        }
        Some(_) => {}
    }
}

/// What became of a report.
struct Posted {
    /// What there was no space for.
    left_out: Option<&'static str>,
    /// Whether control will remember what it says.
    is_known: bool,
}

/// Says how things stand, as far as control does not know it.
async fn post(
    shared: &Shared,
    standing: Standing,
    known: Option<&Known>,
    number: u64,
) -> Result<Posted, CallError> {
    let Some(link) = shared.link() else { return Err(not_joined()) };
    let health: Health = *shared.health.borrow();
    let revision = standing.revision;
    let (sites, certificates, sequel) = sequel(known, standing, number);
    let (about, sent_at) = (shared.about.clone(), (shared.now)());
    let credentials = shared.presented.borrow().clone();
    let report = Report {
        about,
        revision,
        sites,
        certificates,
        health,
        sent_at,
        credentials,
        holding: shared.holding(),
        sequel,
    };
    let fitted = fit(report, REPORT_MAX_BYTES).map_err(|error| CallError::Garbled(error.into()))?;
    let request = link
        .talk()
        .post(link.url("machine/v1/report"))
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .body(fitted.body);
    let response = link::call(request, POST_TIMEOUT).await?;
    let control = response.headers().get(CONTROL_TIME).and_then(|time| time.to_str().ok());
    if let Some(control) = control.and_then(|time| time.parse::<Timestamp>().ok()) {
        // Control looked at its clock somewhere between the two looks at this one.
        let ahead_ms = sent_at.ms_since(control).midpoint((shared.now)().ms_since(control));
        shared.clock_ahead_ms.send_replace(Some(ahead_ms));
    }
    let acknowledged = response.headers().get(REPORT_NUMBER).and_then(|told| told.to_str().ok());
    let is_known = acknowledged.and_then(|told| told.parse().ok()) == Some(number);
    hear(shared, response).await?;
    Ok(Posted { left_out: fitted.left_out, is_known })
}

/// Takes in what control asks for. No body: nothing.
async fn hear(shared: &Shared, response: reqwest::Response) -> Result<(), CallError> {
    let body = link::bounded(response, ANSWER_MAX_BYTES).await?;
    if body.is_empty() {
        return Ok(());
    }
    let answer: ReportAnswer =
        serde_json::from_slice(&body).map_err(|error| CallError::Garbled(error.into()))?;
    if !answer.wanted.is_empty() {
        shared.wanted.send_replace(answer.wanted.into());
    }
    if answer.wants_state {
        shared.state_wanted.notify_one();
    }
    Ok(())
}

fn not_joined() -> CallError {
    CallError::Garbled("this machine has not joined".into())
}
