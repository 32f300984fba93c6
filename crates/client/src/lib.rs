//! Typed outgoing calls: what people and programs ask of control's API.
//!
//! `trust` decides whose certificates are believed, `backoff` how long to wait before a call is
//! repeated, `call` how one request is made and its answer read, `error` what can go wrong.
//! The other modules are the API's nouns, each a list of calls. Nothing here reads the environment.

mod audit;
mod backoff;
mod backup;
mod ca;
mod call;
mod certificates;
mod error;
mod events;
mod machines;
mod releases;
mod sites;
mod status;
mod tokens;
mod trust;
mod uploads;

use std::{fmt, sync::Arc, time::Duration};

use reqwest::Url;

pub use audit::AuditQuery;
pub use backoff::{Patience, wait_before};
pub use backup::Download;
pub use call::{Answer, Body, Call};
pub use error::{CallError, ConfigError};
pub use reqwest::Method;
pub use trust::{Trust, tls_config};
pub use uploads::BlobUpload;

/// Where control is and who asks.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `https://HOST:PORT`, with or without a path before `/v1`.
    pub api_url: String,
    /// An API token; without one only public calls succeed.
    pub token: Option<String>,
    pub trust: Trust,
    /// Names the caller in control's log: `nigh/0.1.0`.
    pub user_agent: String,
}

/// A connection to control's API; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<Url>,
    token: Option<Arc<str>>,
    patience: Patience,
}

/// How long one connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// A client that has not connected yet.
    pub fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let base = parse_base(&config.api_url)?;
        let is_local = is_loopback(&base);
        if base.scheme() == "http" && config.token.is_some() && !is_local {
            return Err(ConfigError::Insecure { api_url: config.api_url.clone() });
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(&config.trust)?)
            .user_agent(&config.user_agent)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_adaptive_window(true)
            .pool_idle_timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none());
        if is_local {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(ConfigError::Build)?;
        let token = config.token.as_deref().map(Arc::from);
        Ok(Self { http, base: Arc::new(base), token, patience: Patience::default() })
    }

    /// The same connection, whose repeatable calls are repeated as `patience` says.
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The address that was configured.
    pub fn api_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }
}

fn parse_base(text: &str) -> Result<Url, ConfigError> {
    let invalid = |why: &str| ConfigError::Url { api_url: text.to_owned(), why: why.to_owned() };
    let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(invalid("want https://HOST:PORT"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(invalid("want no user, query or fragment"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token.
        f.debug_struct("Client").field("api_url", &self.api_url()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(api_url: &str, token: Option<&str>) -> Result<Client, ConfigError> {
        Client::new(&ClientConfig {
            api_url: api_url.to_owned(),
            token: token.map(str::to_owned),
            trust: Trust::Platform,
            user_agent: "test".to_owned(),
        })
    }

    #[test]
    fn addresses_that_are_no_api_are_refused() {
        for url in ["", "control:8443", "ftp://a", "https://u@a", "https://a?b", "https://a#b"] {
            assert!(matches!(client(url, None), Err(ConfigError::Url { .. })), "{url}");
        }
        assert_eq!(client("https://a:8443/", None).unwrap().api_url(), "https://a:8443");
    }

    #[test]
    fn a_token_never_travels_in_the_clear_to_another_machine() {
        assert!(matches!(
            client("http://control.example", Some("nigh_pat_x")),
            Err(ConfigError::Insecure { .. })
        ));
        client("http://127.0.0.1:1", Some("nigh_pat_x")).unwrap();
        client("http://[::1]:1", Some("nigh_pat_x")).unwrap();
    }

    #[test]
    fn the_token_is_not_in_debug_output() {
        let client = client("https://a", Some("nigh_pat_secret")).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
