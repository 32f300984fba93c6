//! How does a DNS server start, reload and stop?
//!
//! Everything is bound before anything is answered, and a state that is on disk is compiled before
//! start returns: a restart needs nobody else.

mod listeners;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use nigh_daemon::{BindError, Context, Role, notify::Listener};
use nigh_durable::{LockError, StateDir};
use nigh_proto::{
    Protocols, Timestamp,
    report::{MachineAbout, MachineRole, Ports},
};
use nigh_replica::{OpenError, Replica, ReplicaConfig};
use tokio::sync::watch;

use self::listeners::Bound;
use crate::{
    config::{DnsConfig, GeoipConfig, InvalidConfig, ProbeConfig},
    files::{self, GeoFiles},
    machine_metrics::MachineCollector,
    metrics::DnsMetrics,
    probe::Probes,
    publish::Publisher,
    responder::Responder,
    tcp::{self, Seats, Service},
    udp,
};

/// Names of the addresses, in the order of `dns.listen`; what is beyond them has none to show.
const LISTENERS: [&str; 8] = ["dns", "dns2", "dns3", "dns4", "dns5", "dns6", "dns7", "dns8"];

/// Why a DNS server did not start, or did not take its new configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration cannot work")]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("no port is free for both UDP and TCP on {address}")]
    NoCommonPort { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the state in {} cannot be opened", .state_dir.display())]
    Replica { state_dir: PathBuf, source: OpenError },
}

/// A running DNS server.
#[derive(Debug)]
pub struct DnsServer {
    config: DnsConfig,
    addresses: Vec<SocketAddr>,
    context: Context,
    responder: Arc<Responder>,
    probe_config: watch::Sender<ProbeConfig>,
    geoip_config: watch::Sender<GeoipConfig>,
    /// Nobody else uses the state folder while this is held.
    _state_dir: StateDir,
}

impl Role for DnsServer {
    const NAME: &'static str = "dns";

    type Config = DnsConfig;
    type Error = StartError;

    /// Binds every listener before anything is answered, so a taken port is an error here.
    async fn start(config: DnsConfig, context: Context) -> Result<Self, StartError> {
        config.check()?;
        let bound = Bound::bind(&config.dns.listen, &context.sockets)?;
        let state_dir = StateDir::lock(&config.state_dir)?;
        let metrics = DnsMetrics::default();
        context.metrics.register(|registry| metrics.register(registry));
        let responder = Arc::new(Responder::new(metrics.clone()));
        let addresses = bound.iter().map(|bound| bound.address).collect::<Vec<_>>();

        let (geoip_config, geo) = start_geoip(&config.geoip, &metrics, &context).await;
        let probes = Probes::new(metrics.clone());
        let probe_config = watch::Sender::new(config.probe);
        start_replica(&config, &addresses, &context, |replica, ready| Publisher {
            replica,
            geo,
            probes: probes.clone(),
            responder: Arc::clone(&responder),
            metrics: metrics.clone(),
            ready,
        })
        .await?;
        let stopping = context.tasks.stopping().clone();
        context.tasks.spawn_vital("dns probes", probes.run(probe_config.subscribe(), stopping));
        serve(bound, &config, &context, &responder, metrics);
        Ok(Self {
            config,
            addresses,
            context,
            responder,
            probe_config,
            geoip_config,
            _state_dir: state_dir,
        })
    }

    /// `dns`, then `dns2` and so on: one for each address, UDP and TCP alike.
    fn listeners(&self) -> Vec<Listener> {
        LISTENERS.into_iter().zip(self.addresses.iter().copied()).collect()
    }

    /// Takes `[probe]` and `[geoip]`; everything else needs a restart, and is said to.
    async fn reload(&mut self, config: DnsConfig) -> Result<(), StartError> {
        config.check()?;
        self.probe_config.send_replace(config.probe);
        self.geoip_config.send_replace(config.geoip.clone());
        let taken =
            DnsConfig { probe: config.probe, geoip: config.geoip.clone(), ..self.config.clone() };
        if taken != (DnsConfig { log: taken.log.clone(), ..config }) {
            tracing::warn!(
                "some changes in dns.toml are outside [probe], [geoip] and [log]: they need a restart"
            );
        }
        self.config = taken;
        Ok(())
    }

    /// Answers what has arrived, then ends.
    async fn stop(self) {
        self.context.tasks.stop(self.context.grace).await;
    }
}

impl Drop for DnsServer {
    /// Without a [`stop`](Role::stop) its tasks are told to end all the same.
    fn drop(&mut self) {
        self.context.tasks.begin_stop();
    }
}

impl DnsServer {
    /// What answers are made from now: for explanations.
    pub fn responder(&self) -> &Arc<Responder> {
        &self.responder
    }
}

/// Reads the GeoIP files once and follows them from then on.
async fn start_geoip(
    config: &GeoipConfig,
    metrics: &DnsMetrics,
    context: &Context,
) -> (watch::Sender<GeoipConfig>, watch::Receiver<crate::Geo>) {
    let mut files = GeoFiles::new(config.clone(), metrics.clone());
    let checked = tokio::task::spawn_blocking(move || {
        files.check();
        files
    });
    let files = checked.await.unwrap_or_else(|_| {
        tracing::error!("the GeoIP files could not be read by a bug; clients are placed without");
        GeoFiles::new(GeoipConfig::default(), metrics.clone())
    });
    let geo = watch::Sender::new(files.current());
    let receiver = geo.subscribe();
    let settings = watch::Sender::new(config.clone());
    let stopping = context.tasks.stopping().clone();
    context.tasks.spawn("dns geoip", files::follow(files, settings.subscribe(), geo, stopping));
    (settings, receiver)
}

/// Answers from the state on disk, and follows control from then on.
async fn start_replica(
    config: &DnsConfig,
    addresses: &[SocketAddr],
    context: &Context,
    publisher: impl FnOnce(Replica, nigh_daemon::readiness::Condition) -> Publisher,
) -> Result<(), StartError> {
    let clock = context.clock.clone();
    let replica_config = ReplicaConfig {
        state_dir: config.state_dir.clone(),
        control: config.control.clone(),
        about: about(config, addresses),
    };
    let opened = Replica::open(replica_config, move || Timestamp::from(clock.now()));
    let (replica, follower) = opened
        .map_err(|source| StartError::Replica { state_dir: config.state_dir.clone(), source })?;
    let machine = MachineCollector { replica: replica.clone() };
    context.metrics.register(|registry| registry.register_collector(Box::new(machine)));
    let ready = context.readiness.condition("state", "control has sent no state yet");
    let state = replica.state().borrow().clone();
    let mut publisher = publisher(replica, ready);
    publisher.publish(state).await;
    let stopping = context.tasks.stopping().clone();
    context.tasks.spawn_vital("dns state", publisher.run(stopping.clone()));
    context.tasks.spawn("replica", async move {
        stopping.run_until_cancelled(follower.run()).await;
    });
    Ok(())
}

fn about(config: &DnsConfig, addresses: &[SocketAddr]) -> MachineAbout {
    let public = |address: &&SocketAddr| !address.ip().is_unspecified();
    let ips = || addresses.iter().filter(public).map(SocketAddr::ip);
    MachineAbout {
        role: MachineRole::Dns,
        name: config.name.clone(),
        region: None,
        location: None,
        ipv4: ips()
            .filter_map(|ip| match ip {
                std::net::IpAddr::V4(ip) => Some(ip),
                std::net::IpAddr::V6(_) => None,
            })
            .collect(),
        ipv6: ips()
            .filter_map(|ip| match ip {
                std::net::IpAddr::V4(_) => None,
                std::net::IpAddr::V6(ip) => Some(ip),
            })
            .collect(),
        ports: Ports { dns: addresses.first().map_or(0, SocketAddr::port), ..Ports::default() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: Protocols::HERE,
    }
}

fn serve(
    bound: Vec<Bound>,
    config: &DnsConfig,
    context: &Context,
    responder: &Arc<Responder>,
    metrics: DnsMetrics,
) {
    let service = Service {
        responder: Arc::clone(responder),
        seats: Seats::new(config.dns.tcp_connections_max, metrics),
        idle: config.dns.tcp_idle(),
        tasks: context.tasks.clone(),
    };
    for Bound { udp, tcp, .. } in bound {
        let stopping = context.tasks.stopping().clone();
        context.tasks.spawn_vital("dns udp", udp::serve(udp, Arc::clone(responder), stopping));
        context.tasks.spawn_vital("dns tcp", tcp::serve(tcp, service.clone()));
    }
}
