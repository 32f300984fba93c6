//! How does the server misbehave, and what has it seen?

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// How the server misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// 503 `SlowDown`.
    SlowDown,
    /// 500 `InternalError`.
    Internal,
    /// 403 `AccessDenied`.
    Denied,
    /// 403 `RequestTimeTooSkewed`.
    Clock,
    /// Connections are closed without an answer.
    Gone,
    /// Every answer waits for so long.
    Slow(Duration),
    /// Puts and parts fail with 500; everything else works.
    NoPuts,
    /// URLs that were given to others are refused with 403; everything else works.
    NoUrls,
    /// Parts after so many wait until there is another fault or none, and are not answered then.
    HeldParts(u64),
}

/// What a request is for, as far as faults tell them apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    pub(super) is_put: bool,
    pub(super) is_get: bool,
    pub(super) is_part: bool,
}

/// The fault, and counts of what came in.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The fault, and how many more requests it is for.
    fault: Mutex<(Fault, u64)>,
    changed: Notify,
    pub(super) requests: AtomicU64,
    pub(super) gets: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) parts: AtomicU64,
}

impl State {
    pub(super) fn set(&self, fault: Fault, requests: u64) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = (fault, requests);
        self.changed.notify_waiters();
    }

    /// Counts a request; the fault that it meets, and which part of all it is.
    pub(super) fn meet(&self, purpose: Purpose) -> (Fault, u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.gets.fetch_add(u64::from(purpose.is_get), Ordering::Relaxed);
        self.puts.fetch_add(u64::from(purpose.is_put), Ordering::Relaxed);
        let parts_before = self.parts.fetch_add(u64::from(purpose.is_part), Ordering::Relaxed);
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.1 == 0 {
            return (Fault::None, parts_before);
        }
        if fault.1 != u64::MAX {
            fault.1 -= 1;
        }
        (fault.0, parts_before)
    }

    /// Returns when the fault is another than `fault`.
    pub(super) async fn is_over(&self, fault: Fault) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.fault.lock().unwrap_or_else(PoisonError::into_inner).0 != fault {
                return;
            }
            changed.await;
        }
    }
}
