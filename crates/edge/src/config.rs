//! What can an operator say about an edge?

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use nigh_core::hot::HotCacheConfig;
use nigh_daemon::{LogConfig, TcpListen};
use nigh_proto::{MachineName, RegionName, state::Location};
use nigh_replica::ControlConfig;
use serde::{Deserialize, Serialize};

use crate::{access_log::AccessLogConfig, stall::Demands};

/// The whole of `edge.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// Where this machine keeps its identity, its copy of the state and all blobs.
    pub state_dir: PathBuf,
    /// What the fleet calls this machine.
    pub name: MachineName,
    pub region: RegionName,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Addresses that visitors reach this machine at.
    #[serde(default)]
    pub ipv4: Vec<Ipv4Addr>,
    #[serde(default)]
    pub ipv6: Vec<Ipv6Addr>,
    pub control: ControlConfig,
    #[serde(default)]
    pub http: HttpConfig,
    #[serde(default)]
    pub https: HttpsConfig,
    #[serde(default = "default_ops")]
    pub ops: OpsConfig,
    #[serde(default)]
    pub log: LogConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub hot_cache: HotCacheConfig,
    #[serde(default)]
    pub storage: StorageConfig,
    #[serde(default)]
    pub access_log: AccessLogConfig,
    #[serde(default)]
    pub peers: PeersConfig,
}

/// The operations pages of this role.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpsConfig {
    /// A private address: the pages need no login.
    pub listen: TcpListen,
}

fn default_ops() -> OpsConfig {
    OpsConfig { listen: TcpListen::on((Ipv4Addr::LOCALHOST, 9101).into()) }
}

/// Plain HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    pub listen: Vec<TcpListen>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig { listen: vec![TcpListen::on((Ipv6Addr::UNSPECIFIED, 80).into())] }
    }
}

/// HTTP over TLS.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsConfig {
    pub listen: Vec<TcpListen>,
    /// The port that visitors are redirected to from plain HTTP, where it differs from the one of
    /// `listen`: behind a forwarded port, say.
    pub public_port: Option<u16>,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        let listen = vec![TcpListen::on((Ipv6Addr::UNSPECIFIED, 443).into())];
        HttpsConfig { listen, public_port: None }
    }
}

/// How edges bring each other blobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeersConfig {
    /// Whether this edge fetches from others and they from it. Without, all comes from control.
    pub enabled: bool,
    /// Connections of other edges at once.
    pub connections_max: usize,
    /// How fast one answer to another edge leaves while visitors are served under pressure; 0 for
    /// any speed.
    pub busy_bytes_per_s: u64,
}

impl Default for PeersConfig {
    fn default() -> Self {
        PeersConfig { enabled: true, connections_max: 128, busy_bytes_per_s: 8 << 20 }
    }
}

/// How much of the machine strangers may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Open connections over all listeners; more are closed at once.
    pub connections_max: usize,
    /// Open connections of one IPv4 address or IPv6 /64; 0 for any number, as behind a proxy.
    pub connections_per_address_max: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout_ms: u64,
    /// How long the head of a request may take, from its first byte or the answer before it.
    pub header_timeout_ms: u64,
    /// A connection on which no byte moves for so long is closed.
    pub idle_timeout_ms: u64,
    /// How fast a client must take its answers, over the idle timeout; 0 for any speed.
    pub send_bytes_per_s_min: u64,
    /// Fields of one request.
    pub headers_max: usize,
    /// Bytes of one request's head.
    pub header_bytes_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Bodies of requests that are read and thrown away so that the connection can go on.
    pub request_body_bytes_max: usize,
    /// Files that are read from disk at the same time for visitors.
    pub disk_reads_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            connections_max: 16_384,
            connections_per_address_max: 1024,
            handshake_timeout_ms: 10_000,
            header_timeout_ms: 15_000,
            idle_timeout_ms: 60_000,
            send_bytes_per_s_min: 256,
            headers_max: 100,
            header_bytes_max: 64 << 10,
            streams_max: 128,
            request_body_bytes_max: 64 << 10,
            disk_reads_max: 64,
        }
    }
}

impl LimitsConfig {
    pub(crate) const fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub(crate) const fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) const fn demands(&self) -> Demands {
        let sent_bytes_min = self.send_bytes_per_s_min.saturating_mul(self.idle_timeout_ms) / 1000;
        Demands { window: Duration::from_millis(self.idle_timeout_ms), sent_bytes_min }
    }
}

/// How blobs are looked after.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// How much of the disk stays free. Unless set: 256 MiB, or 1 % of a small disk.
    pub reserve_bytes: Option<u64>,
    /// How fast blobs are read again to find damage; 0 turns it off.
    pub scrub_bytes_per_s: u64,
    /// How long after the start the first pass begins.
    pub scrub_after_ms: u64,
    /// How long after the end of a pass the next begins.
    pub scrub_every_ms: u64,
    /// How often blobs that no release needs are removed.
    pub collect_every_ms: u64,
    /// Blobs younger than this are kept, needed or not.
    pub collect_young_ms: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            reserve_bytes: None,
            scrub_bytes_per_s: 16 << 20,
            scrub_after_ms: 30_000,
            scrub_every_ms: 24 * 3_600_000,
            collect_every_ms: 600_000,
            collect_young_ms: 3_600_000,
        }
    }
}

/// A value that cannot work, with its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: {rule}")]
pub struct InvalidConfig {
    pub key: &'static str,
    pub value: String,
    pub rule: &'static str,
}

impl EdgeConfig {
    /// Where the machine is.
    pub const fn location(&self) -> Location {
        Location { latitude: self.latitude, longitude: self.longitude }
    }

    /// Refuses values that could never work, before anything is bound.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        if !self.location().is_valid() {
            let value = format!("{}, {}", self.latitude, self.longitude);
            let rule = "want -90 to 90 and -180 to 180 degrees";
            return Err(InvalidConfig { key: "latitude, longitude", value, rule });
        }
        let limits = &self.limits;
        let at_least_one = [
            ("http.listen or https.listen", self.http.listen.len() + self.https.listen.len()),
            ("limits.connections_max", limits.connections_max),
            ("limits.handshake_timeout_ms", limits.handshake_timeout_ms as usize),
            ("limits.header_timeout_ms", limits.header_timeout_ms as usize),
            ("limits.idle_timeout_ms", limits.idle_timeout_ms as usize),
            ("limits.headers_max", limits.headers_max),
            ("limits.streams_max", limits.streams_max as usize),
            ("limits.disk_reads_max", limits.disk_reads_max),
            ("storage.scrub_every_ms", self.storage.scrub_every_ms as usize),
            ("storage.collect_every_ms", self.storage.collect_every_ms as usize),
        ];
        let rule = "it must be at least 1";
        if let Some((key, _)) = at_least_one.into_iter().find(|&(_, value)| value == 0) {
            return Err(InvalidConfig { key, value: "0".to_owned(), rule });
        }
        if limits.header_bytes_max < 8 << 10 {
            let (key, value) = ("limits.header_bytes_max", limits.header_bytes_max.to_string());
            return Err(InvalidConfig { key, value, rule: "it must be at least 8192" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#""state_dir":"/s","name":"fra1","region":"eu","latitude":50.1,
        "longitude":8.7,"control":{"url":"https://c:8444"}"#;

    fn read(more: &str) -> Result<EdgeConfig, serde_json::Error> {
        serde_json::from_str(&format!("{{{LEAST}{more}}}"))
    }

    #[test]
    fn a_place_a_name_and_control_are_enough() {
        let config = read("").unwrap();
        assert_eq!(config.check(), Ok(()));
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<EdgeConfig>(&written).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = read(r#","limits":{"connections":1}"#).unwrap_err();
        assert!(error.to_string().contains("connections_max"), "{error}");
    }

    #[test]
    fn values_that_can_never_work_are_named() {
        for (more, key) in [
            (r#","limits":{"connections_max":0}"#, "limits.connections_max"),
            (r#","limits":{"header_bytes_max":100}"#, "limits.header_bytes_max"),
            (r#","http":{"listen":[]},"https":{"listen":[]}"#, "http.listen or https.listen"),
        ] {
            assert_eq!(read(more).unwrap().check().unwrap_err().key, key);
        }
    }
}
