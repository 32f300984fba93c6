//! What does `curl` make of an edge?

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::Cdn;

/// `curl`, pointed at one edge.
#[derive(Clone, Debug)]
pub struct Curl {
    host: String,
    http: SocketAddr,
    https: SocketAddr,
    ca_file: PathBuf,
}

/// One answer, as `curl` saw it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `1.1` or `2`.
    pub version: String,
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Curl {
    /// Asks `edge` for the site.
    pub fn at(cdn: &Cdn, edge: &str) -> Result<Self> {
        let machine = cdn.fleet.edge(edge)?;
        Ok(Self {
            host: cdn.host(),
            http: machine.addr("http")?,
            https: machine.addr("https")?,
            ca_file: cdn.fleet.ca_file(),
        })
    }

    /// The same edge, asked for another host.
    pub fn of_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// `https://HOST:PORT`, as a browser shows it.
    pub fn origin(&self) -> String {
        format!("https://{}:{}", self.host, self.https.port())
    }

    /// Gets `path` over HTTPS.
    pub async fn get(&self, path: &str, args: &[&str]) -> Result<Answer> {
        self.ask(&format!("{}{path}", self.origin()), args).await
    }

    /// Gets `path` over plain HTTP.
    pub async fn get_plain(&self, path: &str, args: &[&str]) -> Result<Answer> {
        self.ask(&format!("http://{}:{}{path}", self.host, self.http.port()), args).await
    }

    async fn ask(&self, url: &str, args: &[&str]) -> Result<Answer> {
        let dir = tempfile::tempdir()?;
        let (head, body) = (dir.path().join("head"), dir.path().join("body"));
        let resolve = |addr: SocketAddr| format!("{}:{}:{}", self.host, addr.port(), addr.ip());
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--path-as-is"])
            .args(["--noproxy", "*", "--write-out", "%{http_version} %{http_code}"])
            .args(["--resolve", &resolve(self.http), "--resolve", &resolve(self.https)])
            .arg("--cacert")
            .arg(&self.ca_file)
            .arg("--dump-header")
            .arg(&head)
            .arg("--output")
            .arg(&body)
            .args(args)
            .arg(url)
            .output()
            .await
            .context("curl is not installed")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl {url}: {complaint}");
        let (version, status) = said.split_once(' ').context("curl did not write the status")?;
        Ok(Answer {
            version: version.to_owned(),
            status: status.parse()?,
            headers: fields(&std::fs::read_to_string(head)?),
            body: std::fs::read(body).unwrap_or_default(),
        })
    }
}

fn fields(head: &str) -> Vec<(String, String)> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

impl Answer {
    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
