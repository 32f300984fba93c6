//! What can be done with the fleet, by whom it may be asked for aside?
//!
//! [`App`] is control without its listeners: the database, the blobs, the CA and what machines
//! last said. Each verb of the API is a method in a module of this folder, where its transaction
//! begins and ends. A verb that changes what machines are told raises the revision in that
//! transaction and [`publish`](App::publish)es afterwards.

mod access;
mod activation;
mod audit;
mod authorities;
mod begin;
mod certificates;
mod error;
mod events;
mod expected;
mod finalize;
#[cfg(test)]
pub(crate) mod fixture;
mod hosts;
mod machines;
mod protocols;
mod prune;
mod quotas;
mod releases;
mod sites;
mod takeover;
#[cfg(test)]
mod tests;
mod tokens;
mod views;
mod webhooks;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use nigh_daemon::Clock;
use nigh_proto::{Digest, FleetId, MachineId, MachineName, Manifest, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    blobs::Blobs,
    ca::Authorities,
    certificates::issuers::Issuers,
    config::{CertificateMode, ControlConfig, InvalidConfig},
    controls::{Desk, Leader},
    fleet::{
        World, board::Board, edition::Editions, offers::Offers, presence::Statuses,
        state::Settings, wanted::Wanted,
    },
    machines::turned_away::TurnedAway,
    metrics::ControlMetrics,
    store::{CertificateRow, Source, Store, StoreError, Tx},
};

use access::Access;
pub(crate) use access::NoEntry;
pub(crate) use authorities::load_or_make;
pub(crate) use begin::Begun;
pub(crate) use certificates::AcmeBoard;
pub(crate) use error::AppError;
pub(crate) use events::EventFilter;
pub(crate) use expected::{Expected, with_live};
pub(crate) use prune::surplus;
pub(crate) use takeover::Counted;
pub(crate) use tokens::Secret;
pub(crate) use webhooks::webhook_view;

/// The certificate for hosts of previews.
const PREVIEWS_CERTIFICATE: &str = "previews";
/// Encoding waits this long after the last sign of a push.
const PUSH_QUIET_MS: i64 = 5_000;

/// Control without its listeners; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: RwLock<Arc<Effective>>,
    store: Store,
    blobs: Blobs,
    authorities: RwLock<Arc<Authorities>>,
    clock: Clock,
    metrics: ControlMetrics,
    version: &'static str,
    world: watch::Sender<Arc<World>>,
    editions: Mutex<Editions>,
    /// Held while the world is read and published, so that an older one never replaces a newer.
    publishing: tokio::sync::Mutex<()>,
    statuses: Mutex<Statuses>,
    board: Mutex<Board>,
    desk: Desk,
    leader: Leader,
    /// Rings when a release has come further.
    progress: watch::Sender<()>,
    /// The number of the newest event; rings when there are newer ones.
    events: watch::Sender<u64>,
    /// Streams of events that may be open at once.
    event_places: Arc<Semaphore>,
    /// Wakes `reconcile::webhooks`.
    webhooks_due: Notify,
    webhook_tls: Arc<rustls::ClientConfig>,
    /// Wakes `reconcile::progress`.
    reported: Notify,
    /// Blobs that edges are asked for.
    wanted: Mutex<Wanted>,
    /// Wakes `reconcile::refill`.
    refilled: Notify,
    /// States of another fleet that machines hold.
    offers: Mutex<Offers>,
    /// Machines that were said to hold such a state.
    held_told: Mutex<BTreeSet<MachineId>>,
    /// Rings when control's CAs are others.
    trust: Notify,
    /// Wakes the pass that rotates them.
    rotating: Notify,
    /// Wakes the pass that renews certificates of sites.
    renewing: Notify,
    pushed_at: AtomicI64,
    /// The manifest of the release that began last: its finalization need not read it again.
    begun: Mutex<Option<(Digest, Arc<Manifest>)>>,
    /// The CAs that are asked for certificates.
    issuers: Issuers,
    acme: Mutex<AcmeBoard>,
    /// Wakes `reconcile::acme`.
    certify: Notify,
    /// Wakes `reconcile::proving`.
    proving: Notify,
    access: Access,
    turned_away: Mutex<TurnedAway>,
    stopping: CancellationToken,
}

/// The configuration with everything that follows from it.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(crate) config: ControlConfig,
    pub(crate) settings: Arc<Settings>,
}

impl Effective {
    pub(crate) fn new(config: ControlConfig) -> Result<Self, InvalidConfig> {
        config.check()?;
        let zones = config.zones.iter().map(|zone| zone.resolve(0)).collect::<Result<_, _>>()?;
        let networks =
            config.networks.iter().map(|network| network.resolve()).collect::<Result<_, _>>()?;
        let settings = Arc::new(Settings {
            https_redirect: config.sites.https_redirect
                && config.certificates.mode != CertificateMode::None,
            grace_releases_max: config.sites.grace_releases_max as usize,
            zones,
            networks,
            steered_ttl_s: config.dns.ttl_s,
            answer_addresses_max: config.dns.answer_addresses_max,
        });
        Ok(Self { config, settings })
    }
}

/// What an [`App`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) effective: Effective,
    pub(crate) store: Store,
    pub(crate) leader: Leader,
    pub(crate) blobs: Blobs,
    pub(crate) authorities: Authorities,
    pub(crate) clock: Clock,
    pub(crate) metrics: ControlMetrics,
    pub(crate) version: &'static str,
    /// Whose certificates webhooks may show.
    pub(crate) webhook_tls: Arc<rustls::ClientConfig>,
    /// Cancelled when control is told to stop: open streams end.
    pub(crate) stopping: CancellationToken,
}

impl App {
    /// Control as the database and the configuration describe it, with nobody heard of yet.
    pub(crate) async fn start(parts: Parts) -> Result<Self, AppError> {
        let Parts {
            effective,
            store,
            leader,
            blobs,
            authorities,
            clock,
            metrics,
            version,
            webhook_tls,
            stopping,
        } = parts;
        let event_places = Arc::new(Semaphore::new(effective.config.events.streams_max));
        let desk = Desk::new(store.is_shared());
        let app = App(Arc::new(Inner {
            config: RwLock::new(Arc::new(effective)),
            store,
            blobs,
            authorities: RwLock::new(Arc::new(authorities)),
            metrics,
            version,
            world: watch::Sender::new(Arc::default()),
            editions: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
            statuses: Mutex::new(Statuses::new(clock.instant())),
            board: Mutex::default(),
            desk,
            leader,
            progress: watch::Sender::new(()),
            events: watch::Sender::new(0),
            event_places,
            webhooks_due: Notify::new(),
            webhook_tls,
            reported: Notify::new(),
            wanted: Mutex::default(),
            refilled: Notify::new(),
            offers: Mutex::default(),
            held_told: Mutex::default(),
            trust: Notify::new(),
            rotating: Notify::new(),
            renewing: Notify::new(),
            pushed_at: AtomicI64::new(i64::MIN),
            begun: Mutex::default(),
            issuers: Issuers::default(),
            acme: Mutex::default(),
            certify: Notify::new(),
            proving: Notify::new(),
            access: Access::default(),
            turned_away: Mutex::default(),
            stopping,
            clock,
        }));
        app.apply_config().await?;
        Ok(app)
    }

    /// Takes a new configuration; machines hear of what it changes.
    pub(crate) async fn reload(&self, effective: Effective) -> Result<(), AppError> {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(effective);
        self.apply_config().await?;
        // Even when machines are told nothing new, other certificates may be wanted.
        self.0.certify.notify_one();
        Ok(())
    }

    /// Raises the revision when the settings say something else than those that the last revision
    /// was made with. A thousand machines that come back to a control that has only been restarted
    /// are told nothing.
    async fn apply_config(&self) -> Result<(), AppError> {
        let effective = self.effective();
        let mode = effective.config.certificates.mode;
        let settings = format!("{} {mode:?} {:?}", self.version(), effective.settings);
        let mut tx = self.store().begin().await?;
        let mut has_changed = tx.set_settings(Digest::of(settings.as_bytes())).await?;
        has_changed |= tx.name_fleet(&FleetId::new(self.unix_ms(), random())).await?;
        match mode {
            CertificateMode::Internal => {
                let previews = self.previews_certificate()?;
                let there = tx.certificate(PREVIEWS_CERTIFICATE).await?;
                if there.is_none_or(|there| there.names != previews.names) {
                    tx.put_certificate(&previews).await?;
                    has_changed = true;
                }
                has_changed |= self.certify_sites(&mut tx).await?;
            }
            // `reconcile::acme` does what is to be done; until then what is there serves.
            CertificateMode::Acme => {}
            CertificateMode::None => tx.delete_made_certificates().await?,
        }
        if has_changed {
            tx.raise_revision().await?;
        }
        tx.commit().await?;
        self.publish().await?;
        Ok(())
    }

    fn previews_certificate(&self) -> Result<CertificateRow, AppError> {
        let wildcard = format!("*.{}", self.effective().config.sites.preview_domain());
        self.issue(PREVIEWS_CERTIFICATE, &[wildcard])
    }

    /// A new certificate of control's own CA for `names`.
    pub(crate) fn issue(&self, id: &str, names: &[String]) -> Result<CertificateRow, AppError> {
        let issued = self.authority().issue(names, self.now())?;
        let names = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(CertificateRow {
            id: id.to_owned(),
            names,
            chain_pem: issued.chain_pem,
            key_pem: issued.key_pem,
            not_before: issued.not_before,
            not_after: issued.not_after,
            source: Source::Internal,
            ca: None,
            renew_at: None,
            ask_at: None,
        })
    }

    /// Publishes what was committed when nobody has done so yet: after an error in between, and
    /// before a verb that builds on what its caller may have seen committed already.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        if self.0.store.revision().await? > self.world().revision {
            self.publish().await?;
        }
        Ok(())
    }

    /// Shows what was committed to every machine's stream and everyone who waits.
    pub(crate) async fn publish(&self) -> Result<(), StoreError> {
        let _alone = self.0.publishing.lock().await;
        // Another who waited for the lock may have published this too.
        let shown = self.world().revision;
        if shown > 0 && self.0.store.revision().await? == shown {
            return Ok(());
        }
        let world = Arc::new(self.0.store.world().await?);
        self.adopt(&world.authorities);
        self.0.metrics.revision.set(i64::try_from(world.revision).unwrap_or(i64::MAX));
        let settings = Arc::clone(&self.effective().settings);
        self.editions().publish(Arc::clone(&world), settings, self.now());
        self.forget_strangers(&world);
        self.0.world.send_replace(world);
        self.0.reported.notify_one();
        self.0.certify.notify_one();
        self.0.proving.notify_one();
        self.0.progress.send_replace(());
        self.ring_events().await
    }

    /// Forgets what was said by machines that were removed or have joined again, on whichever
    /// control that was.
    fn forget_strangers(&self, world: &World) {
        for before in &self.world().machines {
            if world.machine(&before.name).is_none_or(|row| row.id != before.id) {
                self.statuses().forget(&before.name);
            }
        }
        self.0.desk.forget_strangers(world);
    }

    pub(crate) fn effective(&self) -> Arc<Effective> {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// What other controls on the database are told.
    pub(crate) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    /// Whether this control does what only one of several may do.
    pub(crate) fn leader(&self) -> &Leader {
        &self.0.leader
    }

    /// Begins a transaction that counts only while this control leads.
    pub(crate) async fn begin_leading(&self) -> Result<Tx, StoreError> {
        self.0.leader.begin(&self.0.store).await
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// Who vouches, as of now.
    pub(crate) fn authority(&self) -> Arc<Authorities> {
        Arc::clone(&self.0.authorities.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rings when control's CAs are others than before.
    pub(crate) fn trust_changed(&self) -> &Notify {
        &self.0.trust
    }

    pub(crate) fn renewing(&self) -> &Notify {
        &self.0.renewing
    }

    pub(crate) fn rotating(&self) -> &Notify {
        &self.0.rotating
    }

    fn access(&self) -> &Access {
        &self.0.access
    }

    pub(crate) fn metrics(&self) -> &ControlMetrics {
        &self.0.metrics
    }

    pub(crate) fn world(&self) -> Arc<World> {
        Arc::clone(&self.0.world.borrow())
    }

    /// Follows every newer world; a slow follower sees only the newest.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<World>> {
        self.0.world.subscribe()
    }

    /// What machines are told, and were told at the revisions before.
    pub(crate) fn editions(&self) -> MutexGuard<'_, Editions> {
        self.0.editions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn statuses(&self) -> MutexGuard<'_, Statuses> {
        self.0.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log that a machine which goes by `name` was refused, unless it knows.
    pub(crate) fn turn_away(&self, name: &MachineName, why: &dyn std::fmt::Display) {
        let mut said = self.0.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        said.tell(name, why, self.instant());
    }

    fn begun(&self) -> MutexGuard<'_, Option<(Digest, Arc<Manifest>)>> {
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn acme_board(&self) -> MutexGuard<'_, AcmeBoard> {
        self.0.acme.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn issuers(&self) -> &Issuers {
        &self.0.issuers
    }

    /// Wakes the pass that asks for certificates.
    pub(crate) fn certifying(&self) -> &Notify {
        &self.0.certify
    }

    /// Wakes the pass that has certificates proven.
    pub(crate) fn proving(&self) -> &Notify {
        &self.0.proving
    }

    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings whenever some release may have come further.
    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.0.progress.subscribe()
    }

    pub(crate) fn ring_progress(&self) {
        self.0.progress.send_replace(());
    }

    /// Wakes the pass that decides about staging releases and lagging edges.
    pub(crate) fn reported(&self) -> &Notify {
        &self.0.reported
    }

    /// A place for one more stream of events, if there is one.
    pub(crate) fn event_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.event_places).try_acquire_owned().ok()
    }

    /// Wakes the pass that tells webhooks of events.
    pub(crate) fn webhooks_due(&self) -> &Notify {
        &self.0.webhooks_due
    }

    pub(crate) fn ring_webhooks(&self) {
        self.0.webhooks_due.notify_one();
    }

    pub(crate) fn webhook_tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.0.webhook_tls)
    }

    /// Blobs that releases need and control has not.
    pub(crate) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the pass that looks for missing blobs.
    pub(crate) fn refilled(&self) -> &Notify {
        &self.0.refilled
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    pub(crate) fn version(&self) -> &'static str {
        self.0.version
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now().into()
    }

    pub(crate) fn instant(&self) -> Instant {
        self.0.clock.instant()
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        self.now().unix_ms().max(0).unsigned_abs()
    }

    /// Notes that someone is pushing: background work makes room.
    pub(crate) fn push_goes_on(&self) {
        self.0.pushed_at.store(self.now().unix_ms(), Ordering::Relaxed);
    }

    /// Whether a push was heard of lately, or edges are fetching.
    pub(crate) fn is_pushing(&self) -> bool {
        let quiet_ms =
            self.now().unix_ms().saturating_sub(self.0.pushed_at.load(Ordering::Relaxed));
        quiet_ms < PUSH_QUIET_MS || self.world().staging().next().is_some()
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system always has random bytes");
    bytes
}
