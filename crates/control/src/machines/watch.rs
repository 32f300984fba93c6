//! `GET /machine/v1/watch?changes=1&since=REV&have=DIGEST&trust=DIGEST&instance=N`: a machine's state,
//! as it changes, and whom it is to trust.
//!
//! The newest state only: a machine that reads slowly skips those between, and nothing queues up
//! for it here but one frame.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use nigh_proto::{
    Digest, FleetId,
    state::{Holding, Revision},
    watch::{Frame, HEARTBEAT_MS, Trust},
};
use serde::Deserialize;
use tokio::{sync::watch::Receiver, time::Interval};

use super::{Machine, Peer};
use crate::{
    api::{Params, problem::Refusal},
    app::App,
    fleet::{World, edition::Line, held::is_held},
    store::MachineRow,
};

/// `?since=`.
#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    /// The revision that the machine has.
    #[serde(default)]
    since: Option<u64>,
    /// What its state at that revision is known by.
    #[serde(default)]
    have: Option<Digest>,
    /// 1 when it understands changes.
    #[serde(default)]
    changes: u8,
    /// BLAKE3 of the text of the CAs that it trusts.
    #[serde(default)]
    trust: Option<Digest>,
    /// Which start of the machine this is.
    #[serde(default)]
    instance: u64,
    /// Whose state it has, and how many sites and zones are in it.
    #[serde(default)]
    fleet: Option<FleetId>,
    #[serde(default)]
    sites: u64,
    #[serde(default)]
    zones: u64,
}

impl Since {
    /// What the machine has, in short.
    fn holding(&self) -> Option<Holding> {
        let (fleet, sites, zones) = (self.fleet.clone(), self.sites, self.zones);
        self.since.map(|since| Holding { fleet, revision: Revision(since), sites, zones })
    }
}

/// How far ahead of control a machine's revision may be and still be taken for real: control's
/// database came back from a backup.
const AHEAD_MAX: u64 = 1 << 32;

pub(crate) async fn watch(
    State(app): State<App>,
    Machine(machine): Machine,
    Extension(peer): Extension<Peer>,
    Params(asked): Params<Since>,
) -> Result<Response, Refusal> {
    app.require_newest(&machine, asked.instance).await?;
    if let Some(since) = asked.since {
        app.catch_up(&machine.name, since, asked.fleet.as_ref(), AHEAD_MAX).await?;
    }
    if let Some(holding) = asked.holding() {
        app.note_held(&machine, &holding).await?;
    }
    let body = Body::from_stream(stream::unfold(Stream::new(app, machine, peer, asked), next));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// One open stream. While it lives the machine counts as connected.
struct Stream {
    app: App,
    machine: MachineRow,
    /// Among the streams of this machine.
    number: u64,
    worlds: Receiver<Arc<World>>,
    /// The revision that the machine has.
    sent: Option<u64>,
    /// Whether it has what this control says of that revision, so that it can be told changes.
    has_ours: bool,
    takes_changes: bool,
    /// What it has that may be another fleet's, until it was told something.
    holding: Option<Holding>,
    /// What the machine trusts, and whether it was told to renew.
    trust: (Digest, bool),
    instance: u64,
    /// What its connection was opened with.
    peer: Peer,
    heartbeat: Interval,
    /// The rest of the frame that is being sent.
    pieces: VecDeque<Bytes>,
}

impl Stream {
    fn new(app: App, machine: MachineRow, peer: Peer, asked: Since) -> Self {
        let holding = asked.holding();
        let Since { since, have, changes, trust, instance, .. } = asked;
        let mut worlds = app.follow();
        worlds.mark_changed();
        let number = app.statuses().connected(&machine.name, app.instant());
        app.desk().connected(&machine.name, &machine.id);
        app.reported().notify_one();
        tracing::info!(machine.name = %machine.name, since, "{} watches", machine.name);
        let mut heartbeat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let edition = since.and_then(|since| app.editions().at(since));
        let has_ours = edition.zip(have).is_some_and(|(edition, have)| {
            let before = edition.world.machine(&machine.name);
            before.is_some_and(|before| edition.digest(before) == have)
        });
        let takes_changes = changes == 1;
        let trust = trust.unwrap_or_else(|| Digest::of(app.authority().bundle_pem().as_bytes()));
        Self {
            app,
            machine,
            number,
            worlds,
            sent: since,
            has_ours,
            takes_changes,
            holding,
            trust: (trust, false),
            instance,
            peer,
            heartbeat,
            pieces: VecDeque::new(),
        }
    }

    /// What the machine is to trust, when it was told something else or nothing.
    fn news_of_trust(&mut self) -> Option<Line> {
        let authority = self.app.authority();
        let lifetime_ms = self.app.effective().config.machines.certificate_ms;
        let renew = self.peer.0.as_ref().is_some_and(|presented| {
            let left_ms = presented.not_after.ms_since(self.app.now());
            // Machines renew with a third of the life left; one that has not may have a wrong clock.
            let is_late = left_ms < i64::try_from(lifetime_ms / 4).unwrap_or(i64::MAX);
            presented.issuer != authority.signer_name() || is_late
        });
        let ca_pem = authority.bundle_pem();
        let trust = (Digest::of(ca_pem.as_bytes()), renew);
        if trust == self.trust {
            return None;
        }
        self.trust = trust;
        Some(line(&Frame::Trust { trust: Trust { ca_pem, renew } }))
    }

    /// The next frame for the newest world, unless the machine has it. `Err` when the machine is
    /// no longer one of the fleet, or another one goes by its identity.
    fn frame(&mut self) -> Result<Option<Line>, ()> {
        self.worlds.borrow_and_update();
        let (edition, earlier) = {
            let editions = self.app.editions();
            let is_base = self.takes_changes && self.has_ours;
            let earlier = self.sent.filter(|_| is_base).and_then(|sent| editions.at(sent));
            (editions.newest().ok_or(())?, earlier)
        };
        let world = &edition.world;
        let machine = world.machine(&self.machine.name).filter(|row| row.id == self.machine.id);
        let machine = machine.ok_or(())?;
        if let Some(frame) = self.news_of_trust() {
            // The world is looked at again after it.
            self.worlds.mark_changed();
            return Ok(Some(frame));
        }
        if self.holding.as_ref().is_some_and(|holding| is_held(world, holding)) {
            return Ok(None);
        }
        if self.sent == Some(world.revision) {
            return Ok(None);
        }
        self.holding = None;
        self.sent = Some(world.revision);
        self.has_ours = true;
        let change = earlier.and_then(|earlier| edition.change_since(&earlier, machine));
        Ok(Some(change.unwrap_or_else(|| edition.whole(machine))))
    }
}

impl Stream {
    /// `None` when another machine goes by this identity since: the newest one counts.
    fn heartbeat(&mut self) -> Option<Line> {
        if self.app.statuses().is_superseded(&self.machine.name, self.instance) {
            return None;
        }
        let revision = Revision(self.worlds.borrow().revision);
        Some(self.news_of_trust().unwrap_or_else(|| line(&Frame::Heartbeat { revision })))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.app.statuses().disconnected(&self.machine.name, self.number);
        self.app.desk().disconnected(&self.machine.name, &self.machine.id);
        self.app.reported().notify_one();
        tracing::info!(machine.name = %self.machine.name, "{} no longer watches", self.machine.name);
    }
}

type Piece = Result<Bytes, Infallible>;

async fn next(mut stream: Stream) -> Option<(Piece, Stream)> {
    if let Some(piece) = stream.pieces.pop_front() {
        return Some((Ok(piece), stream));
    }
    let stopping = stream.app.stopping().clone();
    loop {
        let frame = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            changed = stream.worlds.changed() => match changed.ok().and(stream.frame().ok()) {
                Some(Some(frame)) => frame,
                Some(None) => continue,
                None => return None,
            },
            _ = stream.heartbeat.tick() => match stream.heartbeat() {
                Some(frame) => frame,
                None => return None,
            },
        };
        stream.pieces = frame.into();
        let piece = stream.pieces.pop_front()?;
        return Some((Ok(piece), stream));
    }
}

fn line(frame: &Frame) -> Line {
    let line = serde_json::to_string(frame).expect("frames always have a JSON form");
    vec![format!("{line}\n").into()]
}
