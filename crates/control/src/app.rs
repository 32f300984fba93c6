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
mod effective;
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
mod publication;
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
use nigh_proto::{Digest, MachineId, MachineName, Manifest, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    blobs::Blobs,
    ca::Authorities,
    certificates::issuers::Issuers,
    controls::{Desk, Leader},
    fleet::{
        World, board::Board, edition::Editions, offers::Offers, presence::Statuses, wanted::Wanted,
    },
    machines::turned_away::TurnedAway,
    metrics::ControlMetrics,
    store::{Store, StoreError, Tx},
};

use access::Access;
pub(crate) use access::NoEntry;
pub(crate) use authorities::load_or_make;
pub(crate) use begin::Begun;
pub(crate) use certificates::AcmeBoard;
pub(crate) use effective::Effective;
pub(crate) use error::AppError;
pub(crate) use events::EventFilter;
pub(crate) use expected::{Expected, with_live};
pub(crate) use prune::surplus;
pub(crate) use takeover::Counted;
pub(crate) use tokens::Secret;
pub(crate) use webhooks::webhook_view;

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
