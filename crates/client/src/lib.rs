//! Typed outgoing calls: what people and programs ask of control's API.
//!
//! `trust` decides whose certificates are believed, `backoff` how long to wait before a call is
//! repeated, `line` which of several controls is asked, `call` how one request is made and its answer
//! read, `error` what can go wrong.
//! The other modules are the API's nouns, each a list of calls. Nothing here reads the environment.

mod audit;
mod backoff;
mod backup;
mod ca;
mod call;
mod certificates;
mod error;
mod events;
mod line;
mod machines;
mod releases;
mod sites;
mod status;
mod takeover;
mod tokens;
mod trust;
mod uploads;

use std::{fmt, sync::Arc};

use line::Lines;
use nigh_dial::is_loopback;

pub use audit::AuditQuery;
pub use backoff::{Patience, wait_before};
pub use backup::Download;
pub use call::{Answer, Body, Call};
pub use error::{CallError, ConfigError};
pub use nigh_dial::ControlUrls;
pub use reqwest::Method;
pub use trust::{Trust, tls_config};
pub use uploads::BlobUpload;

/// Where control is and who asks.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `https://HOST:PORT`, with or without a path before `/v1`; several controls with commas
    /// between them.
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
    lines: Arc<Lines>,
    api_url: Arc<str>,
    token: Option<Arc<str>>,
    patience: Patience,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let urls: ControlUrls = config.api_url.parse()?;
        let is_open = |url: &&reqwest::Url| url.scheme() == "http" && !is_loopback(url);
        if let Some(url) = urls.all().iter().find(is_open).filter(|_| config.token.is_some()) {
            return Err(ConfigError::Insecure { api_url: url.to_string() });
        }
        let api_url = Arc::from(urls.to_string());
        let lines = Lines::new(urls, tls_config(&config.trust)?, &config.user_agent)?;
        let token = config.token.as_deref().map(Arc::from);
        Ok(Self { lines: Arc::new(lines), api_url, token, patience: Patience::default() })
    }

    /// The same connection, whose repeatable calls are repeated as `patience` says.
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The address that was configured, or all of them with commas between them.
    pub fn api_url(&self) -> &str {
        &self.api_url
    }
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
        for url in ["", "control:8443", "ftp://a", "https://u@a", "https://a,https://a?b"] {
            assert!(matches!(client(url, None), Err(ConfigError::Urls(_))), "{url}");
        }
        assert_eq!(client("https://a:8443/", None).unwrap().api_url(), "https://a:8443");
    }

    #[test]
    fn a_token_never_travels_in_the_clear_to_another_machine() {
        for url in ["http://control.example", "https://a.example,http://b.example"] {
            let refused = client(url, Some("nigh_pat_x"));
            assert!(matches!(refused, Err(ConfigError::Insecure { .. })), "{url}");
        }
        client("http://127.0.0.1:1", Some("nigh_pat_x")).unwrap();
        client("http://[::1]:1", Some("nigh_pat_x")).unwrap();
    }

    #[test]
    fn the_token_is_not_in_debug_output() {
        let client = client("https://a", Some("nigh_pat_secret")).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
