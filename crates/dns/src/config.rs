//! What can an operator say about a DNS server?

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use nigh_daemon::{LogConfig, TcpListen};
use nigh_proto::MachineName;
use nigh_replica::ControlConfig;
use serde::{Deserialize, Serialize};

use crate::geo::{GeoError, GeoFile};

/// The whole of `dns.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// Where this machine keeps its identity and its copy of the state.
    pub state_dir: PathBuf,
    /// What the fleet calls this machine; also what it answers to NSID (RFC 5001).
    pub name: MachineName,
    /// Where control is. It may be away: answers are made from the state on disk.
    pub control: ControlConfig,
    #[serde(default)]
    pub dns: ListenConfig,
    #[serde(default)]
    pub geoip: GeoipConfig,
    #[serde(default)]
    pub probe: ProbeConfig,
    #[serde(default = "default_ops")]
    pub ops: OpsConfig,
    #[serde(default)]
    pub log: LogConfig,
}

/// The operations pages of this role.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpsConfig {
    /// A private address: the pages need no login.
    pub listen: TcpListen,
}

fn default_ops() -> OpsConfig {
    OpsConfig { listen: TcpListen::on((Ipv4Addr::LOCALHOST, 9102).into()) }
}

/// Where queries are received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Addresses for UDP and TCP alike. On a machine with several addresses list each of them: a
    /// reply then leaves from the address that was asked (RFC 1035, section 7.3).
    pub listen: Vec<SocketAddr>,
    /// TCP connections at once over all addresses; the one that was quiet longest makes room.
    pub tcp_connections_max: usize,
    /// How long a TCP connection may go without a whole query.
    pub tcp_idle_ms: u64,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::UNSPECIFIED, 53).into()],
            tcp_connections_max: 1024,
            tcp_idle_ms: 10_000,
        }
    }
}

impl ListenConfig {
    pub(crate) fn tcp_idle(&self) -> Duration {
        Duration::from_millis(self.tcp_idle_ms)
    }
}

/// Files that say where networks are. Without them a table of continents is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeoipConfig {
    /// A MaxMind DB with `location.latitude` and `location.longitude`, such as GeoLite2-City.
    pub city: Option<PathBuf>,
    /// A MaxMind DB with `autonomous_system_number`; shown in explanations.
    pub asn: Option<PathBuf>,
    /// How often the files are looked at for a replacement.
    pub reload_ms: u64,
    /// Larger files are refused: a file is held in memory as a whole.
    pub file_bytes_max: u64,
}

impl Default for GeoipConfig {
    fn default() -> Self {
        Self { city: None, asn: None, reload_ms: 5_000, file_bytes_max: 1 << 30 }
    }
}

impl GeoipConfig {
    /// What is wrong with a file that is there. One that is not may still come. Blocking.
    pub fn unusable_file(&self) -> Option<GeoError> {
        let files = [&self.city, &self.asn].into_iter().flatten().filter(|path| path.exists());
        files.map(|path| GeoFile::open(path, self.file_bytes_max)).find_map(Result::err)
    }
}

/// How edges are asked whether they are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// How often every edge is asked.
    pub interval_ms: u64,
    /// How long an answer may take, connecting included.
    pub timeout_ms: u64,
    /// So many failures in a row take an edge out of the answers.
    pub failures: u32,
    /// So many successes in a row bring it back.
    pub successes: u32,
    /// So many edges are asked at once.
    pub concurrency_max: usize,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { interval_ms: 750, timeout_ms: 700, failures: 2, successes: 2, concurrency_max: 256 }
    }
}

/// A value that cannot work, with its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: {rule}")]
pub struct InvalidConfig {
    pub key: &'static str,
    pub value: u64,
    pub rule: &'static str,
}

impl DnsConfig {
    /// Refuses values that could never work, before anything is bound.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let probe = &self.probe;
        let at_least_one = [
            ("dns.listen", self.dns.listen.len() as u64),
            ("dns.tcp_connections_max", self.dns.tcp_connections_max as u64),
            ("dns.tcp_idle_ms", self.dns.tcp_idle_ms),
            ("geoip.reload_ms", self.geoip.reload_ms),
            ("probe.interval_ms", probe.interval_ms),
            ("probe.timeout_ms", probe.timeout_ms),
            ("probe.failures", u64::from(probe.failures)),
            ("probe.successes", u64::from(probe.successes)),
            ("probe.concurrency_max", probe.concurrency_max as u64),
        ];
        match at_least_one.into_iter().find(|&(_, value)| value == 0) {
            Some((key, value)) => Err(InvalidConfig { key, value, rule: "it must be at least 1" }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every configuration must have, and `more`.
    fn read(more: &str) -> Result<DnsConfig, serde_json::Error> {
        let control = r#"{"url":"https://control.test:8444"}"#;
        serde_json::from_str(&format!(
            r#"{{"state_dir":"/s","name":"ns1","control":{control}{more}}}"#
        ))
    }

    #[test]
    fn a_state_dir_a_name_and_control_are_enough() {
        let config = read("").unwrap();
        assert_eq!(config.dns.listen, ["0.0.0.0:53".parse().unwrap()]);
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = read(r#","probe":{"interval":1}"#).unwrap_err();
        assert!(error.to_string().contains("interval_ms"), "{error}");
    }

    #[test]
    fn a_value_that_can_never_work_is_named() {
        let config = read(r#","probe":{"failures":0}"#).unwrap();
        assert_eq!(config.check().unwrap_err().key, "probe.failures");
    }
}
