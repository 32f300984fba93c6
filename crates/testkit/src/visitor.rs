//! What does somebody with a browser get from one edge?

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use nigh_client::Trust;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Fetches pages of one host from one edge; follows no redirect, decodes nothing.
#[derive(Clone, Debug)]
pub struct Visitor {
    http: reqwest::Client,
    origin: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Visit {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// How long a whole fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Visitor {
    /// Visits `host` over HTTPS at `edge`, whose certificate comes from the authority in `ca_pem`.
    pub fn https(host: &str, edge: SocketAddr, ca_pem: &[u8]) -> Result<Self> {
        let tls = nigh_client::tls_config(&Trust::Only(ca_pem.to_vec()))?;
        let http = builder(host, edge).tls_backend_preconfigured(tls).build()?;
        Ok(Self { http, origin: format!("https://{host}:{}", edge.port()) })
    }

    /// Visits `host` over plain HTTP at `edge`.
    pub fn http(host: &str, edge: SocketAddr) -> Result<Self> {
        let tls = nigh_client::tls_config(&Trust::Platform)?;
        let http = builder(host, edge).tls_backend_preconfigured(tls).build()?;
        Ok(Self { http, origin: format!("http://{host}:{}", edge.port()) })
    }

    /// Gets `path`, which begins with a slash.
    pub async fn get(&self, path: &str) -> Result<Visit> {
        self.get_with(path, &[]).await
    }

    /// Gets `path` with further header fields.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Visit> {
        let url = format!("{}{path}", self.origin);
        let mut request = self.http.get(&url);
        for (name, value) in headers {
            request = request.header(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_bytes(value.as_bytes())?,
            );
        }
        let response = request.send().await.with_context(|| format!("GET {url}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("the body of {url}"))?.into();
        Ok(Visit { status, headers, body })
    }
}

fn builder(host: &str, edge: SocketAddr) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .resolve(host, edge)
        .timeout(TIMEOUT)
}

impl Visit {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header field, when it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
