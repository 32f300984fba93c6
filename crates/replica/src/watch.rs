//! How does a machine learn at once what control wants of it?

use std::{convert::Infallible, sync::Arc, time::Duration};

use nigh_proto::{
    Digest,
    document::{Change, Document, DocumentError},
    state::Holding,
    watch::{Frame, SILENCE_MAX_MS, Trust},
};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use crate::{
    backoff,
    frames::{BadStream, Frames},
    identity::{Identity, IdentityError, Membership},
    join::{self, JoinError},
    keep::{self, KeepError, Stored, Verdict},
    link::{self, CallError, Link, LinkError},
    renew,
    replica::Shared,
    said::Saids,
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
    #[error(transparent)]
    Identity(#[from] IdentityError),
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
            Ended::Call(_)
            | Ended::Link(_)
            | Ended::NotMine
            | Ended::Keep(_)
            | Ended::Identity(_) => backoff::refused_wait(random),
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
    shared.set_credentials(&identity);
    join_until_done(shared, &mut identity).await;
    let (mut said, mut said_of_joining) = (Saids::default(), Saids::default());
    let mut failures = 0u32;
    loop {
        let mut connected_at = None;
        let turn = shared.turns.number();
        let Err(ended) = follow(shared, &mut identity, &mut connected_at).await;
        shared.set_connected(false);
        // Another control knows all that this one did.
        shared.turns.pass(turn);
        failures = failures.saturating_add(1);
        if connected_at.is_some_and(|at| at.elapsed() >= STEADY) {
            failures = 0;
            said.forget();
        }
        let why = shared.told(&ended);
        if said.of(turn, shared.turns.total()).is_news(&link::causes(&ended)) {
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
    let (mut failures, mut said) = (0u32, Saids::default());
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
async fn has_joined(shared: &Shared, identity: &mut Identity, said: &mut Saids) -> bool {
    shared.control.join_token_file.is_some() && join(shared, identity, said).await.is_ok()
}

async fn join(shared: &Shared, identity: &mut Identity, said: &mut Saids) -> Result<(), JoinError> {
    let turn = shared.turns.current();
    let number = turn.number();
    let joined = join::join(turn, &shared.control, identity, &shared.about, (shared.now)()).await;
    match &joined {
        Ok(()) => {
            shared.set_credentials(identity);
            tracing::info!("joined the fleet as {}", shared.about.name);
        }
        Err(error) => {
            shared.turns.pass(number);
            if said.of(number, shared.turns.total()).is_news(&link::causes(error)) {
                let why = shared.told(error);
                tracing::error!(why, "could not join; trying again");
            }
        }
    }
    joined
}

/// An open stream, and the connections that it came over.
struct Stream {
    link: Link,
    response: Response,
    frames: Frames,
}

/// Opens a stream over new connections: the old ones may only look open. The CA file is read
/// again, so that a replaced one counts without a restart.
async fn open(shared: &Shared, identity: &Identity) -> Result<Stream, Ended> {
    let turn = shared.turns.current();
    let link = Link::new(turn, &shared.control, identity, &shared.about.version)?;
    let mut url = link.url("machine/v1/watch");
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("changes", "1");
        if let Some(revision) = shared.revision() {
            let digest = shared.document.borrow().digest().to_string();
            query.append_pair("since", &revision.0.to_string()).append_pair("have", &digest);
        }
        if let Some(membership) = identity.membership() {
            let trust = Digest::of(membership.ca_pem.as_bytes());
            query.append_pair("trust", &trust.to_string());
        }
        // Another fleet's control must know what it would take away before it says anything.
        if let Some(Holding { fleet, sites, zones, .. }) = shared.holding() {
            query.append_pair("sites", &sites.to_string());
            query.append_pair("zones", &zones.to_string());
            if let Some(fleet) = fleet {
                query.append_pair("fleet", fleet.as_str());
            }
        }
        query.append_pair("instance", &shared.presented.borrow().instance.to_string());
    }
    let response = link::call(link.talk().get(url), ANSWER_TIMEOUT).await?;
    link.settle(&response);
    Ok(Stream { link, response, frames: Frames::default() })
}

/// Opens the first stream. A pair that was renewed and not seen to work yet is tried first.
async fn open_first(shared: &Shared, identity: &mut Identity) -> Result<Stream, Ended> {
    if let Some(candidate) = identity.as_candidate() {
        match open(shared, &candidate).await {
            Ok(stream) => {
                identity.promote()?;
                return Ok(stream);
            }
            Err(ended) if ended.is_shut_out() => {
                let why = shared.told(&ended);
                tracing::error!(why, "a renewed certificate does not work; using the one before");
                identity.drop_candidate()?;
            }
            Err(ended) => return Err(ended),
        }
    }
    open(shared, identity).await
}

/// Follows control from one stream to the next as long as each is opened before the one before it
/// ends.
async fn follow(
    shared: &Shared,
    identity: &mut Identity,
    connected_at: &mut Option<Instant>,
) -> Result<Infallible, Ended> {
    let mut stream = open_first(shared, identity).await?;
    shared.link.send_replace(Some(stream.link.clone()));
    shared.set_credentials(identity);
    let mut renewals = Renewals::new(shared, identity);
    let mut heard_at = Instant::now();
    loop {
        let silence = heard_at + Duration::from_millis(SILENCE_MAX_MS);
        let chunk = tokio::select! {
            chunk = timeout_at(silence, stream.response.chunk()) => {
                chunk.map_err(|_| Ended::Silent)?
            }
            () = tokio::time::sleep_until(renewals.at) => {
                if let Some(next) = renewals.turn(shared, identity, &stream.link).await {
                    shared.link.send_replace(Some(next.link.clone()));
                    stream = next;
                }
                heard_at = Instant::now();
                continue;
            }
        };
        heard_at = Instant::now();
        let chunk = chunk.map_err(CallError::Unreachable)?.ok_or(Ended::Closed)?;
        stream.frames.push(&chunk);
        while let Some(frame) = stream.frames.next()? {
            if let Frame::Trust { trust } = &frame {
                renewals.heard(shared, identity, trust)?;
            }
            take(shared, frame).await?;
            if connected_at.is_none() {
                *connected_at = Some(Instant::now());
                shared.set_connected(true);
                tracing::info!("connected to control at {}", stream.link.base());
            }
        }
    }
}

/// When the next certificate is due, and what has become of it.
struct Renewals {
    at: Instant,
    /// Another one on each machine and start.
    spread: f64,
    failures: u32,
    /// Control has asked for a renewal.
    is_asked: bool,
    /// Other CAs are trusted than when the stream was opened.
    is_reopening: bool,
}

impl Renewals {
    fn new(shared: &Shared, identity: &Identity) -> Self {
        let spread = (backoff::random() % 1001) as f64 / 1000.0;
        let at = Instant::now();
        let mut new = Self { at, spread, failures: 0, is_asked: false, is_reopening: false };
        new.plan(shared, identity);
        new
    }

    /// Looks again when the certificate is due, or in a while: clocks are set while machines run.
    fn plan(&mut self, shared: &Shared, identity: &Identity) {
        self.at = Instant::now() + renew::look_in(self.due_in(shared, identity));
    }

    fn due_in(&self, shared: &Shared, identity: &Identity) -> Duration {
        let validity = identity.membership().and_then(Membership::validity);
        validity
            .map_or(Duration::MAX, |validity| renew::due_in(validity, (shared.now)(), self.spread))
    }

    /// Takes in what control says about trust. What cannot be used is not taken.
    fn heard(
        &mut self,
        shared: &Shared,
        identity: &mut Identity,
        trust: &Trust,
    ) -> Result<(), Ended> {
        let is_other = identity.membership().is_some_and(|known| known.ca_pem != trust.ca_pem);
        if is_other {
            link::check_roots(&trust.ca_pem)?;
            identity.trust(&trust.ca_pem)?;
            shared.set_credentials(identity);
            tracing::info!("control's CAs are others now; this machine trusts them");
        }
        self.is_reopening |= is_other;
        self.is_asked = trust.renew;
        if self.is_asked || self.is_reopening {
            self.at = Instant::now() + renew::asked_in(backoff::random());
        }
        Ok(())
    }

    /// Does what is due. A stream to go on with, when there is another one.
    async fn turn(
        &mut self,
        shared: &Shared,
        identity: &mut Identity,
        link: &Link,
    ) -> Option<Stream> {
        let is_due = self.is_asked || self.due_in(shared, identity).is_zero();
        if !is_due && !self.is_reopening {
            self.plan(shared, identity);
            return None;
        }
        match self.next(shared, identity, link, is_due).await {
            Ok(stream) => {
                self.failures = 0;
                (self.is_asked, self.is_reopening) = (false, false);
                shared.set_credentials(identity);
                self.plan(shared, identity);
                Some(stream)
            }
            Err(error) => {
                let why = shared.told(error.as_ref());
                tracing::warn!(why, "the certificate was not renewed; trying again");
                self.at = Instant::now() + renew::retry_in(self.failures, backoff::random());
                self.failures = self.failures.saturating_add(1);
                None
            }
        }
    }

    /// The next stream, opened with a new certificate if one is due. The old one is still open.
    async fn next(
        &self,
        shared: &Shared,
        identity: &mut Identity,
        link: &Link,
        is_due: bool,
    ) -> Result<Stream, Box<dyn std::error::Error + Send + Sync>> {
        if !is_due {
            return Ok(open(shared, identity).await?);
        }
        renew::renew(shared, identity, link).await?;
        let candidate = identity.as_candidate().ok_or("the renewed certificate is gone")?;
        match open(shared, &candidate).await {
            Ok(stream) => {
                identity.promote()?;
                tracing::info!("the certificate was renewed");
                Ok(stream)
            }
            Err(ended) => {
                if ended.is_shut_out() {
                    identity.drop_candidate()?;
                }
                Err(ended.into())
            }
        }
    }
}

async fn take(shared: &Shared, frame: Frame) -> Result<(), Ended> {
    match frame {
        Frame::State { state } => take_whole(shared, state).await,
        Frame::Change { change } => take_change(shared, change).await,
        Frame::Heartbeat { .. } | Frame::Trust { .. } => Ok(()),
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
