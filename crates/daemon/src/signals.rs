//! What does the operator want from this process?

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A wish of the operator or of the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is in flight and end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals of this process, from the moment they are installed.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
}

/// The kernel would not tell this process about a signal.
#[derive(Debug, thiserror::Error)]
#[error("could not listen for signals")]
pub struct InstallError(#[from] io::Error);

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP over from their default, which is to die.
    ///
    /// Call it before anything is bound, so that no signal of an early stop is lost.
    pub fn install() -> Result<Self, InstallError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next wish; a stop goes before a reload that came with it.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => Signal::Stop,
            Some(()) = self.interrupt.recv() => Signal::Stop,
            Some(()) = self.hang_up.recv() => Signal::Reload,
            else => Signal::Stop,
        }
    }

    /// Ends when the process is to stop; what a reload would read is being read anyway.
    pub async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }

    /// Ends at the next SIGINT: someone at a terminal does not want to wait for the drain.
    pub async fn interrupted(&mut self) {
        if self.interrupt.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
