//! How does a machine learn at once what control wants of it?

use std::{sync::Arc, time::Duration};

use nigh_proto::{
    state::MachineState,
    watch::{Frame, SILENCE_MAX_MS},
};
use tokio::time::timeout;

use crate::{
    backoff,
    frames::{BadStream, Frames},
    identity::{Identity, IdentityError},
    join,
    keep::{self, KeepError, Verdict},
    link::{self, CallError, Link, LinkError},
    replica::Shared,
};

/// How long until a machine that was refused tries again: only a person can help it.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// An answer to the watch begins within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("control has been silent for {SILENCE_MAX_MS} ms")]
    Silent,
    #[error("control closed the stream")]
    Closed,
    #[error("control sent what is no frame")]
    Bad(#[from] BadStream),
    #[error("control sent a state for another machine")]
    NotMine,
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl Ended {
    /// Whether dialling again at once would only be refused again.
    fn needs_a_person(&self) -> bool {
        match self {
            Ended::Call(CallError::Refused { status, .. }) => status.is_client_error(),
            Ended::NotMine | Ended::Keep(_) => true,
            _ => false,
        }
    }
}

/// Joins if need be, then follows control until it is dropped.
pub(crate) async fn follow_for_ever(shared: &Shared, mut identity: Identity) {
    join_until_done(shared, &mut identity).await;
    let mut failures = 0;
    loop {
        let wait = match renew_link(shared, &identity).await {
            Err(error) => {
                tracing::error!(error = link::causes(&error), "control cannot be dialled");
                REFUSED_WAIT
            }
            Ok(link) => {
                let (ended, was_connected) = follow(shared, &link).await;
                shared.set_connected(false);
                failures = if was_connected { 0 } else { failures + 1 };
                say_why(&ended, was_connected, failures);
                let wait = backoff::wait(failures, backoff::random());
                if ended.needs_a_person() { REFUSED_WAIT } else { wait }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Once when a connection is lost and rarely while it stays away, since control may be gone for weeks.
fn say_why(ended: &Ended, was_connected: bool, failures: u32) {
    let why = link::causes(ended);
    if was_connected || failures == 1 || failures.is_multiple_of(100) || ended.needs_a_person() {
        tracing::warn!(why, "not connected to control; going on with the state on disk");
    } else {
        tracing::debug!(why, failures, "control is still away");
    }
}

async fn join_until_done(shared: &Shared, identity: &mut Identity) {
    let mut failures = 0;
    while identity.membership().is_none() {
        let Err(error) = join::join(&shared.control, identity, &shared.about).await else {
            tracing::info!("joined the fleet as {}", shared.about.name);
            return;
        };
        let wait = if matches!(error, join::JoinError::Call(CallError::Unreachable(_))) {
            failures += 1;
            backoff::wait(failures, backoff::random())
        } else {
            REFUSED_WAIT
        };
        if failures <= 1 || wait == REFUSED_WAIT {
            tracing::error!(error = link::causes(&error), "could not join; trying again");
        }
        tokio::time::sleep(wait).await;
    }
}

/// New connections: the old ones may only look open. Reads the CA file, so that a replaced one
/// counts without a restart.
async fn renew_link(shared: &Shared, identity: &Identity) -> Result<Link, LinkError> {
    let link = Link::new(&shared.control, identity, &shared.about.version)?;
    shared.link.send_replace(Some(link.clone()));
    Ok(link)
}

/// Follows one stream to its end, and says whether control answered at all.
async fn follow(shared: &Shared, link: &Link) -> (Ended, bool) {
    let mut was_connected = false;
    let ended = match read_stream(shared, link, &mut was_connected).await {
        Err(ended) => ended,
        Ok(()) => Ended::Closed,
    };
    (ended, was_connected)
}

async fn read_stream(shared: &Shared, link: &Link, was_connected: &mut bool) -> Result<(), Ended> {
    let mut url = link.url("machine/v1/watch");
    if let Some(revision) = shared.revision() {
        url.query_pairs_mut().append_pair("since", &revision.0.to_string());
    }
    let answer = timeout(ANSWER_TIMEOUT, link.talk().get(url).send());
    let mut response = link::success(answer.await.map_err(|_| Ended::Silent)?).await?;
    let mut frames = Frames::default();
    loop {
        let silence = Duration::from_millis(SILENCE_MAX_MS);
        let chunk = timeout(silence, response.chunk()).await.map_err(|_| Ended::Silent)?;
        let Some(chunk) = chunk.map_err(CallError::Unreachable)? else { return Ok(()) };
        frames.push(&chunk);
        while let Some(frame) = frames.next()? {
            take(shared, frame).await?;
            if !*was_connected {
                *was_connected = true;
                shared.set_connected(true);
                tracing::info!("connected to control at {}", shared.control.url);
            }
        }
    }
}

async fn take(shared: &Shared, frame: Frame) -> Result<(), Ended> {
    let Frame::State { state } = frame else { return Ok(()) };
    let (role, name) = (shared.about.role, &shared.about.name);
    match keep::judge(role, name, shared.revision(), &state) {
        Verdict::Take => store(shared, *state).await,
        Verdict::Same => Ok(()),
        Verdict::Older { current } => {
            let (offered, current) = (state.revision().0, current.0);
            tracing::warn!(offered, current, "refused a state older than the one that is here");
            Ok(())
        }
        Verdict::NotMine => Err(Ended::NotMine),
    }
}

/// To disk first; whoever acts on the state sees it only then.
async fn store(shared: &Shared, state: MachineState) -> Result<(), Ended> {
    let state = Arc::new(state);
    let (file, written) = (shared.file.clone(), Arc::clone(&state));
    let stored = tokio::task::spawn_blocking(move || file.store(&written)).await;
    stored.map_err(|panic| CallError::Garbled(panic.into()))??;
    tracing::debug!(revision = state.revision().0, "took a new state");
    shared.state.send_replace(Some(state));
    Ok(())
}

/// Loads who this machine is.
pub(crate) fn identity(state_dir: &std::path::Path) -> Result<Identity, IdentityError> {
    Identity::load_or_make(state_dir)
}
