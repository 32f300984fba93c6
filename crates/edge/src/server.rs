//! How does an edge start, reload and stop?

use std::{net::SocketAddr, path::Path, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use nigh_core::{
    blob::{OpenError, Store, StoreOptions},
    hot::HotCache,
};
use nigh_daemon::{BindError, Context, Role, TcpListen};
use nigh_durable::{LockError, StateDir};
use nigh_proto::{
    Protocols,
    report::{MachineAbout, MachineRole, Ports},
};
use nigh_replica::{Replica, ReplicaConfig};
use tokio::{net::TcpListener, sync::mpsc, task::spawn_blocking};

use crate::{
    access_log::{AccessLog, LogFileError},
    bucket::BucketFirst,
    certificates::Keyring,
    config::{EdgeConfig, InvalidConfig},
    connection::Port,
    edge::{CacheStatusValues, Edge},
    give_back,
    heal::Healer,
    intake::Source,
    machine_metrics::MachineCollector,
    metrics::Metrics,
    peers::{Arrivals, FanOut, PeerPort, Pieces},
    places::Places,
    shelf::Shelf,
    source::{BlobSource, Counting},
    stage::Stage,
    stager::Stager,
    tickets::Tickets,
    tls,
    upkeep::Upkeep,
    world::World,
};

/// Words of release tasks that wait to be heard.
const EVENTS_MAX: usize = 256;

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration cannot work")]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    StateDir(#[from] LockError),
    #[error("the blobs on disk cannot be opened")]
    Store(#[from] OpenError),
    #[error(transparent)]
    Replica(#[from] nigh_replica::OpenError),
    #[error(transparent)]
    AccessLog(#[from] LogFileError),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the edge was told to stop while it started")]
    Stopped,
}

/// A running edge.
#[derive(Debug)]
pub struct EdgeServer {
    config: EdgeConfig,
    context: Context,
    edge: Arc<Edge>,
    listeners: Vec<(&'static str, SocketAddr)>,
    _state_dir: StateDir,
}

impl Role for EdgeServer {
    const NAME: &'static str = "edge";

    type Config = EdgeConfig;
    type Error = StartError;

    async fn start(config: EdgeConfig, context: Context) -> Result<Self, StartError> {
        let source = |replica, counting: &Counting| -> Source {
            Arc::new(BucketFirst::new(replica, counting.clone()))
        };
        Self::start_from(config, context, source).await
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        self.listeners.clone()
    }

    /// The access log is opened again, as log rotation wants. Everything else needs a restart.
    async fn reload(&mut self, config: EdgeConfig) -> Result<(), StartError> {
        config.check()?;
        let dropped = self.edge.metrics.log_lines_dropped.clone();
        let log = AccessLog::open(&config.access_log, dropped)?;
        self.edge.access_log.store(log.map(Arc::new));
        let kept = EdgeConfig {
            access_log: config.access_log.clone(),
            log: config.log.clone(),
            ..self.config.clone()
        };
        if kept != config {
            tracing::warn!("only access_log and log change without a restart");
        }
        self.config = kept;
        Ok(())
    }

    async fn stop(self) {
        self.context.tasks.stop(self.context.grace).await;
    }
}

impl EdgeServer {
    /// Starts an edge that fetches blobs from what `source` makes of the line to control.
    pub async fn start_with(
        config: EdgeConfig,
        context: Context,
        source: impl FnOnce(Replica) -> Arc<dyn BlobSource>,
    ) -> Result<Self, StartError> {
        let source = |replica, counting: &Counting| -> Source {
            Arc::new(counting.of(source(replica), "control"))
        };
        Self::start_from(config, context, source).await
    }

    async fn start_from(
        config: EdgeConfig,
        context: Context,
        source: impl FnOnce(Replica, &Counting) -> Source,
    ) -> Result<Self, StartError> {
        config.check()?;
        let state_dir = StateDir::lock(&config.state_dir)?;
        let bound = Bound::bind(&config, &context)?;
        let store = open_store(&config).await?;
        let (replica, follower) = open_replica(&config, &context, &bound)?;
        let metrics = Arc::new(context.metrics.register(Metrics::register));
        let counting = Counting::new(Arc::clone(&metrics));
        let source = source(replica.clone(), &counting);
        let parts = Parts { metrics, store: store.clone(), source: Arc::clone(&source) };
        let edge = Arc::new(assemble(&config, &context, &bound, &replica, parts)?);
        let is_enabled = config.peers.enabled;
        let arrivals = Arrivals::default();
        let pieces = Pieces::new(store.clone(), Arc::clone(&source), arrivals.clone());
        let fan_out =
            FanOut::new(store.clone(), replica.clone(), counting.clone(), pieces, is_enabled);

        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let mut stager = Stager::new(
            Arc::clone(&edge),
            replica.clone(),
            Stage::new(store.clone(), source, fan_out, events),
            context.tasks.clone(),
            context.readiness.condition("state", "control has not sent a state yet"),
            config.state_dir.join("served.json"),
        );
        stager.load_from_disk().await;

        let stopping = context.tasks.stopping().clone();
        context.tasks.spawn_vital("replica", async move {
            stopping.run_until_cancelled(follower.run()).await;
        });
        context.tasks.spawn_vital("stager", stager.run(heard));
        let giving = give_back::run(store, replica.clone(), context.tasks.stopping().clone());
        context.tasks.spawn("give back", giving);
        let listeners = bound.listeners.clone();
        let peers = config.peers.enabled.then(|| {
            let fetched = counting.all_bytes();
            PeerPort::new(Arc::clone(&edge), replica, &config.peers, arrivals, fetched)
        });
        bound.serve(&config, &context, &edge, peers)?;
        Ok(EdgeServer { config, context, edge, listeners, _state_dir: state_dir })
    }
}

/// Sockets that queue connections already.
struct Bound {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    listeners: Vec<(&'static str, SocketAddr)>,
}

impl Bound {
    fn bind(config: &EdgeConfig, context: &Context) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        let mut bind = |name: &'static str, listens: &[TcpListen]| {
            let bind = |listen: &TcpListen| {
                let listener = context.sockets.tcp(name, listen)?;
                let address = listener.local_addr().map_err(|source| BindError::Other {
                    what: name.to_owned(),
                    address: listen.address,
                    source,
                })?;
                listeners.push((name, address));
                Ok::<_, BindError>(listener)
            };
            listens.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let http = bind("http", &config.http.listen)?;
        let https = bind("https", &config.https.listen)?;
        Ok(Bound { http, https, listeners })
    }

    /// The first port of a kind; 0 when there is none.
    fn port(&self, name: &str) -> u16 {
        let first = self.listeners.iter().find(|(kind, _)| *kind == name);
        first.map_or(0, |(_, address)| address.port())
    }

    fn serve(
        self,
        config: &EdgeConfig,
        context: &Context,
        edge: &Arc<Edge>,
        peers: Option<Arc<PeerPort>>,
    ) -> Result<(), StartError> {
        let tls = Arc::new(tls::server_config(edge.keyring.clone(), edge.tickets.clone())?);
        let limits = &config.limits;
        let port = Port {
            edge: Arc::clone(edge),
            tasks: context.tasks.clone(),
            limits: Arc::new(limits.clone()),
            places: Places::new(limits.connections_max, limits.connections_per_address_max),
            tls: None,
            peers: None,
        };
        for listener in self.http {
            context.tasks.spawn_vital("http", port.clone().accept(listener));
        }
        let port = Port { tls: Some(tls), peers, ..port };
        for listener in self.https {
            context.tasks.spawn_vital("https", port.clone().accept(listener));
        }
        Ok(())
    }
}

async fn open_store(config: &EdgeConfig) -> Result<Store, StartError> {
    let dir = config.state_dir.join("blobs");
    let reserve_bytes = config.storage.reserve_bytes;
    let options = StoreOptions { reserve_bytes, ..StoreOptions::default() };
    let opened = spawn_blocking(move || Store::open_with(&dir, options)).await;
    Ok(opened.map_err(|_| StartError::Stopped)??)
}

fn open_replica(
    config: &EdgeConfig,
    context: &Context,
    bound: &Bound,
) -> Result<(Replica, nigh_replica::Follower), StartError> {
    let about = MachineAbout {
        role: MachineRole::Edge,
        name: config.name.clone(),
        region: Some(config.region.clone()),
        location: Some(config.location()),
        ipv4: config.ipv4.clone(),
        ipv6: config.ipv6.clone(),
        ports: Ports { http: bound.port("http"), https: bound.port("https"), dns: 0 },
        version: context.version.to_owned(),
        protocols: Protocols::HERE,
    };
    let state_dir: &Path = &config.state_dir;
    let replica =
        ReplicaConfig { state_dir: state_dir.to_owned(), control: config.control.clone(), about };
    let clock = context.clock.clone();
    Ok(Replica::open(replica, move || clock.now().into())?)
}

/// What an edge is made of besides its configuration.
struct Parts {
    metrics: Arc<Metrics>,
    store: Store,
    source: Source,
}

fn assemble(
    config: &EdgeConfig,
    context: &Context,
    bound: &Bound,
    replica: &Replica,
    parts: Parts,
) -> Result<Edge, StartError> {
    let Parts { metrics, store, source } = parts;
    let hot = Arc::new(HotCache::new(&config.hot_cache));
    let collector = MachineCollector { replica: replica.clone(), hot: Arc::clone(&hot) };
    context.metrics.register(|registry| registry.register_collector(Box::new(collector)));
    let healer = Healer::new(
        store.clone(),
        Arc::clone(&hot),
        source,
        context.tasks.clone(),
        Arc::clone(&metrics),
    );
    let upkeep = Upkeep {
        store: store.clone(),
        healer: healer.clone(),
        replica: replica.clone(),
        metrics: Arc::clone(&metrics),
        config: config.storage.clone(),
    };
    upkeep.start(&context.tasks);
    let access_log = AccessLog::open(&config.access_log, metrics.log_lines_dropped.clone())?;
    let https_port = config.https.public_port.unwrap_or_else(|| bound.port("https"));
    Ok(Edge {
        name: config.name.as_str().into(),
        world: ArcSwap::from_pointee(World::default()),
        shelf: Shelf::new(store, hot, healer, config.limits.disk_reads_max),
        keyring: Keyring::default(),
        tickets: Tickets::new(context.clock.clone())?,
        clock: context.clock.clone(),
        no_site: metrics.no_site(),
        metrics,
        access_log: ArcSwapOption::from(access_log.map(Arc::new)),
        cache_status: CacheStatusValues::new(&config.name),
        https_port: (https_port != 0).then_some(https_port),
        request_body_bytes_max: config.limits.request_body_bytes_max,
        request_body_timeout: config.limits.header_timeout(),
        stopping: context.tasks.stopping().clone(),
    })
}
