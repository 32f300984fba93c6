//! What do the children of a fleet read?
//!
//! Everything that a test is not about is written here, with timings short enough for tests. What it
//! is about is merged on top as TOML: `[sites]\nstage_deadline_ms = 500`.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::place::Place;

/// The zone that a fleet's DNS servers answer for, and that its sites lie in.
pub const ZONE: &str = "nigh.test";

/// Where control is to listen; port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlAddresses {
    pub api: SocketAddr,
    pub machines: SocketAddr,
    pub ops: SocketAddr,
}

/// `control.toml`. `https_port` and `http_port` are those of the edges, for the URLs it prints.
pub fn control(
    state_dir: &Path,
    addresses: ControlAddresses,
    http_port: u16,
    https_port: u16,
) -> Result<Table> {
    let ControlAddresses { api, machines, ops } = addresses;
    table(&format!(
        r#"
        state_dir = {state_dir}
        [api]
        listen = ["{api}"]
        names = ["localhost", "127.0.0.1"]
        [machines]
        listen = "{machines}"
        names = ["localhost", "127.0.0.1"]
        [ops]
        listen = "{ops}"
        [sites]
        domain = "{ZONE}"
        [public]
        https_port = {https_port}
        http_port = {http_port}
        [[zones]]
        name = "{ZONE}"
        name_servers = ["ns1.{ZONE}."]
        primary = "ns1.{ZONE}."
        mailbox = "hostmaster.{ZONE}."
        records = [
            {{ name = "ns1", ttl_s = 3600, type = "A", value = "127.0.0.1" }},
            {{ name = "@", ttl_s = 300, type = "TXT", value = "a fleet for tests" }},
        ]
        "#,
        state_dir = quoted(state_dir)
    ))
}

/// What `control.toml` says besides when its database is on PostgreSQL.
pub fn on_postgres(url: &str, key_file: &Path) -> Result<Table> {
    let url = Value::String(url.to_owned());
    let key_file = quoted(key_file);
    table(&format!("[database]\nurl = {url}\n[secrets]\nkey_file = {key_file}"))
}

/// Where one edge is and how it reaches control.
#[derive(Clone, Copy, Debug)]
pub struct EdgeSettings<'a> {
    pub state_dir: &'a Path,
    pub place: Place,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub ops: SocketAddr,
    pub upstream: Upstream<'a>,
}

/// How a machine reaches control.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// Of every control.
    pub machines: &'a [SocketAddr],
    pub ca_file: &'a Path,
    pub join_token_file: &'a Path,
}

/// `edge.toml`.
pub fn edge(settings: EdgeSettings<'_>) -> Result<Table> {
    let EdgeSettings { state_dir, place, http, https, ops, upstream } = settings;
    table(&format!(
        r#"
        state_dir = {state_dir}
        name = "{name}"
        region = "{region}"
        latitude = {latitude:?}
        longitude = {longitude:?}
        ipv4 = ["{ip}"]
        {upstream}
        [http]
        listen = ["{http}"]
        [https]
        listen = ["{https}"]
        [ops]
        listen = "{ops}"
        "#,
        state_dir = quoted(state_dir),
        name = place.edge,
        region = place.region,
        latitude = place.latitude,
        longitude = place.longitude,
        ip = https.ip(),
        upstream = upstream.toml(),
    ))
}

/// `dns.toml`, with the fleet's GeoIP file.
pub fn dns(
    state_dir: &Path,
    name: &str,
    (dns, ops): (SocketAddr, SocketAddr),
    geoip_city: &Path,
    upstream: Upstream<'_>,
) -> Result<Table> {
    table(&format!(
        r#"
        state_dir = {state_dir}
        name = "{name}"
        {upstream}
        [dns]
        listen = ["{dns}"]
        [geoip]
        city = {geoip_city}
        reload_ms = 200
        [ops]
        listen = "{ops}"
        "#,
        state_dir = quoted(state_dir),
        upstream = upstream.toml(),
        geoip_city = quoted(geoip_city),
    ))
}

impl Upstream<'_> {
    fn toml(&self) -> String {
        let urls =
            self.machines.iter().map(|machines| Value::String(format!("https://{machines}")));
        let mut urls = urls.collect::<Vec<_>>();
        // As programs of before there could be several want it.
        let url = if urls.len() == 1 { urls.remove(0) } else { Value::Array(urls) };
        format!(
            "[control]\nurl = {}\nca_file = {}\njoin_token_file = {}",
            url,
            quoted(self.ca_file),
            quoted(self.join_token_file)
        )
    }
}

/// Puts every value of `over` in place of that of `base`, table by table.
pub fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

/// Reads a piece of configuration that a test gives.
pub fn table(text: &str) -> Result<Table> {
    text.parse().with_context(|| format!("this is not TOML:\n{text}"))
}

/// A path as a TOML string.
fn quoted(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_changes_one_value_and_keeps_the_rest() {
        let mut base = table("a = 1\n[sites]\ndomain = \"x\"\nttl = 1").unwrap();
        merge(&mut base, &table("[sites]\nttl = 2\n[new]\nb = 3").unwrap());
        let expected = "a = 1\n[sites]\ndomain = \"x\"\nttl = 2\n[new]\nb = 3";
        assert_eq!(base, table(expected).unwrap());
    }

    #[test]
    fn paths_with_quotes_stay_one_string() {
        let any = "127.0.0.1:0".parse().unwrap();
        let addresses = ControlAddresses { api: any, machines: any, ops: any };
        let config = control(Path::new("/tmp/a \"b\"\\c"), addresses, 80, 443).unwrap();
        assert_eq!(config["state_dir"].as_str(), Some("/tmp/a \"b\"\\c"));
    }
}
