//! What has to be fetched, loaded, activated, dropped and reported for the newest state?
//!
//! One task owns all of it. It acts on states and on what release tasks say, and swaps in a new
//! [`World`] each time.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use nigh_daemon::{Tasks, readiness::Condition};
use nigh_proto::{
    ReleaseId, SiteName,
    report::{SiteReport, StageFailure},
    state::{EdgeState, MachineState, SiteState},
};
use nigh_replica::{Replica, Standing};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use crate::{
    credentials::Credentials,
    edge::Edge,
    load::{Loaded, Looked, Wanted, grace_until, wanted_form},
    stage::{Event, Progress, Stage},
    world::{self, Releases, Served, World},
};

/// How often the age of what lags is brought up to date.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Makes the edge what its state says.
pub(crate) struct Stager {
    pub(crate) edge: Arc<Edge>,
    pub(crate) replica: Replica,
    pub(crate) stage: Stage,
    pub(crate) tasks: Tasks,
    pub(crate) readiness: Condition,
    pub(crate) served_path: PathBuf,
    releases: Releases,
    served: Served,
    credentials: Credentials,
    work: HashMap<ReleaseId, Work>,
    turns: HashMap<SiteName, Arc<Mutex<()>>>,
    lagging_since: Option<Instant>,
}

/// A release that is being staged.
struct Work {
    wanted: Wanted,
    cancel: CancellationToken,
    missing_blobs: u64,
    failure: Option<String>,
}

impl Stager {
    pub(crate) fn new(
        edge: Arc<Edge>,
        replica: Replica,
        stage: Stage,
        tasks: Tasks,
        readiness: Condition,
        served_path: PathBuf,
    ) -> Self {
        Stager {
            credentials: Credentials::new(&edge),
            edge,
            replica,
            stage,
            tasks,
            readiness,
            served: read_served(&served_path),
            served_path,
            releases: Releases::new(),
            work: HashMap::new(),
            turns: HashMap::new(),
            lagging_since: None,
        }
    }

    /// Loads everything that is on disk already, so that the first visitor is served from it.
    pub(crate) async fn load_from_disk(&mut self) {
        let state = self.replica.state();
        let state = state.borrow().clone();
        let Some(MachineState::Edge(state)) = state.as_deref() else { return };
        let wanted = wanted(state);
        let looked = join_all(wanted.iter().map(|wanted| self.stage.look_now(wanted))).await;
        for (wanted, looked) in wanted.iter().zip(looked) {
            match looked {
                Some(Ok(Looked::Found(loaded))) => {
                    self.releases.insert(wanted.reference.id.clone(), Arc::from(loaded));
                }
                Some(Err(error)) => {
                    let error = nigh_daemon::logging::causes(&error);
                    tracing::error!(release = %wanted.reference.id, error, "not loaded from disk");
                }
                Some(Ok(_)) | None => {}
            }
        }
        self.take_state(state).await;
    }

    /// Follows states and release tasks until the edge stops.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut state = self.replica.state();
        let stopping = self.tasks.stopping().clone();
        let mut lag = tokio::time::interval(LAG_EVERY);
        self.act(&mut state).await;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.act(&mut state).await;
                }
                Some((id, progress)) = events.recv() => self.take_progress(&state, id, progress).await,
                _ = lag.tick() => self.show_lag(),
            }
        }
    }

    async fn act(&mut self, state: &mut watch::Receiver<Option<Arc<MachineState>>>) {
        let newest = state.borrow_and_update().clone();
        if let Some(MachineState::Edge(newest)) = newest.as_deref() {
            self.take_state(newest).await;
        }
    }

    async fn take_state(&mut self, state: &EdgeState) {
        let wanted = wanted(state);
        let ids: HashSet<&ReleaseId> = wanted.iter().map(|wanted| &wanted.reference.id).collect();
        self.releases.retain(|id, _| ids.contains(id));
        self.work.retain(|id, work| {
            let is_kept = ids.contains(id);
            if !is_kept {
                work.cancel.cancel();
            }
            is_kept
        });
        let sites: HashSet<&SiteName> = state.sites.iter().map(|site| &site.name).collect();
        self.turns.retain(|site, _| sites.contains(site));
        self.served.retain(|site, _| sites.contains(site));
        self.credentials.take(state).await;
        for wanted in wanted {
            self.begin(wanted);
        }
        self.publish(state).await;
    }

    /// Starts what has to be done for a release, if anything has.
    fn begin(&mut self, wanted: Wanted) {
        let id = wanted.reference.id.clone();
        let is_done = self.releases.get(&id).is_some_and(|loaded| suits(loaded, &wanted));
        match self.work.get(&id) {
            Some(work)
                if work.wanted.reference == wanted.reference && work.wanted.form == wanted.form =>
            {
                return;
            }
            Some(work) => work.cancel.cancel(),
            None => {}
        }
        if is_done {
            self.work.remove(&id);
            return;
        }
        let turn = Arc::clone(self.turns.entry(wanted.site.clone()).or_default());
        let cancel = self.tasks.stopping().child_token();
        let work = self.stage.clone().run(wanted.clone(), turn);
        let cancelled = cancel.clone();
        self.tasks.spawn("stage", async move {
            cancelled.run_until_cancelled(work).await;
        });
        self.work.insert(id, Work { wanted, cancel, missing_blobs: 0, failure: None });
    }

    async fn take_progress(
        &mut self,
        state: &watch::Receiver<Option<Arc<MachineState>>>,
        id: ReleaseId,
        progress: Progress,
    ) {
        // A task that was cancelled may have said a last word.
        let Some(work) = self.work.get_mut(&id) else { return };
        match progress {
            Progress::Missing(count) => {
                work.missing_blobs = count;
                work.failure = None;
            }
            Progress::Failed(reason) => work.failure = Some(reason),
            Progress::Loaded(loaded) => {
                work.missing_blobs = 0;
                work.failure = None;
                self.releases.insert(id, Arc::from(loaded));
            }
            Progress::Done => drop(self.work.remove(&id)),
        }
        let state = state.borrow().clone();
        if let Some(MachineState::Edge(state)) = state.as_deref() {
            self.publish(state).await;
        }
    }

    /// Serves what is here, and says so.
    async fn publish(&mut self, state: &EdgeState) {
        let metrics = Arc::clone(&self.edge.metrics);
        let world = World::plan(state, &self.releases, &self.served, |site| metrics.site(site));
        self.edge.world.store(Arc::new(world));
        self.readiness.set_ready();
        let served = self.now_served(state);
        let sites = state.sites.iter().map(|site| self.report(site, &served)).collect();
        self.replica.report(Standing {
            revision: Some(state.revision),
            sites,
            certificates: self.credentials.reports(),
        });
        let is_lagging =
            state.sites.iter().any(|site| site.active.as_ref() != served.get(&site.name));
        self.lagging_since =
            is_lagging.then(|| self.lagging_since.unwrap_or_else(|| self.edge.clock.instant()));
        self.show_lag();
        if served != self.served {
            self.show_served(&served);
            self.served = served;
            self.keep_served().await;
        }
    }

    fn now_served(&self, state: &EdgeState) -> Served {
        let served = state.sites.iter().filter_map(|site| {
            let loaded = world::choose(site, &self.releases, &self.served)?;
            Some((site.name.clone(), loaded.release.id().clone()))
        });
        served.collect()
    }

    fn report(&self, site: &SiteState, served: &Served) -> SiteReport {
        let active = served.get(&site.name);
        let is_staged = |id: &ReleaseId| {
            self.releases.get(id).is_some_and(|loaded| loaded.is_complete) || active == Some(id)
        };
        let ids = || site.releases.iter().map(|release| &release.id);
        let failed = ids().filter(|id| !is_staged(id)).filter_map(|id| {
            let reason = self.work.get(id)?.failure.clone()?;
            Some(StageFailure { release: id.clone(), reason })
        });
        let newest_missing = ids().find(|id| !is_staged(id)).and_then(|id| self.work.get(id));
        SiteReport {
            site: site.name.clone(),
            staged: ids().filter(|id| is_staged(id)).cloned().collect(),
            active: active.cloned(),
            failed: failed.collect(),
            missing_blobs: newest_missing.map_or(0, |work| work.missing_blobs),
        }
    }

    fn show_lag(&self) {
        let now = self.edge.clock.instant();
        let lag = self.lagging_since.map_or(0.0, |since| (now - since).as_secs_f64());
        self.edge.metrics.release_lag.set(lag);
    }

    fn show_served(&self, served: &Served) {
        let info = &self.edge.metrics.release_info;
        info.clear();
        for (site, release) in served {
            let labels = vec![("site", site.to_string()), ("release", release.to_string())];
            info.get_or_create(&labels).set(1);
            if self.served.get(site) != Some(release) {
                tracing::info!(%site, %release, "serves {release}");
            }
        }
    }

    /// For the next start: what was served once may be served again, even if blobs are damaged.
    async fn keep_served(&self) {
        let (path, served) = (self.served_path.clone(), self.served.clone());
        let kept = spawn_blocking(move || {
            let text = serde_json::to_vec(&served).map_err(std::io::Error::from)?;
            nigh_durable::write(&path, &text)
        });
        if let Ok(Err(error)) = kept.await {
            tracing::error!(%error, "could not write {}", self.served_path.display());
        }
    }
}

fn read_served(path: &std::path::Path) -> Served {
    let bytes = nigh_durable::read_optional(path).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Whether a loaded release is all that is wanted of it.
fn suits(loaded: &Loaded, wanted: &Wanted) -> bool {
    loaded.is_complete && loaded.form == wanted.form && loaded.variants == wanted.reference.variants
}

/// Every release of the state, those first that visitors wait for.
fn wanted(state: &EdgeState) -> Vec<Wanted> {
    let mut all = Vec::new();
    for site in &state.sites {
        let mut grace = 0;
        for reference in &site.releases {
            let is_active = site.active.as_ref() == Some(&reference.id);
            let place = (grace_until(reference).is_some() && !is_active).then(|| {
                grace += 1;
                grace - 1
            });
            let urgency = if is_active { 0 } else { 1 + usize::from(place.is_some()) };
            let form = wanted_form(place);
            let wanted = Wanted { site: site.name.clone(), reference: reference.clone(), form };
            all.push((urgency, wanted));
        }
    }
    all.sort_by_key(|(urgency, _)| *urgency);
    all.into_iter().map(|(_, wanted)| wanted).collect()
}
