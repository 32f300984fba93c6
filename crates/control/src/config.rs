//! What can an operator say about control?
//!
//! Every section has its defaults here, beside what it means; unknown keys are refused. [`zones`]
//! turns the short form of DNS zones in the file into the words of the fleet.

mod access;
mod blobs;
mod certificates;
mod events;
mod webhooks;
mod zones;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use nigh_daemon::{LogConfig, TcpListen};
use nigh_proto::{
    Host, MachineName, RegionName,
    state::{Location, NetworkTarget, OperatorNetwork},
};
use serde::{Deserialize, Serialize};

pub use access::{AuditConfig, LimitsConfig, QuotasConfig};
pub use blobs::BlobsConfig;
pub use certificates::{AcmeConfig, CertificateMode, CertificatesConfig};
pub use events::EventsConfig;
pub use webhooks::WebhooksConfig;
pub use zones::{RecordConfig, ZoneConfig};

/// One day in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The whole of `control.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Where the database, the blobs and control's CA are kept.
    pub state_dir: PathBuf,
    #[serde(default)]
    pub api: ApiConfig,
    #[serde(default)]
    pub machines: MachinesConfig,
    #[serde(default)]
    pub ops: OpsConfig,
    #[serde(default)]
    pub log: LogConfig,
    #[serde(default)]
    pub database: DatabaseConfig,
    #[serde(default)]
    pub secrets: SecretsConfig,
    #[serde(default)]
    pub events: EventsConfig,
    #[serde(default)]
    pub webhooks: WebhooksConfig,
    #[serde(default)]
    pub blobs: BlobsConfig,
    #[serde(default)]
    pub sites: SitesConfig,
    #[serde(default)]
    pub quotas: QuotasConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub audit: AuditConfig,
    #[serde(default)]
    pub variants: VariantsConfig,
    #[serde(default)]
    pub certificates: CertificatesConfig,
    #[serde(default)]
    pub public: PublicConfig,
    #[serde(default)]
    pub dns: DnsConfig,
    /// Zones that nigh's DNS servers answer for.
    #[serde(default)]
    pub zones: Vec<ZoneConfig>,
    /// Where networks are, as the operator knows it; this wins over GeoIP.
    #[serde(default)]
    pub networks: Vec<NetworkConfig>,
}

/// Where people and their tools reach control.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    pub listen: Vec<TcpListen>,
    /// Host names and addresses that control's certificate is for, besides those listened on.
    pub names: Vec<String>,
    /// Connections served at once; more wait in the kernel's queue.
    pub connections_max: usize,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let listen = vec![TcpListen::on((Ipv4Addr::LOCALHOST, 8443).into())];
        Self { listen, names: vec!["localhost".to_owned()], connections_max: 512 }
    }
}

/// Where machines reach control.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachinesConfig {
    pub listen: TcpListen,
    /// Host names and addresses that control's certificate is for, besides the one listened on.
    pub names: Vec<String>,
    /// Connections served at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a machine's certificate is valid. Machines renew theirs after two thirds.
    pub certificate_ms: u64,
    /// How long a rotation of the CA waits for machines that are here and do not trust the new one.
    pub ca_patience_ms: u64,
    /// How long a CA that was replaced stays trusted at least, for those who have only that one.
    pub ca_overlap_ms: u64,
}

impl MachinesConfig {
    /// Where machines find this port, as far as can be told from here.
    pub(crate) fn url(&self) -> String {
        let ip = self.listen.address.ip();
        let name = self.names.iter().find(|name| *name != "localhost").cloned();
        let host = name.unwrap_or_else(|| match ip {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        });
        format!("https://{host}:{}", self.listen.address.port())
    }
}

impl Default for MachinesConfig {
    fn default() -> Self {
        let listen = TcpListen::on((Ipv4Addr::LOCALHOST, 8444).into());
        Self {
            listen,
            names: vec!["localhost".to_owned()],
            connections_max: 2048,
            certificate_ms: 30 * DAY_MS,
            ca_patience_ms: DAY_MS,
            ca_overlap_ms: 7 * DAY_MS,
        }
    }
}

/// The operations pages of this role.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsConfig {
    /// A private address: the pages need no login.
    pub listen: TcpListen,
}

impl Default for OpsConfig {
    fn default() -> Self {
        Self { listen: TcpListen::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 9100))) }
    }
}

/// Where control's database is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:PATH` or `postgres://USER@HOST/NAME`; `control.db` in the state directory unless
    /// told otherwise.
    pub url: Option<String>,
}

/// How private keys in the database are sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// Holds 64 hex digits. Unless told otherwise control makes `secret.key` in the state
    /// directory together with its database; controls on one PostgreSQL share one file.
    pub key_file: Option<PathBuf>,
}

/// What all sites have in common.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SitesConfig {
    /// Every site has the host `<site>.<domain>`.
    pub domain: Host,
    /// Previews have hosts `<preview>--<site>.<preview_domain>`; `domain` unless told otherwise.
    pub preview_domain: Option<Host>,
    /// Whether plain HTTP is answered with a redirect to `https`.
    pub https_redirect: bool,
    /// How long immutable files of a superseded release stay reachable.
    pub grace_ms: u64,
    /// How many superseded releases of one site edges hold at most, whatever the grace.
    pub grace_releases_max: u32,
    /// How long an edge may take to stage before it is left behind.
    pub stage_deadline_ms: u64,
    /// How many releases of a site are kept, besides the active one and live previews.
    pub keep_releases: u32,
    pub preview_expires_ms: u64,
    /// How long a release may wait for its missing blobs.
    pub upload_expires_ms: u64,
}

impl Default for SitesConfig {
    fn default() -> Self {
        Self {
            domain: "nigh.test".parse().expect("this is a hostname"),
            preview_domain: None,
            https_redirect: true,
            grace_ms: 7 * DAY_MS,
            grace_releases_max: 32,
            stage_deadline_ms: 30_000,
            keep_releases: 50,
            preview_expires_ms: 7 * DAY_MS,
            upload_expires_ms: DAY_MS,
        }
    }
}

impl SitesConfig {
    /// Where hosts of previews are.
    pub fn preview_domain(&self) -> &Host {
        self.preview_domain.as_ref().unwrap_or(&self.domain)
    }
}

/// Encoded forms of files, made in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct VariantsConfig {
    pub enabled: bool,
    /// Threads that encode, at the lowest priority.
    pub threads: usize,
}

impl Default for VariantsConfig {
    fn default() -> Self {
        Self { enabled: true, threads: 1 }
    }
}

/// How edges are reached from outside; only for the URLs that control prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicConfig {
    pub https_port: u16,
    pub http_port: u16,
}

impl Default for PublicConfig {
    fn default() -> Self {
        Self { https_port: 443, http_port: 80 }
    }
}

/// How DNS servers answer for sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// How long resolvers may remember which edge is near.
    pub ttl_s: u32,
    /// How many addresses one answer holds at most.
    pub answer_addresses_max: u8,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { ttl_s: 20, answer_addresses_max: 2 }
    }
}

/// Where one network is: exactly one of `region`, `edge` and `location`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    pub network: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<MachineName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    #[error("{key} is {value}: {rule}")]
    Value { key: &'static str, value: String, rule: &'static str },
    #[error("[[networks]] {network}: give exactly one of region, edge and location")]
    Network { network: IpNet },
    #[error("[[networks]] {network}: a latitude is -90 to 90 and a longitude -180 to 180 degrees")]
    Location { network: IpNet },
    #[error("[[zones]] {zone}: {reason}")]
    Zone { zone: String, reason: String },
}

impl ControlConfig {
    /// Everything at its default, kept in `state_dir`.
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            api: ApiConfig::default(),
            machines: MachinesConfig::default(),
            ops: OpsConfig::default(),
            log: LogConfig::default(),
            database: DatabaseConfig::default(),
            secrets: SecretsConfig::default(),
            events: EventsConfig::default(),
            webhooks: WebhooksConfig::default(),
            blobs: BlobsConfig::default(),
            sites: SitesConfig::default(),
            quotas: QuotasConfig::default(),
            limits: LimitsConfig::default(),
            audit: AuditConfig::default(),
            variants: VariantsConfig::default(),
            certificates: CertificatesConfig::default(),
            public: PublicConfig::default(),
            dns: DnsConfig::default(),
            zones: Vec::new(),
            networks: Vec::new(),
        }
    }

    /// Refuses values that could never work, before anything is bound.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let at_least_one = [
            ("api.listen", self.api.listen.len() as u64),
            ("api.connections_max", self.api.connections_max as u64),
            ("machines.connections_max", self.machines.connections_max as u64),
            ("events.keep_max", self.events.keep_max),
            ("events.streams_max", self.events.streams_max as u64),
            ("machines.certificate_ms", self.machines.certificate_ms),
            ("blobs.collect_interval_ms", self.blobs.collect_interval_ms),
            ("blobs.cache_bytes", self.blobs.cache_bytes),
            ("blobs.url_expires_ms", self.blobs.url_expires_ms / 1000),
            ("sites.stage_deadline_ms", self.sites.stage_deadline_ms),
            ("sites.keep_releases", u64::from(self.sites.keep_releases)),
            ("sites.preview_expires_ms", self.sites.preview_expires_ms),
            ("sites.upload_expires_ms", self.sites.upload_expires_ms),
            ("limits.requests_per_minute", u64::from(self.limits.requests_per_minute)),
            ("limits.failures_per_minute", u64::from(self.limits.failures_per_minute)),
            ("limits.failures_per_minute_total", u64::from(self.limits.failures_per_minute_total)),
            ("audit.keep_ms", self.audit.keep_ms),
            ("audit.keep_entries", self.audit.keep_entries),
            ("quotas.files_max", self.quotas.files_max.unwrap_or(1)),
            ("quotas.bytes_max", self.quotas.bytes_max.unwrap_or(1)),
            ("quotas.releases_max", self.quotas.releases_max.unwrap_or(1)),
            ("variants.threads", self.variants.threads as u64),
            ("dns.answer_addresses_max", u64::from(self.dns.answer_addresses_max)),
            ("certificates.challenge_deadline_ms", self.certificates.challenge_deadline_ms),
        ];
        if let Some((key, value)) = at_least_one.into_iter().find(|&(_, value)| value == 0) {
            let value = value.to_string();
            return Err(InvalidConfig::Value { key, value, rule: "must be at least 1" });
        }
        if let Some(url) = self.database.url.as_deref() {
            let scheme = url.split("://").next().unwrap_or_default();
            let is_sqlite = url.starts_with("sqlite:");
            if !is_sqlite && !matches!(scheme, "postgres" | "postgresql") {
                return Err(InvalidConfig::Value {
                    key: "database.url",
                    value: scheme.to_owned(),
                    rule: "must begin with sqlite: or postgres:",
                });
            }
            if !is_sqlite && self.secrets.key_file.is_none() {
                return Err(InvalidConfig::Value {
                    key: "secrets.key_file",
                    value: "nothing".to_owned(),
                    rule: "must name a file that all controls on one PostgreSQL share",
                });
            }
        }
        self.certificates.check()?;
        self.networks.iter().try_for_each(|network| network.resolve().map(drop))?;
        self.zones.iter().try_for_each(|zone| zone.resolve(0).map(drop))
    }

    /// What control's certificates are for: names given, and every address that is listened on.
    pub(crate) fn certificate_names(&self) -> Vec<String> {
        let listens = self.api.listen.iter().chain([&self.machines.listen]);
        let addresses = listens
            .map(|listen| listen.address.ip())
            .filter(|ip| !ip.is_unspecified())
            .chain([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]);
        let mut names: Vec<String> = self.api.names.clone();
        names.extend(self.machines.names.iter().cloned());
        names.extend(addresses.map(|ip| ip.to_string()));
        names.push("localhost".to_owned());
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl NetworkConfig {
    /// The network in the fleet's words.
    pub fn resolve(&self) -> Result<OperatorNetwork, InvalidConfig> {
        let network = self.network;
        let target = match (&self.region, &self.edge, self.location) {
            (Some(region), None, None) => NetworkTarget::Region(region.clone()),
            (None, Some(edge), None) => NetworkTarget::Edge(edge.clone()),
            (None, None, Some(location)) if location.is_valid() => {
                NetworkTarget::Location(location)
            }
            (None, None, Some(_)) => return Err(InvalidConfig::Location { network }),
            _ => return Err(InvalidConfig::Network { network }),
        };
        Ok(OperatorNetwork { network, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_all_that_must_be_said() {
        let config: ControlConfig =
            serde_json::from_str(r#"{"state_dir": "/var/lib/nigh"}"#).unwrap();
        assert_eq!(config, ControlConfig::new("/var/lib/nigh".into()));
        config.check().unwrap();
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = r#"{"state_dir": "/x", "sites": {"grace": 5}}"#;
        let error = serde_json::from_str::<ControlConfig>(text).unwrap_err().to_string();
        assert!(error.contains("grace") && error.contains("grace_ms"), "{error}");
    }

    #[test]
    fn a_network_is_in_exactly_one_place() {
        let network = |text: &str| serde_json::from_str::<NetworkConfig>(text).unwrap().resolve();
        assert!(network(r#"{"network": "10.0.0.0/8", "region": "eu"}"#).is_ok());
        assert!(network(r#"{"network": "10.0.0.0/8"}"#).is_err());
        assert!(network(r#"{"network": "10.0.0.0/8", "region": "eu", "edge": "fra1"}"#).is_err());
        let nowhere = r#"{"network": "10.0.0.0/8", "location": {"latitude": 99, "longitude": 0}}"#;
        assert!(matches!(network(nowhere), Err(InvalidConfig::Location { .. })));
    }

    #[test]
    fn the_certificate_is_for_every_way_in() {
        let names = ControlConfig::new("/x".into()).certificate_names();
        assert_eq!(names, ["127.0.0.1", "::1", "localhost"]);
    }
}
