//! How does a role live, from its first socket to its last request?
//!
//! [`run`] is the same for every role and reads as the life it describes. Started means bound:
//! when [`Role::start`] returns, every listener queues connections. Stopped means drained: when
//! [`Role::stop`] returns, nothing of the role runs any more.

use std::{error::Error, fmt, future::Future, time::Duration};

use crate::{
    clock::Clock,
    limits,
    listen::{BindError, TcpListen},
    logging::causes,
    metrics::Metrics,
    notify::{Listener, Notify},
    ops::{Ops, Pages},
    readiness::{Condition, Readiness},
    signals::{InstallError, Signal, Signals},
    sockets::Sockets,
    tasks::Tasks,
};

/// How much longer than the grace a role may take to stop before it is left behind.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// No signal is heard while a role reloads, so it may not take longer.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A part of nigh that runs until it is told to stop: control, an edge, a DNS server.
pub trait Role: Sized + Send {
    /// As in `nigh serve NAME`, in logs, metrics and messages.
    const NAME: &'static str;

    type Config: Send;
    type Error: Error + Send + Sync + 'static;

    /// Binds every listener and starts all work. On an error nothing of it is left running.
    fn start(
        config: Self::Config,
        context: Context,
    ) -> impl Future<Output = Result<Self, Self::Error>> + Send;

    /// Every listener's name and the address it was bound to.
    fn listeners(&self) -> Vec<Listener>;

    /// Takes what can change in `config`; on an error the role goes on as it was.
    fn reload(
        &mut self,
        config: Self::Config,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stops accepting and waits, up to the context's grace, for work in flight.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// What a role is given to work with. Tests make their own by [`Context::new`].
#[derive(Clone, Debug)]
pub struct Context {
    /// Of the program, as in `nigh --version`.
    pub version: &'static str,
    pub clock: Clock,
    /// Owns every task of the role.
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub sockets: Sockets,
    /// How long requests in flight may take when the role stops.
    pub grace: Duration,
}

impl Context {
    /// The system's clock, no handed-over sockets, a grace of 30 s and nothing registered yet.
    pub fn new(role: &'static str, version: &'static str) -> Self {
        let tasks = Tasks::new();
        let metrics = Metrics::new(role, version);
        metrics.watch_tasks(&tasks);
        Self {
            version,
            clock: Clock::system(),
            tasks,
            metrics,
            readiness: Readiness::new(),
            sockets: Sockets::none(),
            grace: Duration::from_secs(30),
        }
    }
}

/// Reads and checks the configuration again.
pub type Reread<C> = Box<dyn FnMut() -> Result<C, Box<dyn Error + Send + Sync>> + Send>;

/// Everything that [`run`] needs to know.
pub struct Setup<C> {
    pub config: C,
    /// Reads the configuration again for a reload.
    pub reread: Reread<C>,
    /// Where the operations pages are.
    pub ops: TcpListen,
    pub context: Context,
    pub notify: Notify,
}

/// Why a role ran no longer, or not at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Signals(#[from] InstallError),
    #[error("the operations pages could not start")]
    Ops(#[from] BindError),
    #[error("{role} could not start")]
    Start { role: &'static str, source: Box<dyn Error + Send + Sync> },
    #[error("{role} stopped since its task {task} had ended; the log says why")]
    VitalTask { role: &'static str, task: &'static str },
}

/// How a role that was told to stop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished.
    Drained,
    /// The grace ran out with work in flight, or a second SIGINT cut it short.
    CutShort,
}

/// Runs a role until a signal stops it.
pub async fn run<R: Role>(setup: Setup<R::Config>) -> Result<Ended, RunError> {
    let Setup { config, reread, ops, context, notify } = setup;
    let signals = Signals::install()?;
    limits::raise_open_files();
    let running = context.readiness.condition("role", "starting");
    let ops = Ops::start(&ops, pages::<R>(&context))?;
    let watchdog = Tasks::new();
    watchdog.spawn("watchdog", notify.clone().ping_watchdog(watchdog.stopping().clone()));

    let mut life = Life { context, notify, signals, reread };
    let ended = life.live::<R>(config, &ops, &running).await;
    ops.stop().await;
    watchdog.stop(Duration::ZERO).await;
    ended
}

fn pages<R: Role>(context: &Context) -> Pages {
    let Context { version, metrics, readiness, .. } = context.clone();
    Pages { role: R::NAME, version, metrics, readiness }
}

/// What stays the same from a role's start to its end.
struct Life<C> {
    context: Context,
    notify: Notify,
    signals: Signals,
    reread: Reread<C>,
}

impl<C: Send> Life<C> {
    async fn live<R: Role<Config = C>>(
        &mut self,
        config: C,
        ops: &Ops,
        running: &Condition,
    ) -> Result<Ended, RunError> {
        let Some(mut role) = self.start::<R>(config).await? else {
            return Ok(Ended::CutShort);
        };
        running.set_ready();
        self.announce(&role, ops);
        let asked = self.supervise(&mut role).await;
        running.set_unready("stopping");
        let ended = self.drain(role).await;
        asked.map(|()| ended)
    }

    /// `None` when a signal said to stop before the role had started.
    async fn start<R: Role<Config = C>>(&mut self, config: C) -> Result<Option<R>, RunError> {
        let starting = R::start(config, self.context.clone());
        let started = tokio::select! {
            started = starting => started.map(Some),
            () = self.signals.stop() => {
                tracing::info!("{} was told to stop before it had started", R::NAME);
                Ok(None)
            }
        };
        if !matches!(started, Ok(Some(_))) {
            self.context.tasks.stop(Duration::ZERO).await;
        }
        started.map_err(|error| RunError::Start { role: R::NAME, source: error.into() })
    }

    fn announce<R: Role>(&self, role: &R, ops: &Ops) {
        self.context.sockets.warn_of_unused();
        let mut listeners = role.listeners();
        listeners.push(("ops", ops.addr()));
        for (name, address) in &listeners {
            tracing::info!(listener = name, %address, "{} listens on {address} ({name})", R::NAME);
        }
        self.notify.ready(R::NAME, &listeners);
    }

    /// Ends when the role is to stop: well by a signal, badly when it has lost a vital task.
    async fn supervise<R: Role<Config = C>>(&mut self, role: &mut R) -> Result<(), RunError> {
        loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signal::Stop => return Ok(()),
                    Signal::Reload => self.reload(role).await,
                },
                task = self.context.tasks.failed() => {
                    tracing::error!(task, "{} cannot go on without its task {task}", R::NAME);
                    return Err(RunError::VitalTask { role: R::NAME, task });
                }
            }
        }
    }

    async fn reload<R: Role<Config = C>>(&mut self, role: &mut R) {
        self.notify.reloading();
        let reloaded = match (self.reread)() {
            Ok(config) => match tokio::time::timeout(RELOAD_TIMEOUT, role.reload(config)).await {
                Ok(reloaded) => reloaded.map_err(Into::into),
                Err(_) => Err(format!("not taken within {RELOAD_TIMEOUT:?}").into()),
            },
            Err(error) => Err(error),
        };
        match reloaded {
            Ok(()) => {
                tracing::info!("{} took its new configuration", R::NAME);
                self.notify.reloaded("serving, reloaded");
            }
            Err(error) => {
                let error = causes(error.as_ref());
                tracing::error!(error, "{} goes on with its old configuration", R::NAME);
                self.notify.reloaded(&format!("serving, reload failed: {error}"));
            }
        }
    }

    async fn drain<R: Role>(&mut self, role: R) -> Ended {
        let grace = self.context.grace;
        tracing::info!("{} stops; requests in flight have {grace:?}", R::NAME);
        self.notify.stopping();
        let is_in_time = tokio::select! {
            stopped = tokio::time::timeout(grace + STOP_MARGIN, role.stop()) => stopped.is_ok(),
            () = self.signals.interrupted() => false,
        };
        let tasks_aborted = self.context.tasks.stop(Duration::ZERO).await;
        if is_in_time && tasks_aborted == 0 { Ended::Drained } else { Ended::CutShort }
    }
}

impl<C: fmt::Debug> fmt::Debug for Setup<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}
