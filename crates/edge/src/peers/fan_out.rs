//! How does an edge get what it misses from its peers, and when does it go to control instead?
//!
//! In rounds: some peers are asked what they have of it, each is asked for a share, and what came
//! is missing no more. Nobody waits for long: a peer that is gone, slow or damaged is left out, and
//! when nothing comes for as long as the plan says, control is asked for a part, and peers again.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use nigh_core::blob::{InsertError, Store};
use nigh_proto::{
    Digest, MachineName, ReleaseId,
    pack::PackHead,
    state::{MachineState, Peer},
};
use nigh_replica::{FetchError, Replica};
use tokio::{sync::Semaphore, time::sleep};

use super::{
    ask::{Asking, Holding, PeerSource},
    pieces::Pieces,
    plan::{self, Course},
};
use crate::{
    intake::{self, IntakeError},
    load::Missing,
    source::{BlobSource, Counting},
};

/// Peers that are asked in one round.
const ASKED_MAX: usize = 3;
/// Between two rounds that bring nothing.
const ROUND_WAIT: Duration = Duration::from_millis(100);
/// However busy peers say they are: without a blob for so long, and the time that the largest one may
/// take, control is asked.
const STILL_MAX: Duration = Duration::from_secs(30);
/// Slower than this no blob is expected to come.
const BYTES_PER_S_MIN: u64 = 1 << 20;

/// Fetches from peers; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FanOut {
    store: Store,
    replica: Replica,
    asking: Asking,
    counting: Counting,
    pieces: Pieces,
    is_enabled: bool,
}

/// The way to the blobs of one release, on which one has come so far.
#[derive(Debug)]
pub(crate) struct Way {
    order: Vec<Peer>,
    patience: Duration,
    round: usize,
    /// What each peer said it had fetched when it was asked last.
    seen_bytes: HashMap<MachineName, u64>,
}

impl Way {
    /// Whether one of these peers has fetched something since it was asked before.
    fn see<'a>(&mut self, seen: impl Iterator<Item = (&'a Peer, &'a Holding)>) -> bool {
        let mut is_coming = false;
        for (peer, holding) in seen {
            let before = self.seen_bytes.insert(peer.name.clone(), holding.fetched_bytes);
            is_coming |= before.is_some_and(|before| before < holding.fetched_bytes);
        }
        is_coming
    }
}

impl FanOut {
    pub(crate) fn new(
        store: Store,
        replica: Replica,
        counting: Counting,
        pieces: Pieces,
        is_enabled: bool,
    ) -> Self {
        let asking = Asking::new(replica.clone());
        FanOut { store, replica, asking, counting, pieces, is_enabled }
    }

    /// A large blob from control or the bucket, so that peers can have its pieces at once.
    pub(crate) async fn fetch_large(
        &self,
        source: &dyn BlobSource,
        missing: Missing,
    ) -> Result<(), IntakeError> {
        match self.is_enabled && self.has_peers() {
            true => self.pieces.fetch(source, missing).await,
            false => intake::fetch_blob(&self.store, source, missing).await,
        }
    }

    /// Whether there are edges that may fetch from this one.
    fn has_peers(&self) -> bool {
        let state = self.replica.state();
        let state = state.borrow();
        matches!(state.as_deref(), Some(MachineState::Edge(state)) if state.peers.len() >= plan::EDGES_MIN)
    }

    /// How to get at `missing`; `None` when control is the way.
    pub(crate) fn way(&self, release: &ReleaseId, missing: &[Missing]) -> Option<Way> {
        if !self.is_enabled {
            return None;
        }
        let bytes = missing.iter().map(|one| one.size_bytes).sum();
        let state = self.replica.state();
        let state = state.borrow();
        let Some(MachineState::Edge(state)) = state.as_deref() else { return None };
        match plan::course(self.replica.name(), &state.peers, release, bytes) {
            Course::Control => None,
            Course::Peers { order, patience } => {
                Some(Way { order, patience, round: 0, seen_bytes: HashMap::new() })
            }
        }
    }

    /// Fetches what peers have of `missing`, and takes that out, until nothing is missing or nothing
    /// more comes. `tell` hears how much is left.
    pub(crate) async fn draw(
        &self,
        way: &mut Way,
        missing: &mut Vec<Missing>,
        turns: &Arc<Semaphore>,
        tell: &impl Fn(u64),
    ) {
        let (mut quiet_since, mut still_since) = (Instant::now(), Instant::now());
        loop {
            let before = missing.len();
            missing.retain(|one| !self.store.contains(&one.digest));
            if missing.is_empty() {
                return;
            }
            if missing.len() < before {
                tell(missing.len() as u64);
                (quiet_since, still_since) = (Instant::now(), Instant::now());
            }
            match self.round(way, missing, turns).await {
                Round::Fetched => continue,
                Round::Coming => quiet_since = Instant::now(),
                Round::Quiet => {}
            }
            let still_max = STILL_MAX + way_of(missing);
            if quiet_since.elapsed() >= way.patience || still_since.elapsed() >= still_max {
                // Who has waited once goes on at once.
                way.patience = Duration::ZERO;
                return;
            }
            sleep(ROUND_WAIT).await;
        }
    }

    /// Asks some peers what they have, and fetches that.
    async fn round(&self, way: &mut Way, missing: &[Missing], turns: &Arc<Semaphore>) -> Round {
        let peers = self.choose(way);
        let asked = &missing[..missing.len().min(PackHead::MAX_BLOBS)];
        let digests: Vec<Digest> = asked.iter().map(|one| one.digest).collect();
        let holdings = join_all(peers.iter().map(|peer| self.holding(peer, &digests))).await;
        let has = |peer: usize, index: usize| {
            holdings[peer].as_ref().is_some_and(|holding: &Holding| holding.has(index))
        };
        let shares = plan::assign(asked, peers.len(), has);
        let seen = peers.iter().zip(&holdings);
        let is_coming = way.see(seen.filter_map(|(peer, holding)| Some((peer, holding.as_ref()?))));
        let fetched = peers.iter().zip(shares).map(|(peer, share)| self.fetch(peer, share, turns));
        let is_any = join_all(fetched).await.contains(&true);
        match (is_any, is_coming) {
            (true, _) => Round::Fetched,
            (false, true) => Round::Coming,
            (false, false) => Round::Quiet,
        }
    }

    /// The best peer, and others by turns.
    fn choose(&self, way: &mut Way) -> Vec<Peer> {
        let usable: Vec<&Peer> =
            way.order.iter().filter(|peer| !self.asking.is_avoided(peer)).collect();
        let Some((first, others)) = usable.split_first() else { return Vec::new() };
        let start = way.round * (ASKED_MAX - 1);
        way.round = way.round.wrapping_add(1);
        let turn =
            (0..others.len().min(ASKED_MAX - 1)).map(|at| others[(start + at) % others.len()]);
        [*first].into_iter().chain(turn).cloned().collect()
    }

    async fn holding(&self, peer: &Peer, digests: &[Digest]) -> Option<Holding> {
        match self.asking.have(peer, digests).await {
            Ok(holding) => Some(holding),
            Err(error) => {
                let error = nigh_daemon::logging::causes(&error);
                tracing::debug!(peer = %peer.name, error, "a peer did not say what it has");
                self.asking.avoid_gone(peer);
                None
            }
        }
    }

    /// Fetches `share` from `peer`; whether anything came.
    async fn fetch(&self, peer: &Peer, share: Vec<Missing>, turns: &Arc<Semaphore>) -> bool {
        let is_large = |one: &Missing| one.size_bytes > u64::from(PackHead::MAX_BLOB_BYTES);
        let (large, small): (Vec<Missing>, Vec<Missing>) = share.into_iter().partition(is_large);
        let source = PeerSource { asking: &self.asking, peer };
        let source = self.counting.of(&source, "peer");
        let mut is_any = false;
        if !small.is_empty() {
            let Ok(_turn) = turns.acquire().await else { return is_any };
            let digests: Vec<Digest> = small.iter().map(|one| one.digest).collect();
            let fetched = intake::fetch_pack(&self.store, &source, &digests).await;
            is_any |= self.judge(peer, fetched.map(drop));
        }
        for one in large {
            if self.asking.is_avoided(peer) {
                break;
            }
            let Ok(_turn) = turns.acquire().await else { return is_any };
            is_any |= self.judge(peer, self.pieces.fetch(&source, one).await);
        }
        is_any
    }

    /// Whether it came, and what that says of the peer.
    fn judge(&self, peer: &Peer, fetched: Result<(), IntakeError>) -> bool {
        let Err(error) = fetched else { return true };
        let causes = nigh_daemon::logging::causes(&error);
        tracing::debug!(peer = %peer.name, error = causes, "a peer did not send what it has");
        match error {
            // Part of it came.
            IntakeError::Incomplete { .. } => return true,
            // It has less of it than is here.
            IntakeError::Fetch(FetchError::Refused { status: 404, .. }) => {}
            // Another release is fetching the same.
            IntakeError::Insert(InsertError::Busy { .. }) | IntakeError::Stopping => {}
            IntakeError::Insert(InsertError::Full { .. } | InsertError::Write { .. }) => {}
            IntakeError::Insert(InsertError::Receive { .. } | InsertError::Truncated)
            | IntakeError::Fetch(_)
            | IntakeError::Receive(_) => self.asking.avoid_gone(peer),
            IntakeError::Insert(_) | IntakeError::TooLong { .. } => {
                self.asking.avoid_damaged(peer);
            }
        }
        false
    }
}

/// How long the largest of these blobs may take.
fn way_of(missing: &[Missing]) -> Duration {
    let largest = missing.iter().map(|one| one.size_bytes).max().unwrap_or(0);
    Duration::from_secs(largest / BYTES_PER_S_MIN)
}

/// What a round brought.
enum Round {
    Fetched,
    /// Nothing yet, but a peer is at it.
    Coming,
    Quiet,
}
