//! Where is everything, and what could a newcomer try next?

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nigh_testkit::{Fleet, Place, geo_fixture};
use serde::Serialize;

/// What the demo prints. Scripts rely on the names of its fields.
#[derive(Debug, Serialize)]
pub(crate) struct Tour {
    ready: bool,
    control: Control,
    dns: Vec<Dns>,
    edges: Vec<Edge>,
    site: Site,
    state_dir: PathBuf,
    #[serde(skip)]
    site_dir: PathBuf,
    #[serde(skip)]
    program: PathBuf,
}

#[derive(Debug, Serialize)]
struct Control {
    url: String,
    token: String,
    ca_file: PathBuf,
    pid: u32,
}

#[derive(Debug, Serialize)]
struct Dns {
    name: String,
    addr: SocketAddr,
    pid: u32,
}

#[derive(Debug, Serialize)]
struct Edge {
    name: String,
    region: String,
    http: SocketAddr,
    https: SocketAddr,
    ops: SocketAddr,
    pid: u32,
}

#[derive(Debug, Serialize)]
struct Site {
    name: String,
    host: String,
}

/// Whose eyes the tour looks through.
const CITIES: [&str; 2] = ["Berlin", "Tokyo"];

impl Tour {
    pub(crate) fn of(fleet: &Fleet, site: &str, host: &str, site_dir: &Path) -> Result<Self> {
        let control = Control {
            url: fleet.client().api_url().to_owned(),
            token: fleet.token().to_owned(),
            ca_file: fleet.ca_file(),
            pid: fleet.control().pid().context("control has ended")?,
        };
        let dns = fleet.dns_servers().iter().map(|dns| {
            let pid = dns.process.pid().context("the DNS server has ended")?;
            Ok(Dns { name: dns.name.clone(), addr: dns.addr("dns")?, pid })
        });
        let edges = fleet.edges().iter().map(|edge| {
            Ok(Edge {
                name: edge.name.clone(),
                region: edge.region.unwrap_or_default().to_owned(),
                http: edge.addr("http")?,
                https: edge.addr("https")?,
                ops: edge.addr("ops")?,
                pid: edge.process.pid().context("an edge has ended")?,
            })
        });
        Ok(Self {
            ready: true,
            control,
            dns: dns.collect::<Result<_>>()?,
            edges: edges.collect::<Result<_>>()?,
            site: Site { name: site.to_owned(), host: host.to_owned() },
            state_dir: fleet.dir().to_owned(),
            site_dir: site_dir.to_owned(),
            program: std::env::current_exe()?,
        })
    }

    /// The tour as text, every command ready to be copied.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { control, site, state_dir, .. } = self;
        let (host, program) = (&site.host, quoted(&self.program));
        writeln!(out, "\nThe fleet is up; everything of it is in {}.\n", state_dir.display())?;
        self.write_machines(out)?;
        writeln!(out, "\nWho is sent where:")?;
        for city in CITIES {
            writeln!(out, "  {}", self.dig(city).unwrap_or_default())?;
        }
        writeln!(out, "\nThe site from each edge:")?;
        for edge in &self.edges {
            writeln!(out, "  {}", self.curl(edge))?;
        }
        writeln!(out, "\nFor the commands below:")?;
        writeln!(out, "  export NIGH_API_URL={}", control.url)?;
        writeln!(out, "  export NIGH_CA_FILE={}", quoted(&control.ca_file))?;
        writeln!(out, "  export NIGH_TOKEN={}", control.token)?;
        writeln!(out, "  export NIGH_SITE={}", site.name)?;
        writeln!(out, "\nChange a file and push again; only what changed travels:")?;
        writeln!(out, "  {program} push {}", quoted(&self.site_dir))?;
        writeln!(out, "\nGo back to the release before:")?;
        writeln!(out, "  {program} rollback")?;
        writeln!(out, "\nThe fleet at a glance:")?;
        writeln!(out, "  {program} status")?;
        if let (Some(edge), Some(dig)) = (self.edges.first(), self.dig(CITIES[0])) {
            writeln!(out, "\nKill an edge and ask again within 3 s; {host} stays up:")?;
            writeln!(out, "  kill -9 {}    # {}", edge.pid, edge.region)?;
            writeln!(out, "  {dig}")?;
        }
        writeln!(out, "\nCtrl-C stops everything.")
    }

    fn write_machines(&self, out: &mut String) -> std::fmt::Result {
        let Control { url, pid, .. } = &self.control;
        writeln!(out, "  control        {url}  (pid {pid})")?;
        for Dns { name, addr, pid } in &self.dns {
            writeln!(out, "  dns {name:<10} {addr}  (pid {pid})")?;
        }
        for Edge { name, https, http, pid, .. } in &self.edges {
            let city = Place::of_edge(name).map_or("", |place| place.city);
            writeln!(out, "  edge {name:<9} https {https}  http {http}  {city}  (pid {pid})")?;
        }
        Ok(())
    }

    /// The question of somebody in `city`, as dig asks it.
    fn dig(&self, city: &str) -> Option<String> {
        let (dns, city) = (self.dns.first()?.addr, geo_fixture::find(city)?);
        Some(format!(
            "dig @{} -p {} {} A +short +subnet={}    # from {}",
            dns.ip(),
            dns.port(),
            self.site.host,
            city.ipv4,
            city.name
        ))
    }

    fn curl(&self, edge: &Edge) -> String {
        let (host, port, ip) = (&self.site.host, edge.https.port(), edge.https.ip());
        let ca_file = quoted(&self.control.ca_file);
        format!(
            "curl --cacert {ca_file} --resolve {host}:{port}:{ip} https://{host}:{port}/    # {}",
            edge.region
        )
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tour() -> Tour {
        let addr = |text: &str| text.parse().unwrap();
        Tour {
            ready: true,
            control: Control {
                url: "https://127.0.0.1:1".to_owned(),
                token: "nigh_pat_x".to_owned(),
                ca_file: "/tmp/a b/ca.pem".into(),
                pid: 1,
            },
            dns: vec![Dns { name: "ns1".to_owned(), addr: addr("127.0.0.1:53"), pid: 2 }],
            edges: vec![Edge {
                name: "fra".to_owned(),
                region: "frankfurt".to_owned(),
                http: addr("127.77.0.1:80"),
                https: addr("127.77.0.1:443"),
                ops: addr("127.0.0.1:9"),
                pid: 3,
            }],
            site: Site { name: "demo".to_owned(), host: "demo.nigh.test".to_owned() },
            state_dir: "/tmp/x".into(),
            site_dir: "/tmp/x/site".into(),
            program: "/usr/bin/nigh".into(),
        }
    }

    #[test]
    fn scripts_find_the_fields_they_rely_on() {
        let expected = serde_json::json!({
            "ready": true,
            "control": { "url": "https://127.0.0.1:1", "token": "nigh_pat_x", "ca_file": "/tmp/a b/ca.pem", "pid": 1 },
            "dns": [{ "name": "ns1", "addr": "127.0.0.1:53", "pid": 2 }],
            "edges": [{
                "name": "fra", "region": "frankfurt", "http": "127.77.0.1:80",
                "https": "127.77.0.1:443", "ops": "127.0.0.1:9", "pid": 3,
            }],
            "site": { "name": "demo", "host": "demo.nigh.test" },
            "state_dir": "/tmp/x",
        });
        assert_eq!(serde_json::to_value(tour()).unwrap(), expected);
    }

    #[test]
    fn every_command_can_be_copied_into_a_shell() {
        let text = tour().describe();
        for line in [
            "dig @127.0.0.1 -p 53 demo.nigh.test A +short +subnet=198.51.100.0/24    # from Berlin",
            "curl --cacert '/tmp/a b/ca.pem' --resolve demo.nigh.test:443:127.77.0.1 https://demo.nigh.test:443/",
            "export NIGH_CA_FILE='/tmp/a b/ca.pem'",
            "/usr/bin/nigh push /tmp/x/site",
            "kill -9 3",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
