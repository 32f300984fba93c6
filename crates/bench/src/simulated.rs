//! A machine that does at once what control tells it, and has no disk.
//!
//! It speaks the machine protocol as `docs/PROTOCOL.md` has it, over connections with a certificate
//! of its own, and is light enough for a thousand of them in one process: a report names what the
//! state names, without a blob behind it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use nigh_client::Client;
use nigh_proto::{
    MachineName, ReleaseId, Timestamp,
    api::NewJoinToken,
    document::{Document, Items},
    report::{Health, JoinResponse, MachineRole, REPORT_MS, REPORT_NUMBER},
    state::SiteState,
    watch::{Frame, SILENCE_MAX_MS},
};
use reqwest::header::CONTENT_TYPE;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use tokio::{sync::Notify, sync::mpsc::UnboundedSender, time::timeout};

use crate::http::{builder, http};

/// The longest wait before control is dialled again; machines wait as long.
const REDIAL_MAX: Duration = Duration::from_secs(5);

/// Everything is told this often; machines do the same.
const WHOLE_EVERY: Duration = Duration::from_secs(60);

/// A machine has acted on a revision.
#[derive(Clone, Debug)]
pub struct Applied {
    pub machine: usize,
    pub at: Instant,
    /// What it serves for the site [`WATCHED`].
    pub active: Option<ReleaseId>,
}

/// The site whose activations are measured.
pub const WATCHED: &str = "bench";

/// What all simulated machines share.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of watch streams, without TLS.
    pub watched_bytes: AtomicU64,
    pub whole_states: AtomicU64,
    pub changes: AtomicU64,
    pub reports: AtomicU64,
    pub reported_bytes: AtomicU64,
    pub connected: AtomicU64,
}

/// One machine.
#[derive(Debug)]
pub struct Simulated {
    number: usize,
    about: serde_json::Value,
    url: String,
    tls: ClientConfig,
    applied: UnboundedSender<Applied>,
    counters: Arc<Counters>,
}

/// What is said of each site. Shared, so that a thousand machines on the cores of the control that
/// is measured take little of them.
type Sites = BTreeMap<Arc<str>, Arc<serde_json::Value>>;

/// What it would have on its disk.
#[derive(Debug, Default)]
struct Kept {
    document: Document,
    sites: Arc<Sites>,
}

/// What control is told of sites, and at which revision.
#[derive(Clone, Debug, Default)]
struct Said {
    revision: u64,
    sites: Arc<Sites>,
}

impl Simulated {
    /// Joins the fleet whose machine port is at `url`.
    pub async fn join(
        client: &Client,
        url: &str,
        ca_pem: &str,
        number: usize,
        applied: UnboundedSender<Applied>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let name: MachineName = format!("m{number:04}").parse()?;
        let about = json!({
            "role": "edge", "name": name, "region": format!("region-{}", number % 20),
            "location": {"latitude": (number % 90) as f64, "longitude": (number % 180) as f64},
            "ipv4": [format!("198.51.{}.{}", 100 + number / 250, 1 + number % 250)], "ipv6": [],
            "ports": {"http": 80, "https": 443, "dns": 0}, "version": env!("CARGO_PKG_VERSION"),
        });
        let new = NewJoinToken { role: MachineRole::Edge, name, expires_ms: None };
        let token = client.create_join_token(&new).await?.token;
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
        let request = json!({ "token": token, "csr_pem": csr, "about": about });
        let stranger = builder(ca_pem)?.with_no_client_auth();
        let response =
            http(&stranger)?.post(format!("{url}/machine/v1/join")).json(&request).send().await?;
        let joined: JoinResponse = response.error_for_status()?.json().await?;
        let chain = CertificateDer::pem_slice_iter(joined.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
        let tls = builder(&joined.ca_pem)?.with_client_auth_cert(chain, key)?;
        Ok(Simulated { number, about, url: url.to_owned(), tls, applied, counters })
    }

    /// Follows control and reports to it until it is dropped.
    pub async fn run(self) {
        let mut kept = Kept::default();
        let mut failures = 0;
        loop {
            let since = Instant::now();
            let _ended = self.follow(&mut kept).await;
            failures = if since.elapsed() >= REDIAL_MAX { 0 } else { failures + 1 };
            let ceiling = Duration::from_millis(100 << u64::min(failures, 6)).min(REDIAL_MAX);
            tokio::time::sleep(ceiling.mul_f64(fraction())).await;
        }
    }

    async fn follow(&self, kept: &mut Kept) -> Result<()> {
        let http = http(&self.tls)?;
        let mut url = format!("{}/machine/v1/watch?changes=1", self.url);
        if kept.document.revision().0 > 0 {
            let revision = kept.document.revision().0;
            url.push_str(&format!("&since={revision}&have={}", kept.document.digest()));
        }
        let answer = timeout(Duration::from_secs(10), http.get(url).send()).await??;
        let mut response = answer.error_for_status()?;
        let count = Connected::new(&self.counters);
        let (report, changed) = (std::sync::Mutex::new(said(kept)), Notify::new());
        let reports = self.report_for_ever(&http, &report, &changed);
        let watch = async {
            let mut buffer = Vec::new();
            loop {
                let silence = Duration::from_millis(SILENCE_MAX_MS);
                let chunk = timeout(silence, response.chunk()).await??.context("closed")?;
                self.counters.watched_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                buffer.extend_from_slice(&chunk);
                while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    if self.take(serde_json::from_slice(&line)?, kept)? {
                        *report.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                            said(kept);
                        changed.notify_one();
                    }
                }
            }
        };
        let ended = tokio::select! { ended = watch => ended, ended = reports => ended };
        drop(count);
        ended
    }

    /// Whether it is something new.
    fn take(&self, frame: Frame, kept: &mut Kept) -> Result<bool> {
        match frame {
            Frame::State { state } => {
                self.counters.whole_states.fetch_add(1, Ordering::Relaxed);
                let items = state.clone().take_items("sites")?;
                kept.sites = Arc::new(reports(&items)?);
                kept.document = state;
            }
            Frame::Change { change } => {
                self.counters.changes.fetch_add(1, Ordering::Relaxed);
                kept.document = kept.document.changed(&change)?;
                if let Some(sites) = change.lists.get("sites") {
                    let put = sites.put.iter().map(|piece| Arc::clone(&piece.0));
                    let put = reports(&nigh_proto::document::items(put))?;
                    let kept = Arc::make_mut(&mut kept.sites);
                    kept.extend(put);
                    for name in &sites.drop {
                        kept.remove(name.as_str());
                    }
                }
            }
            // What newer controls say besides.
            _ => return Ok(false),
        }
        let active = kept.sites.get(WATCHED).map(|site| site["active"].clone());
        let active = active.and_then(|active| serde_json::from_value(active).ok());
        let _ = self.applied.send(Applied { machine: self.number, at: Instant::now(), active });
        Ok(true)
    }

    /// Report `number`, without what control knows from the one of `known`.
    fn report(&self, said: &Said, known: Option<&(u64, Said, Instant)>, number: u64) -> String {
        let mut sequel = json!({ "number": number });
        let before = known.map(|(since, before, _)| {
            let gone = before.sites.keys().filter(|name| !said.sites.contains_key(*name));
            sequel = json!({
                "number": number, "since": since, "same_certificates": true,
                "gone": gone.map(|name| &**name).collect::<Vec<_>>(),
            });
            &before.sites
        });
        let is_new = |(name, site): &(&Arc<str>, &Arc<serde_json::Value>)| {
            let same = before.and_then(|before| before.get(*name));
            same.is_none_or(|same| !Arc::ptr_eq(same, site) && same != *site)
        };
        let report = json!({
            "about": self.about,
            "revision": said.revision,
            "sites": said.sites.iter().filter(is_new).map(|(_, site)| &**site).collect::<Vec<_>>(),
            "health": Health::default(),
            "sequel": sequel,
            "sent_at": Timestamp::from(SystemTime::now()),
        });
        report.to_string()
    }

    /// At once when something has changed, and every five seconds, not all machines in step.
    async fn report_for_ever(
        &self,
        http: &reqwest::Client,
        report: &std::sync::Mutex<Said>,
        changed: &Notify,
    ) -> Result<()> {
        let every = Duration::from_millis(REPORT_MS);
        // The first one soon, as machines report when they are connected again.
        let mut wait = every.mul_f64(fraction() / 10.0);
        let (mut number, mut known) = (0, None);
        loop {
            let _ = timeout(wait, changed.notified()).await;
            wait = every.mul_f64(0.9 + fraction() / 5.0);
            known = known
                .filter(|(_, _, whole_at): &(u64, Said, Instant)| whole_at.elapsed() < WHOLE_EVERY);
            let said = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            number += 1;
            let body = self.report(&said, known.as_ref(), number);
            self.counters.reports.fetch_add(1, Ordering::Relaxed);
            self.counters.reported_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            let request = http
                .post(format!("{}/machine/v1/report", self.url))
                .header(CONTENT_TYPE, "application/json")
                .body(body);
            let answer = timeout(Duration::from_secs(10), request.send()).await??;
            ensure!(answer.status().is_success(), "a report was refused: {}", answer.status());
            let is_known = answer.headers().contains_key(REPORT_NUMBER);
            if known.is_some() && !is_known {
                wait = Duration::ZERO;
            }
            let whole_at = known.map_or_else(Instant::now, |(_, _, whole_at)| whole_at);
            known = is_known.then_some((number, said, whole_at));
        }
    }
}

fn said(kept: &Kept) -> Said {
    Said { revision: kept.document.revision().0, sites: Arc::clone(&kept.sites) }
}

/// What the machine says of each site: that it has and serves all that it is told.
fn reports(sites: &Items) -> Result<Sites> {
    let report = |site: &serde_json::value::RawValue| -> Result<_> {
        let site: SiteState = serde_json::from_str(site.get())?;
        let staged: Vec<_> = site.releases.iter().map(|release| release.id.clone()).collect();
        let report = json!({
            "site": site.name, "staged": staged, "active": site.active,
            "failed": [], "missing_blobs": 0,
        });
        Ok((site.name.as_str().into(), Arc::new(report)))
    };
    sites.values().map(|site| report(site.as_ref())).collect()
}

/// Counts a connection while it lasts.
struct Connected<'a>(&'a Counters);

impl<'a> Connected<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.connected.fetch_add(1, Ordering::Relaxed);
        Connected(counters)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Anything from 0 to 1.
fn fraction() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    (RandomState::new().build_hasher().finish() % 10_001) as f64 / 10_000.0
}
