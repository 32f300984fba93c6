//! How does a machine follow what control says?
//!
//! One stream at a time. Every frame is read, decided on and, when it is newer, on disk before the
//! role hears of it. A stream that ends or falls silent is dialled again after a short random wait.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nigh_proto::{
    MachineName,
    report::MachineRole,
    state::MachineState,
    watch::{FRAME_MAX_BYTES, Frame, SILENCE_MAX_MS},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff,
    copy::{Accept, StateFile, accept},
    lines::{LineTooLong, Lines},
    report::chain,
    uplink::{Uplink, UplinkError},
};

/// Where the newest state goes.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) name: MachineName,
    pub(crate) role: MachineRole,
    pub(crate) file: StateFile,
    pub(crate) state: watch::Sender<Option<Arc<MachineState>>>,
    pub(crate) connected: watch::Sender<bool>,
}

/// Why one stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("could not open the stream")]
    Open(#[source] UplinkError),
    #[error("nothing was heard for {SILENCE_MAX_MS} ms")]
    Silent,
    #[error("the stream broke")]
    Broken(#[source] reqwest::Error),
    #[error("control ended the stream")]
    Ended,
    #[error("control sent a frame that cannot be read")]
    Frame(#[source] serde_json::Error),
    #[error("control sent a frame that is too long")]
    TooLong(#[source] LineTooLong),
    #[error("the new state could not be kept")]
    Keep(#[source] crate::copy::StateFileError),
}

impl Follower {
    /// Follows control until `stop`.
    pub(crate) async fn run(self, uplink: Uplink, stop: CancellationToken) {
        let mut attempt = 0;
        loop {
            let end = tokio::select! {
                () = stop.cancelled() => return,
                end = self.follow(&uplink, &mut attempt) => end,
            };
            if self.connected.send_replace(false) {
                tracing::warn!(reason = %chain(&end), "the stream from control ended; dialling again");
            } else {
                tracing::debug!(reason = %chain(&end), "control is out of reach");
            }
            let wait = backoff::wait(attempt, backoff::random());
            attempt = attempt.saturating_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One stream, until it ends. `attempt` starts over once a frame has arrived.
    async fn follow(&self, uplink: &Uplink, attempt: &mut u32) -> StreamEnd {
        let since = self.state.borrow().as_ref().map(|state| state.revision());
        let mut stream = match uplink.watch(since).await {
            Ok(stream) => stream,
            Err(error) => return StreamEnd::Open(error),
        };
        let mut lines = Lines::new(FRAME_MAX_BYTES);
        let silence = Duration::from_millis(SILENCE_MAX_MS);
        loop {
            let chunk = match tokio::time::timeout(silence, stream.next()).await {
                Err(_) => return StreamEnd::Silent,
                Ok(None) => return StreamEnd::Ended,
                Ok(Some(Err(error))) => return StreamEnd::Broken(error.without_url()),
                Ok(Some(Ok(chunk))) => chunk,
            };
            if let Err(error) = lines.push(&chunk) {
                return StreamEnd::TooLong(error);
            }
            while let Some(line) = lines.next_line() {
                if let Err(end) = self.take_line(&line).await {
                    return end;
                }
                *attempt = 0;
                if !self.connected.send_replace(true) {
                    tracing::info!(machine.name = %self.name, "following control");
                }
            }
        }
    }

    async fn take_line(&self, line: &[u8]) -> Result<(), StreamEnd> {
        match serde_json::from_slice(line).map_err(StreamEnd::Frame)? {
            Frame::Heartbeat { .. } => Ok(()),
            Frame::State { state } => self.take(*state).await,
        }
    }

    async fn take(&self, sent: MachineState) -> Result<(), StreamEnd> {
        let current = self.state.borrow().as_ref().map(|state| state.revision());
        match accept(current, &self.name, self.role, &sent) {
            Accept::Same => Ok(()),
            Accept::Older { have, sent } => {
                tracing::error!(
                    "control sent revision {} but this machine has {}: control was restored from an \
                     older copy; the newer state stays until control has passed it",
                    sent.0,
                    have.0,
                );
                Ok(())
            }
            Accept::Misdirected => {
                tracing::error!(machine.name = %self.name, "control sent another machine's state");
                Ok(())
            }
            Accept::Take => {
                let (file, state) = (self.file.clone(), Arc::new(sent));
                let kept = Arc::clone(&state);
                let saved = tokio::task::spawn_blocking(move || file.save(&kept)).await;
                saved.unwrap_or(Ok(())).map_err(StreamEnd::Keep)?;
                self.state.send_replace(Some(state));
                Ok(())
            }
        }
    }
}
