//! How does a machine learn at once what control wants of it?

use std::{convert::Infallible, sync::Arc, time::Duration};

use nigh_proto::{
    document::{Change, Document, DocumentError},
    watch::{Frame, SILENCE_MAX_MS},
};
use tokio::time::{Instant, timeout};

use crate::{
    backoff,
    frames::{BadStream, Frames},
    identity::{Identity, IdentityError},
    join::{self, JoinError},
    keep::{self, KeepError, Stored, Verdict},
    link::{self, CallError, Link, LinkError},
    replica::Shared,
    said::Said,
};

/// An answer to the watch begins within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream that ends sooner was no success: the waits between go on growing.
const STEADY: Duration = backoff::WAIT_MAX;

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("control has been silent for {SILENCE_MAX_MS} ms")]
    Silent,
    #[error("control closed the stream")]
    Closed,
    #[error("control sent what is no frame")]
    Bad(#[from] BadStream),
    #[error("control sent what is no state, or a change of another one")]
    Document(#[from] DocumentError),
    #[error("control sent a state for another machine")]
    NotMine,
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl Ended {
    /// How long until control is dialled again, after so many `failures` in a row.
    fn wait(&self, failures: u32) -> Duration {
        let random = backoff::random();
        match self {
            Ended::Call(error) if !error.needs_a_person() => backoff::wait(failures, random),
            Ended::Silent | Ended::Closed | Ended::Bad(_) | Ended::Document(_) => {
                backoff::wait(failures, random)
            }
            Ended::Call(_) | Ended::Link(_) | Ended::NotMine | Ended::Keep(_) => {
                backoff::refused_wait(random)
            }
        }
    }

    /// Whether the machine's certificate is of no use, here or to control.
    fn is_shut_out(&self) -> bool {
        match self {
            Ended::Call(error) => error.is_shut_out(),
            Ended::Link(error) => matches!(error, LinkError::Pem { .. } | LinkError::Tls(_)),
            _ => false,
        }
    }
}

/// Joins if need be, then follows control until it is dropped.
pub(crate) async fn follow_for_ever(shared: &Shared, mut identity: Identity) {
    join_until_done(shared, &mut identity).await;
    let (mut said, mut said_of_joining) = (Said::default(), Said::default());
    let mut failures = 0u32;
    loop {
        let mut connected_at = None;
        let Err(ended) = follow(shared, &identity, &mut connected_at).await;
        shared.set_connected(false);
        failures = failures.saturating_add(1);
        if connected_at.is_some_and(|at| at.elapsed() >= STEADY) {
            failures = 0;
            said.forget();
        }
        let why = link::causes(&ended);
        if said.is_news(&why) {
            tracing::warn!(why, "not connected to control; going on with the state on disk");
        }
        let is_back =
            ended.is_shut_out() && has_joined(shared, &mut identity, &mut said_of_joining).await;
        let wait =
            if is_back { backoff::wait(failures, backoff::random()) } else { ended.wait(failures) };
        tokio::time::sleep(wait).await;
    }
}

async fn join_until_done(shared: &Shared, identity: &mut Identity) {
    let (mut failures, mut said) = (0u32, Said::default());
    while identity.membership().is_none() {
        failures = failures.saturating_add(1);
        if let Err(error) = join(shared, identity, &mut said).await {
            let random = backoff::random();
            let is_refused = error.needs_a_person();
            let wait = if is_refused {
                backoff::refused_wait(random)
            } else {
                backoff::wait(failures, random)
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Joins again, if there is a new token: the machine was removed, or its certificate has run out.
async fn has_joined(shared: &Shared, identity: &mut Identity, said: &mut Said) -> bool {
    shared.control.join_token_file.is_some() && join(shared, identity, said).await.is_ok()
}

async fn join(shared: &Shared, identity: &mut Identity, said: &mut Said) -> Result<(), JoinError> {
    let joined = join::join(&shared.control, identity, &shared.about).await;
    match &joined {
        Ok(()) => tracing::info!("joined the fleet as {}", shared.about.name),
        Err(error) => {
            let why = link::causes(error);
            if said.is_news(&why) {
                tracing::error!(why, "could not join; trying again");
            }
        }
    }
    joined
}

/// Follows one stream to its end, over new connections: the old ones may only look open. The CA
/// file is read again, so that a replaced one counts without a restart.
async fn follow(
    shared: &Shared,
    identity: &Identity,
    connected_at: &mut Option<Instant>,
) -> Result<Infallible, Ended> {
    let link = Link::new(&shared.control, identity, &shared.about.version)?;
    shared.link.send_replace(Some(link.clone()));
    let membership = identity.membership();
    let credentials = membership.map(|membership| link::credentials(identity, membership));
    shared.credentials.send_replace(credentials.transpose()?.map(Arc::new));
    let mut url = link.url("machine/v1/watch");
    url.query_pairs_mut().append_pair("changes", "1");
    if let Some(revision) = shared.revision() {
        let digest = shared.document.borrow().digest().to_string();
        let since = revision.0.to_string();
        url.query_pairs_mut().append_pair("since", &since).append_pair("have", &digest);
    }
    let mut response = link::call(link.talk().get(url), ANSWER_TIMEOUT).await?;
    let mut frames = Frames::default();
    loop {
        let silence = Duration::from_millis(SILENCE_MAX_MS);
        let chunk = timeout(silence, response.chunk()).await.map_err(|_| Ended::Silent)?;
        let chunk = chunk.map_err(CallError::Unreachable)?.ok_or(Ended::Closed)?;
        frames.push(&chunk);
        while let Some(frame) = frames.next()? {
            take(shared, frame).await?;
            if connected_at.is_none() {
                *connected_at = Some(Instant::now());
                shared.set_connected(true);
                tracing::info!("connected to control at {}", shared.control.url);
            }
        }
    }
}

async fn take(shared: &Shared, frame: Frame) -> Result<(), Ended> {
    match frame {
        Frame::State { state } => take_whole(shared, state).await,
        Frame::Change { change } => take_change(shared, change).await,
        Frame::Heartbeat { .. } => Ok(()),
    }
}

async fn take_whole(shared: &Shared, document: Document) -> Result<(), Ended> {
    let stored = Stored::new(document)?;
    let (role, name) = (shared.about.role, &shared.about.name);
    match keep::judge(role, name, shared.revision(), &stored.state) {
        Verdict::Take => store(shared, stored, None).await,
        Verdict::Same => Ok(()),
        Verdict::Older { current } => {
            let (offered, current) = (stored.state.revision().0, current.0);
            tracing::warn!(offered, current, "refused a state older than the one that is here");
            Ok(())
        }
        Verdict::NotMine => Err(Ended::NotMine),
    }
}

/// A change that does not fit ends the stream, and the next one begins with what is here.
async fn take_change(shared: &Shared, change: Change) -> Result<(), Ended> {
    let document = shared.document.borrow().changed(&change)?;
    let stored = Stored::new(document)?;
    let (role, name) = (shared.about.role, &shared.about.name);
    match keep::judge(role, name, shared.revision(), &stored.state) {
        Verdict::Take => store(shared, stored, Some(change)).await,
        Verdict::Same | Verdict::Older { .. } => Ok(()),
        Verdict::NotMine => Err(Ended::NotMine),
    }
}

/// To disk first; whoever acts on the state sees it only then.
async fn store(shared: &Shared, stored: Stored, change: Option<Change>) -> Result<(), Ended> {
    let Stored { document, state } = stored;
    let (file, written) = (shared.file.clone(), document.clone());
    let kept = tokio::task::spawn_blocking(move || match change {
        Some(change) => file.store_change(&written, &change),
        None => file.store(&written),
    });
    kept.await.map_err(|panic| CallError::Garbled(panic.into()))??;
    tracing::debug!(revision = state.revision().0, "took a new state");
    shared.document.send_replace(document);
    shared.state.send_replace(Some(Arc::new(state)));
    Ok(())
}

/// Loads who this machine is.
pub(crate) fn identity(state_dir: &std::path::Path) -> Result<Identity, IdentityError> {
    Identity::load_or_make(state_dir)
}
