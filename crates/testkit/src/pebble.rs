//! A real CA that speaks ACME: Let's Encrypt's own test server, on ports of its own.
//!
//! It looks at challenges as a public CA does, through the DNS server that it is given, and its
//! faults can be turned on: nonces that are refused, authorizations that are used again.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nigh_client::Trust;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

const START_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Somebody else may take a port between the look and the start.
const ATTEMPTS: usize = 5;

/// What a CA is to be like.
#[derive(Clone, Debug)]
pub struct PebbleBuilder {
    dns: SocketAddr,
    http_port: u16,
    binding: Option<(String, String)>,
    validity: Option<Duration>,
    blocked: Vec<String>,
    refused_nonces: u8,
    reused_authorizations: u8,
}

/// A running CA. Dropping it ends it.
#[derive(Debug)]
pub struct Pebble {
    directory: String,
    management: String,
    http: reqwest::Client,
    child: Child,
    dir: TempDir,
}

impl PebbleBuilder {
    /// A CA that asks `dns`, and hosts on `http_port`.
    pub const fn new(dns: SocketAddr, http_port: u16) -> Self {
        Self {
            dns,
            http_port,
            binding: None,
            validity: None,
            blocked: Vec::new(),
            refused_nonces: 15,
            reused_authorizations: 50,
        }
    }

    /// Only customers with this key (id, base64url) get an account.
    pub fn external_account(mut self, id: &str, key: &str) -> Self {
        self.binding = Some((id.to_owned(), key.to_owned()));
        self
    }

    /// How long its certificates last.
    pub const fn validity(mut self, validity: Duration) -> Self {
        self.validity = Some(validity);
        self
    }

    /// A host for which it never issues, by its policy.
    pub fn blocked(mut self, host: &str) -> Self {
        self.blocked.push(host.to_owned());
        self
    }

    /// How many nonces of a hundred it refuses for no reason.
    pub const fn refused_nonces(mut self, percent: u8) -> Self {
        self.refused_nonces = percent;
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Result<Pebble> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_start().await {
                Ok(pebble) => return Ok(pebble),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("pebble was not tried")?)
    }

    async fn try_start(&self) -> Result<Pebble> {
        let dir = tempfile::Builder::new().prefix("nigh-pebble-").tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let key = rcgen::KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
        std::fs::write(path("ca.pem"), certificate.pem())?;
        std::fs::write(path("key.pem"), key.serialize_pem())?;
        let [listen, management, tls] = free_ports()?;
        let mut config = json!({
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": path("ca.pem"),
            "privateKey": path("key.pem"),
            "httpPort": self.http_port,
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self.binding.is_some(),
            "domainBlocklist": self.blocked,
        });
        if let Some((id, key)) = &self.binding {
            config["externalAccountMACKeys"] = json!({ id: key });
        }
        if let Some(validity) = self.validity {
            config["certificateValidityPeriod"] = json!(validity.as_secs());
        }
        std::fs::write(path("config.json"), json!({ "pebble": config }).to_string())?;
        let log = std::fs::File::create(path("log"))?;
        let mut child = Command::new("pebble")
            .arg("-config")
            .arg(path("config.json"))
            .args(["-dnsserver", &self.dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", self.refused_nonces.to_string())
            .env("PEBBLE_AUTHZREUSE", self.reused_authorizations.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("pebble is not installed; run tests/install")?;
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(listen).await.is_err()
            || TcpStream::connect(management).await.is_err()
        {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(path("log")).unwrap_or_default();
                bail!("pebble did not start:\n{log}");
            }
            tokio::time::sleep(POLL).await;
        }
        let tls = nigh_client::tls_config(&Trust::Only(certificate.pem().into_bytes()))?;
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build()?;
        Ok(Pebble {
            directory: format!("https://{listen}/dir"),
            management: format!("https://{management}"),
            http,
            child,
            dir,
        })
    }
}

impl Pebble {
    /// The URL of its directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// What its own HTTPS is to be trusted by.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// `[[certificates.acme]]` for this CA, with further keys.
    pub fn config(&self, more: &str) -> String {
        format!(
            "[[certificates.acme]]\ndirectory = \"{}\"\nagree_to_terms = true\nca_file = {:?}\n{more}\n",
            self.directory,
            self.ca_file(),
        )
    }

    /// The root that its certificates come from, PEM.
    pub async fn root(&self) -> Result<String> {
        self.ask("/roots/0").await
    }

    /// What it says of a certificate's serial number, in hex: `Valid` or `Revoked`.
    pub async fn standing(&self, serial: &str) -> Result<String> {
        let text = self.ask(&format!("/cert-status-by-serial/{serial}")).await?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        Ok(json["Status"].as_str().context("pebble said no status")?.to_owned())
    }

    /// Everything that it logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("log"))?)
    }

    /// How often something at a path that begins with this was called: `/order-plz` for new orders.
    pub fn calls(&self, path: &str) -> Result<usize> {
        let call = format!("POST {path}");
        Ok(self.log()?.lines().filter(|line| line.contains(&call)).count())
    }

    /// Ends it at once.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn ask(&self, path: &str) -> Result<String> {
        let answer = self.http.get(format!("{}{path}", self.management)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }
}

/// Ports that are free now, all different.
fn free_ports() -> Result<[SocketAddr; 3]> {
    let hold = || TcpListener::bind("127.0.0.1:0");
    let held = [hold()?, hold()?, hold()?];
    let [one, two, three] = &held;
    Ok([one.local_addr()?, two.local_addr()?, three.local_addr()?])
}
