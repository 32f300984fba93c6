//! `GET /machine/v1/watch?since=REV`: a machine's state, as it changes.
//!
//! The newest state only: a machine that reads slowly skips those between, and nothing queues up
//! for it here but one frame.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use nigh_proto::{
    document::Document,
    state::Revision,
    watch::{Frame, HEARTBEAT_MS},
};
use serde::Deserialize;
use tokio::{sync::watch::Receiver, time::Interval};

use super::Machine;
use crate::{
    api::{Params, problem::Refusal},
    app::App,
    fleet::{World, state},
    store::MachineRow,
};

/// `?since=`.
#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    /// The revision that the machine has.
    #[serde(default)]
    since: Option<u64>,
}

/// How far ahead of control a machine's revision may be and still be taken for real: control's
/// database came back from a backup.
const AHEAD_MAX: u64 = 1 << 32;

pub(crate) async fn watch(
    State(app): State<App>,
    Machine(machine): Machine,
    Params(Since { since }): Params<Since>,
) -> Result<Response, Refusal> {
    if let Some(since) = since {
        app.catch_up(&machine.name, since, AHEAD_MAX).await?;
    }
    let body = Body::from_stream(stream::unfold(Stream::new(app, machine, since), next));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// One open stream. While it lives the machine counts as connected.
struct Stream {
    app: App,
    machine: MachineRow,
    /// Among the streams of this machine.
    number: u64,
    worlds: Receiver<Arc<World>>,
    sent: Option<u64>,
    heartbeat: Interval,
}

impl Stream {
    fn new(app: App, machine: MachineRow, since: Option<u64>) -> Self {
        let mut worlds = app.follow();
        worlds.mark_changed();
        let number = app.statuses().connected(&machine.name, app.instant());
        app.reported().notify_one();
        tracing::info!(machine.name = %machine.name, since, "{} watches", machine.name);
        let mut heartbeat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { app, machine, number, worlds, sent: since, heartbeat }
    }

    /// The next frame for the newest world, unless the machine has it. `Err` when the machine is
    /// no longer one of the fleet.
    fn frame(&mut self) -> Result<Option<Frame>, ()> {
        let world = Arc::clone(&self.worlds.borrow_and_update());
        let machine = world.machine(&self.machine.name).filter(|row| row.id == self.machine.id);
        let machine = machine.ok_or(())?;
        if self.sent == Some(world.revision) {
            return Ok(None);
        }
        self.sent = Some(world.revision);
        let effective = self.app.effective();
        let state = state::of(&world, &effective.settings, machine, self.app.now());
        Ok(Some(Frame::State { state: Document::of(&state) }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.app.statuses().disconnected(&self.machine.name, self.number);
        self.app.observe_progress();
        self.app.reported().notify_one();
        tracing::info!(machine.name = %self.machine.name, "{} no longer watches", self.machine.name);
    }
}

type Piece = Result<Bytes, Infallible>;

async fn next(mut stream: Stream) -> Option<(Piece, Stream)> {
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
            _ = stream.heartbeat.tick() => {
                Frame::Heartbeat { revision: Revision(stream.worlds.borrow().revision) }
            }
        };
        let mut line = serde_json::to_vec(&frame).expect("frames always have a JSON form");
        line.push(b'\n');
        return Some((Ok(line.into()), stream));
    }
}
