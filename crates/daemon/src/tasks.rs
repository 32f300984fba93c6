//! Who owns background work, and when has all of it ended?
//!
//! Every task of a role is spawned through one [`Tasks`], so none outlives its role and none ends
//! unseen. A panic ends one task, is logged and counted, and the role goes on; a *vital* task that
//! ends early ends the role, since a role that has lost its listener only looks alive.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a task has to be dropped after its grace ran out; only a task that blocks its thread
/// needs longer.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// The tasks of one role; cheap to clone, every clone is the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Group>);

#[derive(Debug, Default)]
struct Group {
    tracker: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
    failed: CancellationToken,
    first_failure: Mutex<Option<&'static str>>,
    running: Mutex<BTreeMap<&'static str, usize>>,
    panicked: AtomicU64,
    aborted: AtomicUsize,
}

/// Counts one task as running until it is dropped, however the task ends.
struct Running {
    name: &'static str,
    group: Arc<Group>,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` until it ends, panics or is aborted after the grace of [`stop`](Self::stop).
    ///
    /// The future should watch [`stopping`](Self::stopping) and end soon after it is cancelled.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let group = Arc::clone(&self.0);
        self.0.tracker.spawn(async move {
            group.run(name, future).await;
        });
    }

    /// Like [`spawn`](Self::spawn), but the role cannot do without this task: when it ends or
    /// panics before the stop, [`failed`](Self::failed) says so.
    pub fn spawn_vital(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let group = Arc::clone(&self.0);
        self.0.tracker.spawn(async move {
            group.run(name, future).await;
            if !group.stop.is_cancelled() {
                group.fail(name);
            }
        });
    }

    /// Cancelled when the role is told to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Tells every task to end, without waiting for them.
    pub fn begin_stop(&self) {
        self.0.stop.cancel();
    }

    /// Ends when a vital task has ended too early, with its name.
    pub async fn failed(&self) -> &'static str {
        self.0.failed.cancelled().await;
        locked(&self.0.first_failure).expect("the name is set before the signal")
    }

    /// Tells every task to end, waits up to `grace`, then aborts what is left.
    ///
    /// Returns how many tasks had to be aborted, in this stop or an earlier one.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.begin_stop();
        self.0.tracker.close();
        if tokio::time::timeout(grace, self.0.tracker.wait()).await.is_ok() {
            return self.0.aborted.load(Ordering::Relaxed);
        }
        let tasks_left = self.0.tracker.len();
        let names = self.names();
        tracing::warn!(tasks_left, "stopped with work in flight after {grace:?}: {names}");
        self.0.aborted.fetch_max(tasks_left, Ordering::Relaxed);
        self.0.abort.cancel();
        if tokio::time::timeout(ABORT_WAIT, self.0.tracker.wait()).await.is_err() {
            tracing::warn!(tasks_left = self.0.tracker.len(), "a task does not yield: {names}");
        }
        tasks_left
    }

    /// How many tasks are running.
    pub fn len(&self) -> usize {
        self.0.tracker.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.tracker.is_empty()
    }

    /// How many tasks have panicked since the start.
    pub fn panicked(&self) -> u64 {
        self.0.panicked.load(Ordering::Relaxed)
    }

    /// How many tasks of each name are running.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        locked(&self.0.running).clone()
    }

    fn names(&self) -> String {
        let each: Vec<String> =
            self.running().iter().map(|(name, count)| format!("{name} ({count})")).collect();
        each.join(", ")
    }
}

impl Group {
    async fn run(self: &Arc<Self>, name: &'static str, future: impl Future<Output = ()>) {
        let _running = Running::new(name, Arc::clone(self));
        let caught = AssertUnwindSafe(future).catch_unwind();
        if let Some(Err(panic)) = self.abort.run_until_cancelled(caught).await {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, "task {name} panicked: {}", panic_text(panic.as_ref()));
        }
    }

    fn fail(&self, name: &'static str) {
        locked(&self.first_failure).get_or_insert(name);
        self.failed.cancel();
    }
}

impl Running {
    fn new(name: &'static str, group: Arc<Group>) -> Self {
        *locked(&group.running).entry(name).or_insert(0) += 1;
        Self { name, group }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = locked(&self.group.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds these counts")
}

/// The message of a panic, as far as it is text.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn stop_waits_for_work_in_flight() {
        let tasks = Tasks::new();
        let (done, mut finished) = tokio::sync::oneshot::channel();
        let stopping = tasks.stopping().clone();
        tasks.spawn("request", async move {
            stopping.cancelled().await;
            tokio::task::yield_now().await;
            done.send(()).unwrap();
        });
        assert_eq!(tasks.stop(NEVER).await, 0);
        finished.try_recv().unwrap();
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_aborted_and_counted() {
        let tasks = Tasks::new();
        let (kept, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stubborn", async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(tasks.running(), BTreeMap::from([("stubborn", 1)]));
        assert_eq!(tasks.stop(Duration::ZERO).await, 1);
        assert!(dropped.await.is_err(), "the task's values are dropped");
        assert!(tasks.is_empty());
        assert_eq!(tasks.running(), BTreeMap::new());
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_others_go_on() {
        let tasks = Tasks::new();
        tasks.spawn("unlucky", async { panic!("as the test wants") });
        let (done, finished) = tokio::sync::oneshot::channel();
        tasks.spawn("other", async move { done.send(()).unwrap() });
        finished.await.unwrap();
        assert_eq!(tasks.stop(NEVER).await, 0);
        assert_eq!(tasks.panicked(), 1);
    }

    #[tokio::test]
    async fn a_vital_task_that_ends_early_is_reported_by_name() {
        let tasks = Tasks::new();
        tasks.spawn_vital("listener", async { panic!("as the test wants") });
        assert_eq!(tasks.failed().await, "listener");
    }

    #[tokio::test]
    async fn a_vital_task_may_end_during_the_stop() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping().clone();
        tasks.spawn_vital("listener", async move { stopping.cancelled().await });
        tasks.stop(NEVER).await;
        assert!(tasks.failed().now_or_never().is_none());
    }
}
