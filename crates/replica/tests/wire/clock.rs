//! How do tests see minutes go by in seconds, with real sockets?
//!
//! A paused clock of tokio jumps whenever nothing can run, and a packet that is on its way does not
//! count as something. So the clock is kept from jumping and moved on in small steps instead.

use std::{sync::mpsc, time::Duration};

use tokio::task::{JoinHandle, spawn_blocking};

/// One step, and how long it takes.
const STEP: Duration = Duration::from_millis(20);
const STEP_TAKES: Duration = Duration::from_millis(2);

/// Time goes by about ten times as fast while this lives.
pub(crate) struct FastClock {
    stepping: JoinHandle<()>,
    /// The clock does not jump while a blocking task runs; this one runs until it is dropped.
    _held: mpsc::Sender<()>,
}

impl FastClock {
    pub(crate) fn start() -> Self {
        let (held, dropped) = mpsc::channel();
        spawn_blocking(move || dropped.recv());
        tokio::time::pause();
        let stepping = tokio::spawn(async {
            loop {
                spawn_blocking(|| std::thread::sleep(STEP_TAKES)).await.unwrap();
                tokio::time::advance(STEP).await;
            }
        });
        FastClock { stepping, _held: held }
    }
}

impl Drop for FastClock {
    fn drop(&mut self) {
        self.stepping.abort();
        tokio::time::resume();
    }
}
