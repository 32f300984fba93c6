//! Which certificates are asked for now?
//!
//! The plan says what there should be, the limits say when, and a few orders run at once. Hosts that
//! come one after the other are waited for a moment, so that they share a certificate. Renewal
//! information is asked for as often as CAs want (RFC 9773).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nigh_proto::{Host, SiteName, Timestamp, api::EventKind, zone::DnsName};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Leader, Reconcile};
use crate::{
    app::{App, AppError},
    certificates::{
        account::account,
        limits::{History, Hold, MEMORY_MS},
        order::{Errand, identifier},
        plan::{Held, Plan, Request, Situation, plan},
    },
    config::CertificatesConfig,
    store::{CertificateRow, Source, in_this_term},
};

/// When nothing rings.
const WAIT: Duration = Duration::from_secs(10);
/// Passes are at least this far apart: everything that is published rings.
const APART: Duration = Duration::from_millis(300);
/// Orders at once.
const AT_ONCE: usize = 4;
/// One order, with all that it waits for.
const ERRAND_MAX: Duration = Duration::from_secs(15 * 60);
/// New hosts are waited for until none came for this long, and no longer than [`SETTLE_MAX`].
const SETTLE: Duration = Duration::from_secs(1);
const SETTLE_MAX: Duration = Duration::from_secs(15);
const HOUR_MS: i64 = 60 * 60 * 1000;
/// How often a CA is asked when to renew, whatever it says.
const ASK_MIN_MS: i64 = 60 * 1000;
const ASK_MAX_MS: i64 = 24 * HOUR_MS;

/// Asks CAs for what the plan wants.
#[derive(Debug)]
pub(crate) struct Acme {
    app: App,
    errands: JoinSet<()>,
    looked_at: Option<Instant>,
    news: News,
}

/// Hosts that have no certificate yet, and since when there were no others.
#[derive(Debug, Default)]
struct News {
    hosts: BTreeSet<DnsName>,
    since: Option<(Instant, Instant)>,
}

impl News {
    /// Whether enough time has passed without more of them.
    fn is_settled(&mut self, hosts: BTreeSet<DnsName>, now: Instant) -> bool {
        if hosts.is_empty() {
            *self = Self::default();
            return true;
        }
        let (first, last) = self.since.get_or_insert((now, now));
        if hosts != self.hosts {
            *last = now;
            self.hosts = hosts;
        }
        now.saturating_duration_since(*last) >= SETTLE
            || now.saturating_duration_since(*first) >= SETTLE_MAX
    }
}

impl Acme {
    pub(crate) fn new(app: App) -> Self {
        Self { app, errands: JoinSet::new(), looked_at: None, news: News::default() }
    }

    /// What there is to do, seen now.
    async fn plan(&self, held: &[CertificateRow], history: &History) -> Result<Plan, AppError> {
        let effective = self.app.effective();
        let sites: Vec<(SiteName, Vec<Host>)> = self
            .app
            .world()
            .sites
            .iter()
            .map(|site| (site.name.clone(), site.hosts.clone()))
            .collect();
        let zones: Vec<DnsName> =
            effective.settings.zones.iter().map(|zone| zone.name.clone()).collect();
        let held: Vec<Held> = held.iter().map(Held::from).collect();
        let candidates = self.app.store().candidates().await?;
        let candidates: BTreeMap<String, Vec<DnsName>> =
            candidates.into_iter().map(|row| (row.id, row.names)).collect();
        Ok(plan(&Situation {
            now: self.app.now(),
            domain: &effective.config.sites.domain,
            preview_domain: effective.config.sites.preview_domain(),
            zones: &zones,
            names_max: effective.config.certificates.names_max as usize,
            sites: &sites,
            held: &held,
            candidates: &candidates,
            troubled: &history.troubled(),
        }))
    }

    /// Removes what no host needs.
    async fn remove(&self, surplus: &[String]) -> Result<(), AppError> {
        if surplus.is_empty() {
            return Ok(());
        }
        let mut tx = self.app.store().begin().await?;
        for id in surplus {
            tx.delete_certificate(id).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.app.publish().await?;
        tracing::info!(
            certificates_total = surplus.len(),
            "certificates that no host needs are gone"
        );
        Ok(())
    }

    /// Takes back challenges that a control which ended in the middle has left.
    async fn tidy(&self, plan: &Plan) -> Result<(), AppError> {
        let left: BTreeSet<String> = {
            let board = self.app.acme_board();
            let is_needed = |id: &str| {
                board.running.contains_key(id)
                    || plan.requests.iter().any(|request| request.id == id)
            };
            let world = self.app.world();
            let ids = world.challenges.iter().map(|row| row.id.clone());
            ids.filter(|id| !is_needed(id)).collect()
        };
        if left.is_empty() {
            return Ok(());
        }
        let mut tx = self.app.store().begin().await?;
        for id in &left {
            tx.end_acme_order(id).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        Ok(self.app.publish().await?)
    }

    /// Sends off what may be asked for now; the rest waits, and says why.
    fn send_off(&mut self, plan: Plan, held: &[CertificateRow], history: &History) -> Vec<Hold> {
        let effective = self.app.effective();
        let config = &effective.config.certificates;
        let now = self.app.now();
        let mut waiting = BTreeMap::new();
        let news = plan.requests.iter().filter(|request| !request.is_renewal);
        let news = news.flat_map(|request| request.names.iter().cloned()).collect();
        let is_settled = self.news.is_settled(news, self.app.instant());
        for request in plan.requests {
            if self.app.acme_board().running.contains_key(&request.id) {
                continue;
            }
            match choose(config, history, &request, now) {
                Ok(index) if self.errands.len() < AT_ONCE && (request.is_renewal || is_settled) => {
                    let current = held.iter().find(|row| row.id == request.id).cloned();
                    self.begin(request, config, index, current);
                }
                Ok(_) => {}
                Err(hold) => drop(waiting.insert(request.id, (request.names, hold))),
            }
        }
        let holds = waiting.values().map(|(_, hold)| hold.clone()).collect();
        let mut board = self.app.acme_board();
        board.waiting = waiting;
        board.bare = plan.bare;
        holds
    }

    fn begin(
        &mut self,
        request: Request,
        config: &CertificatesConfig,
        index: usize,
        current: Option<CertificateRow>,
    ) {
        let (app, ca) = (self.app.clone(), config.acme[index].clone());
        let id = request.id.clone();
        app.acme_board().running.insert(id.clone(), request.names.clone());
        let running = Running { app: app.clone(), id };
        tracing::info!(certificate.id = %request.id, names_total = request.names.len(), ca = ca.directory,
            "{} is asked for the certificate {}", ca.directory, request.id);
        let errand = app.issuers().of(&ca).map(|issuer| {
            let errand = Errand { app: app.clone(), issuer, request, current };
            in_this_term(async move { errand.run().await })
        });
        self.errands.spawn(async move {
            let running = running;
            let done = match errand {
                // What went wrong is remembered whoever leads by then: it happened.
                Ok(errand) => {
                    match tokio::time::timeout(ERRAND_MAX, errand).await {
                        Ok(done) => done,
                        Err(_) => Err(crate::certificates::trouble::Fault::of_id(
                            &running.id,
                            format!("it took longer than {ERRAND_MAX:?}"),
                        )),
                    }
                }
                Err(fault) => Err(fault),
            };
            app.metrics().acme_order(done.is_ok());
            if let Err(fault) = done {
                tracing::warn!(certificate.id = %running.id, error = %fault, "there is no certificate {}: {fault}", running.id);
                let why = fault.to_string();
                if let Err(error) = record_failure(&app, &running.id, &why).await {
                    tracing::error!(%error, "no event tells of {}", running.id);
                }
                if let Err(error) = fault.remember(&app, &ca.directory).await {
                    tracing::error!(%error, "what went wrong with {} is not remembered", ca.directory);
                }
            }
        });
    }

    /// Asks CAs when they would have their certificates renewed.
    async fn ask_when(&self, held: &[CertificateRow]) -> Result<(), AppError> {
        let now = self.app.now();
        // One that someone wants renewed now stays so.
        let is_due = |row: &&CertificateRow| {
            row.source == Source::Acme
                && row.ask_at.is_none_or(|at| at <= now)
                && row.renew_at.is_none_or(|at| at > now)
        };
        let mut silent: BTreeSet<&str> = BTreeSet::new();
        for row in held.iter().filter(is_due) {
            let ca = row.ca.as_deref().unwrap_or_default();
            let asked = if silent.contains(ca) { None } else { self.window(row, now).await };
            // A CA that does not answer changes nothing of what it said before.
            let (renew_at, ask_at) = asked.unwrap_or_else(|| {
                silent.insert(ca);
                (row.renew_at, now.plus_ms(HOUR_MS))
            });
            let mut tx = self.app.store().begin().await?;
            tx.set_renewal(&row.id, renew_at, Some(ask_at)).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// When to renew, and when to ask again; `None` when the CA does not answer.
    async fn window(
        &self,
        row: &CertificateRow,
        now: Timestamp,
    ) -> Option<(Option<Timestamp>, Timestamp)> {
        let effective = self.app.effective();
        let cas = &effective.config.certificates.acme;
        let never = Some((None, now.plus_ms(ASK_MAX_MS)));
        let Some(ca) = cas.iter().find(|ca| row.ca.as_deref() == Some(ca.directory.as_str()))
        else {
            return never;
        };
        let issuer = self.app.issuers().of(ca).ok()?;
        if !issuer.directory().await.ok()?.has_renewal_info {
            return never;
        }
        let account = account(&self.app, &issuer).await.ok()?;
        let (info, wait) = account.renewal_info(&identifier(&row.chain_pem)?).await.ok()?;
        let window = info.suggested_window;
        let at = |seconds: i64| Timestamp::from_unix_ms(seconds.saturating_mul(1000));
        let (start, end) = (at(window.start.unix_timestamp()), at(window.end.unix_timestamp()));
        // It was said in seconds, and a moment ago.
        let wait_s = (wait + Duration::from_millis(500)).as_secs();
        let wait_ms = i64::try_from(wait_s.saturating_mul(1000)).unwrap_or(ASK_MAX_MS);
        let ask_at = now.plus_ms(wait_ms.clamp(ASK_MIN_MS, ASK_MAX_MS));
        Some((Some(within(row.renew_at, start, end)), ask_at))
    }
}

/// A moment in the window; the one that was drawn before, as long as it still lies there.
fn within(before: Option<Timestamp>, start: Timestamp, end: Timestamp) -> Timestamp {
    match before {
        Some(before) if start <= before && before <= end => before,
        _ => {
            let length = end.ms_since(start).max(0).unsigned_abs();
            let drawn = u64::from_le_bytes(crate::random::random()) % (length + 1);
            start.plus_ms(i64::try_from(drawn).unwrap_or(0))
        }
    }
}

fn choose(
    config: &CertificatesConfig,
    history: &History,
    request: &Request,
    now: Timestamp,
) -> Result<usize, Hold> {
    let cas: Vec<&str> = config.acme.iter().map(|ca| ca.directory.as_str()).collect();
    let patience_ms = i64::try_from(config.fallback_after_ms).unwrap_or(i64::MAX);
    history.choose(&cas, &request.id, &request.names, patience_ms, now)
}

async fn record_failure(app: &App, id: &str, why: &str) -> Result<(), AppError> {
    let site = super::proving::site_of(id);
    let mut tx = app.store().begin().await?;
    let data = json!({ "reason": why });
    tx.record(app.now(), EventKind::CertificateFailed, site.as_ref(), id, data).await?;
    Ok(tx.commit().await?)
}

/// On the board until it is dropped, however the errand ends.
struct Running {
    app: App,
    id: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.app.acme_board().running.remove(&self.id);
        self.app.certifying().notify_one();
    }
}

impl Reconcile for Acme {
    const NAME: &'static str = "acme";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.app.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        while self.errands.try_join_next().is_some() {}
        self.app.show_certificate_ends();
        // Of several controls on one database only the one that leads comes further than this.
        if !self.app.is_acme() {
            self.news = News::default();
            *self.app.acme_board() = crate::app::AcmeBoard::default();
            return Ok(WAIT);
        }
        let started = self.app.instant();
        let since = self.looked_at.map(|at| started.saturating_duration_since(at));
        if let Some(rest) = since.and_then(|since| APART.checked_sub(since)) {
            return Ok(rest);
        }
        self.looked_at = Some(started);
        self.app.refresh().await?;
        let now = self.app.now();
        let held = self.app.store().certificates().await?;
        self.ask_when(&held).await?;
        let held = self.app.store().certificates().await?;
        let history = self.app.store().acme_history().await?;
        if history.events.first().is_some_and(|event| now.ms_since(event.at) > MEMORY_MS) {
            let mut tx = self.app.store().begin().await?;
            tx.expire_events(now.plus_ms(-MEMORY_MS)).await?;
            tx.commit().await?;
        }
        let plan = self.plan(&held, &history).await?;
        self.remove(&plan.surplus).await?;
        self.tidy(&plan).await?;
        let is_busy = !plan.requests.is_empty();
        let holds = self.send_off(plan, &held, &history);
        let due = held.iter().filter(|row| row.source == Source::Acme);
        let due = due.map(|row| Held::from(row).due_at());
        let next = holds.iter().map(|hold| hold.until).chain(due).filter(|at| *at > now);
        let soonest = next.map(|at| at.ms_since(now).max(0).unsigned_abs()).min();
        let soonest = soonest.map_or(WAIT, Duration::from_millis);
        // Orders that wait for a place, or for more hosts, are not rung for.
        let longest = if is_busy { SETTLE } else { WAIT };
        Ok(soonest.clamp(APART, longest))
    }
}

#[cfg(test)]
mod tests;
