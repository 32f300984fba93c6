//! Which of several controls is asked, and over which connections?
//!
//! Each turn has connections of its own: those of a turn that came to nothing may only look open.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nigh_dial::{ControlUrls, Turn, Turns, is_loopback};
use reqwest::Url;
use rustls::ClientConfig;

use crate::error::{CallError, ConfigError};

/// How long one connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings find a control that hangs, or whose machine is gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to the control whose turn it is.
pub(crate) struct Lines {
    turns: Turns,
    tls: ClientConfig,
    user_agent: String,
    current: Mutex<Line>,
}

/// Connections to one control; cheap to clone.
#[derive(Clone)]
pub(crate) struct Line {
    turn: usize,
    pub(crate) base: Url,
    pub(crate) http: reqwest::Client,
}

impl Lines {
    pub(crate) fn new(
        urls: ControlUrls,
        tls: ClientConfig,
        user_agent: &str,
    ) -> Result<Self, ConfigError> {
        let turns = Turns::new(urls);
        let first = line(&turns.current(), &tls, user_agent).map_err(ConfigError::Build)?;
        Ok(Self { turns, tls, user_agent: user_agent.to_owned(), current: Mutex::new(first) })
    }

    /// Connections to the control whose turn it is.
    pub(crate) fn current(&self) -> Line {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.turn != self.turns.number() {
            // It could be built before, so it can be now.
            if let Ok(next) = line(&self.turns.current(), &self.tls, &self.user_agent) {
                *current = next;
            }
        }
        current.clone()
    }

    /// `line` came to nothing: it is another's turn.
    pub(crate) fn pass(&self, line: &Line) {
        self.turns.pass(line.turn);
    }

    /// How many turns it takes until every control was asked.
    pub(crate) fn total(&self) -> usize {
        self.turns.total()
    }
}

fn line(turn: &Turn, tls: &ClientConfig, user_agent: &str) -> Result<Line, reqwest::Error> {
    let base = turn.url().clone();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(turn.resolver().clone())
        .user_agent(user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(&base) {
        builder = builder.no_proxy();
    }
    Ok(Line { turn: turn.number(), base, http: builder.build()? })
}

impl CallError {
    /// Whether another control may do what this one did not: it cannot be reached, is not believed,
    /// or says that something it needs is away. Too many requests are too many for all.
    pub(crate) fn is_of_one_control(&self) -> bool {
        match self {
            CallError::Unreachable { .. } => true,
            _ => matches!(self.status(), Some(502..=504)),
        }
    }

    /// Whether control cannot have seen the request.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, CallError::Unreachable { source, .. } if source.is_connect())
    }
}
