//! What does a role hold of its replica?

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use nigh_dial::Turns;
use nigh_proto::{
    Digest, MachineName, Timestamp,
    document::Document,
    locations::Locations,
    report::{Credentials as Presented, Health, MachineAbout},
    state::{Holding, MachineState, Revision},
};
use tokio::sync::{Notify, watch};

use crate::{
    backoff,
    config::{ControlConfig, ReplicaConfig},
    explain::{Here, explain},
    fetch::{self, ByteStream, FetchError},
    give,
    identity::{Identity, IdentityError, Membership},
    keep::{KeepError, StateFile},
    link::{self, Link},
    member::Credentials,
    objects::{self, ObjectError, Objects},
    report::{self, Standing},
    watch as follow,
};

/// Why a replica was not opened. Control being away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("this machine's identity cannot be used")]
    Identity(#[from] IdentityError),
    #[error("this machine's state cannot be used")]
    Keep(#[from] KeepError),
}

/// A machine's copy of its desired state; cheap to clone, every clone is the same.
#[derive(Clone)]
pub struct Replica(Arc<Shared>);

/// What the parts of a replica share.
pub(crate) struct Shared {
    pub(crate) state_dir: PathBuf,
    pub(crate) control: ControlConfig,
    /// Whose turn it is to be dialled.
    pub(crate) turns: Turns,
    pub(crate) about: MachineAbout,
    pub(crate) now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) file: StateFile,
    /// What `state` was read from; empty while there is none.
    pub(crate) document: watch::Sender<Document>,
    pub(crate) state: watch::Sender<Option<Arc<MachineState>>>,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) health: watch::Sender<Health>,
    /// Blobs that control asked for last.
    pub(crate) wanted: watch::Sender<Arc<[Digest]>>,
    pub(crate) link: watch::Sender<Option<Link>>,
    pub(crate) credentials: watch::Sender<Option<Arc<Credentials>>>,
    pub(crate) connected: watch::Sender<bool>,
    pub(crate) objects: Objects,
    /// What the machine presents and believes, for reports.
    pub(crate) presented: watch::Sender<Presented>,
    /// How far this machine's clock is ahead of control's; `None` until control has said.
    pub(crate) clock_ahead_ms: watch::Sender<Option<i64>>,
    /// Wakes whoever gives control the whole state, when it has asked for it.
    pub(crate) state_wanted: Notify,
    /// Wakes a report that waits for control to come back.
    pub(crate) reconnected: Notify,
}

/// The work of a replica. The role spawns [`run`](Self::run) among its tasks.
#[derive(Debug)]
pub struct Follower {
    replica: Replica,
    identity: Identity,
}

impl Replica {
    /// Reads identity and state from disk; dials nobody. `now` is the time of day, for reports.
    ///
    /// Reads and may write a few small files before it returns.
    pub fn open(
        config: ReplicaConfig,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<(Self, Follower), OpenError> {
        let ReplicaConfig { state_dir, control, about } = config;
        let identity = follow::identity(&state_dir)?;
        let file = StateFile::in_dir(&state_dir);
        let kept = file.load(about.role, &about.name)?;
        let (document, state) =
            kept.map_or_else(Default::default, |kept| (kept.document, Some(Arc::new(kept.state))));
        // 0 says nothing.
        let instance = backoff::random().max(1);
        let replica = Replica(Arc::new(Shared {
            state_dir,
            turns: Turns::new(control.url.clone()),
            control,
            about,
            now: Box::new(now),
            file,
            document: watch::Sender::new(document),
            state: watch::Sender::new(state),
            standing: watch::Sender::default(),
            health: watch::Sender::default(),
            wanted: watch::Sender::new(Arc::default()),
            link: watch::Sender::default(),
            credentials: watch::Sender::default(),
            connected: watch::Sender::default(),
            objects: Objects::default(),
            presented: watch::Sender::new(Presented { instance, ..Presented::default() }),
            clock_ahead_ms: watch::Sender::default(),
            state_wanted: Notify::new(),
            reconnected: Notify::new(),
        }));
        Ok((replica.clone(), Follower { replica, identity }))
    }

    /// The newest state that is on disk, and every later one. `None` until control has sent one.
    pub fn state(&self) -> watch::Receiver<Option<Arc<MachineState>>> {
        self.0.state.subscribe()
    }

    /// Tells control how things stand: at once if it differs from what was said last.
    pub fn report(&self, standing: Standing) {
        self.0.standing.send_if_modified(|last| {
            let is_new = *last != standing;
            *last = standing;
            is_new
        });
    }

    /// Whether the stream from control is open.
    pub fn is_connected(&self) -> bool {
        *self.0.connected.borrow()
    }

    /// Whether the stream from control is open, and every change of it.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.0.connected.subscribe()
    }

    /// What this machine shows to others now; `None` until it has joined.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.0.credentials.borrow().clone()
    }

    /// What the fleet calls this machine.
    pub fn name(&self) -> &MachineName {
        &self.0.about.name
    }

    /// How the machine felt when it last reported, or tried to.
    pub fn health(&self) -> Health {
        *self.0.health.borrow()
    }

    /// When the certificate ends that this machine presents to control; `None` until it has joined.
    pub fn certificate_not_after(&self) -> Option<Timestamp> {
        self.0.presented.borrow().not_after
    }

    /// How far this machine's clock is ahead of control's; `None` until control has said.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        *self.0.clock_ahead_ms.borrow()
    }

    /// A pack of those of `digests` that control has, small blobs only: at most
    /// [`PackHead::MAX_BLOBS`](nigh_proto::pack::PackHead::MAX_BLOBS) of them, whose raw sizes sum to
    /// at most [`PACK_RAW_BYTES_MAX`](crate::PACK_RAW_BYTES_MAX).
    pub async fn fetch_pack(&self, digests: &[Digest]) -> Result<ByteStream, FetchError> {
        let (link, objects) = (self.0.link().ok_or(FetchError::NotJoined)?, &self.0.objects);
        fetch::pack(&link, objects, digests).await
    }

    /// The raw bytes of the blob from `offset` on.
    pub async fn fetch_blob(&self, digest: &Digest, offset: u64) -> Result<ByteStream, FetchError> {
        let (link, objects) = (self.0.link().ok_or(FetchError::NotJoined)?, &self.0.objects);
        fetch::blob(&link, objects, digest, offset).await
    }

    /// What control says of the pieces of a large blob, unverified: no more than `max_bytes`.
    pub async fn fetch_outline(
        &self,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<Bytes, FetchError> {
        let link = self.0.link().ok_or(FetchError::NotJoined)?;
        fetch::outline(&link, digest, max_bytes).await
    }

    /// Whether control keeps its blobs in a bucket that machines may be given URLs of.
    pub fn has_bucket(&self) -> bool {
        self.0.objects.has_bucket()
    }

    /// Where those of `digests` lie that control's bucket has, and what was wrong with objects.
    /// `None` when there is no bucket.
    pub async fn locate(
        &self,
        digests: &[Digest],
        complaints: Vec<String>,
    ) -> Result<Option<Locations>, FetchError> {
        let link = self.0.link().ok_or(FetchError::NotJoined)?;
        let located = objects::locate(&link, digests, complaints).await?;
        self.0.objects.note(located.is_some());
        Ok(located)
    }

    /// The bytes of `range`, which is not empty, of the object that control gave `url` for.
    pub async fn read_object(
        &self,
        url: &str,
        ca_pem: Option<&str>,
        range: Range<u64>,
    ) -> Result<ByteStream, ObjectError> {
        objects::read(&self.0.objects, url, ca_pem, range).await
    }
}

impl Replica {
    /// Blobs that control has lost and asks this machine for, whether they are here or not.
    pub fn wanted(&self) -> watch::Receiver<Arc<[Digest]>> {
        self.0.wanted.subscribe()
    }

    /// Gives control a pack of blobs that it asked for.
    pub async fn give_pack(&self, pack: Bytes) -> Result<(), FetchError> {
        give::pack(&self.0.link().ok_or(FetchError::NotJoined)?, pack).await
    }

    /// Gives control the part from `offset` on of a blob of `size_bytes` that it asked for.
    pub async fn give_part(
        &self,
        digest: &Digest,
        size_bytes: u64,
        offset: u64,
        part: Bytes,
    ) -> Result<(), FetchError> {
        let link = self.0.link().ok_or(FetchError::NotJoined)?;
        give::part(&link, digest, size_bytes, offset, part).await
    }
}

impl Follower {
    /// Joins if need be, then follows control and reports to it. Never ends by itself: the caller
    /// drops it to stop.
    pub async fn run(self) {
        let Follower { replica, identity } = self;
        tokio::join!(
            follow::follow_for_ever(&replica.0, identity),
            report::report_for_ever(&replica.0),
            give::states_for_ever(&replica.0)
        );
    }
}

impl Shared {
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.state.borrow().as_ref().map(|state| state.revision())
    }

    /// What the state on disk says, in short.
    pub(crate) fn holding(&self) -> Option<Holding> {
        self.state.borrow().as_ref().map(|state| state.holding())
    }

    /// `None` until the machine has joined.
    pub(crate) fn link(&self) -> Option<Link> {
        self.link.borrow().clone()
    }

    /// Notes what the machine presents and believes from now on.
    pub(crate) fn set_credentials(&self, identity: &Identity) {
        let membership = identity.membership();
        let trusts = membership.map(Membership::trusts).unwrap_or_default();
        let not_after = membership.and_then(Membership::validity).map(|(_, end)| end);
        let credentials = membership.and_then(|membership| link::credentials(membership).ok());
        self.credentials.send_replace(credentials.map(Arc::new));
        self.presented.send_if_modified(|last| {
            let new = Presented { trusts, not_after, ..*last };
            let is_new = *last != new;
            *last = new;
            is_new
        });
    }

    /// `error` with its causes and what it means, on one line for the log.
    pub(crate) fn told(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let not_after = self.presented.borrow().not_after;
        let (name, role, now) = (&self.about.name, self.about.role, (self.now)());
        let text = link::causes(error);
        match explain(error, Here { name, role, now, not_after }) {
            Some(more) => format!("{more} ({text})"),
            None => text,
        }
    }

    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.connected
            .send_if_modified(|last| std::mem::replace(last, is_connected) != is_connected);
        if is_connected {
            self.reconnected.notify_one();
        }
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("name", &self.0.about.name)
            .field("revision", &self.0.revision())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
