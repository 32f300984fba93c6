//! A running replica: the state from disk at once, then whatever control says.

use std::{sync::Arc, time::Duration};

use nigh_proto::{
    report::{JoinRequest, MachineAbout},
    state::MachineState,
};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    config::{ReplicaConfig, UpstreamConfig},
    copy::{StateFile, StateFileError},
    health::Sampler,
    identity::{Identity, IdentityError},
    report::{self, Facts, chain},
    uplink::{Uplink, UplinkError},
    watch::Follower,
};

/// How long to wait before another try to join: a person may have to put a new token there.
const JOIN_PAUSE: Duration = Duration::from_secs(2);

/// Why a replica could not start. Control being away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the machine's copy of its state cannot be used")]
    State(#[from] StateFileError),
    #[error("the machine's identity cannot be used")]
    Identity(#[from] IdentityError),
}

/// A running replica. Dropping it ends its tasks; [`stop`](Self::stop) also waits for them.
#[derive(Debug)]
pub struct Replica {
    state: watch::Receiver<Option<Arc<MachineState>>>,
    connected: watch::Receiver<bool>,
    uplink: watch::Receiver<Option<Uplink>>,
    facts: watch::Sender<Facts>,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl Replica {
    /// Loads the copy on disk and begins to follow control; never waits for control.
    pub async fn start(config: ReplicaConfig) -> Result<Self, StartError> {
        let dir = config.state_dir.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let file = StateFile::in_dir(&dir);
            let state = file.load()?;
            Ok::<_, StartError>((file, state, Identity::load_or_make(&dir)?))
        });
        let (file, state, identity) = match loaded.await {
            Ok(loaded) => loaded?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (state_tx, state) = watch::channel(state.map(Arc::new));
        let (connected_tx, connected) = watch::channel(false);
        let (uplink_tx, uplink) = watch::channel(None);
        let (facts, facts_rx) = watch::channel(Facts::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());

        let about = config.about.clone();
        let sampler = Sampler::new(config.state_dir.clone());
        tasks.spawn(report::run(uplink.clone(), about, facts_rx, sampler, stop.clone()));
        let follower = Follower {
            name: config.about.name.clone(),
            role: config.about.role,
            file,
            state: state_tx,
            connected: connected_tx,
        };
        tasks.spawn(follow(config, identity, follower, uplink_tx, stop.clone()));
        tasks.close();
        Ok(Replica { state, connected, uplink, facts, tasks, _stop: stop.drop_guard() })
    }

    /// The newest state that is on disk; `None` until the first one.
    pub fn state(&self) -> watch::Receiver<Option<Arc<MachineState>>> {
        self.state.clone()
    }

    /// Whether the stream from control is open.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Calls to control; `None` until the machine has joined.
    pub fn uplink(&self) -> watch::Receiver<Option<Uplink>> {
        self.uplink.clone()
    }

    /// Where the role tells what it has done; every change is reported at once.
    pub fn facts(&self) -> watch::Sender<Facts> {
        self.facts.clone()
    }

    /// Ends all tasks and waits for them.
    pub async fn stop(self) {
        let Replica { tasks, _stop, .. } = self;
        drop(_stop);
        tasks.wait().await;
    }
}

/// Joins if need be, then follows control until `stop`.
async fn follow(
    config: ReplicaConfig,
    mut identity: Identity,
    follower: Follower,
    uplinks: watch::Sender<Option<Uplink>>,
    stop: CancellationToken,
) {
    let uplink = loop {
        match uplink(&config, &mut identity).await {
            Ok(uplink) => break uplink,
            Err(error) => tracing::error!(
                error = %chain(&error),
                "this machine is not part of the fleet yet: {}",
                error.advice(&config.upstream),
            ),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(JOIN_PAUSE) => {}
        }
    };
    uplinks.send_replace(Some(uplink.clone()));
    follower.run(uplink, stop).await;
}

/// Why a machine could not join.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("no join token is configured")]
    NoTokenFile,
    #[error("could not read the join token")]
    TokenFile(#[source] std::io::Error),
    #[error("the call to control failed")]
    Uplink(#[from] UplinkError),
    #[error("the identity could not be used")]
    Identity(#[from] IdentityError),
}

impl JoinError {
    /// What an operator can do.
    fn advice(&self, upstream: &UpstreamConfig) -> String {
        match self {
            JoinError::NoTokenFile => {
                "set `join_token_file` in `[control]`; `nigh edge token` or `nigh dns token` makes a \
                 token"
                    .to_owned()
            }
            JoinError::TokenFile(_) => format!(
                "put a token from `nigh edge token` or `nigh dns token` into {}",
                upstream.join_token_file.as_deref().unwrap_or("the token file".as_ref()).display()
            ),
            JoinError::Uplink(error) if error.is_refusal() => format!(
                "make a new token for this machine and put it into {}",
                upstream.join_token_file.as_deref().unwrap_or("the token file".as_ref()).display()
            ),
            JoinError::Uplink(_) => {
                format!("see whether control runs at {} and its CA is the right one", upstream.url)
            }
            JoinError::Identity(_) => "see whether the state folder can be written".to_owned(),
        }
    }
}

/// Calls with the machine's certificate, which is asked for when there is none.
async fn uplink(config: &ReplicaConfig, identity: &mut Identity) -> Result<Uplink, JoinError> {
    if identity.certificate_pem.is_none() {
        let response = join(&config.upstream, &config.about, identity).await?;
        identity.joined(response)?;
        tracing::info!(machine.name = %config.about.name, "joined the fleet");
    }
    Ok(Uplink::new(&config.upstream, identity)?)
}

async fn join(
    upstream: &UpstreamConfig,
    about: &MachineAbout,
    identity: &Identity,
) -> Result<String, JoinError> {
    let file = upstream.join_token_file.as_ref().ok_or(JoinError::NoTokenFile)?;
    let token = tokio::fs::read_to_string(file).await.map_err(JoinError::TokenFile)?;
    let request = JoinRequest {
        token: token.trim().to_owned(),
        csr_pem: identity.request(&about.name, about.role)?,
        about: about.clone(),
    };
    let response = Uplink::new(upstream, identity)?.join(&request).await?;
    Ok(response.certificate_pem)
}
