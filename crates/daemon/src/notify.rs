//! What does the service manager need to hear, and when?
//!
//! The protocol is sd_notify(3): datagrams of `KEY=VALUE` lines to the socket named by
//! `NOTIFY_SOCKET`. nigh adds `X_NIGH_LISTENERS` to the ready message, one line of JSON with the
//! addresses that were bound, so that whoever started the process need not poll or guess ports.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io,
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr as UnixAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// How long a message may wait for a service manager that does not read.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);

/// A listener's name and the address it was bound to.
pub type Listener = (&'static str, SocketAddr);

/// The line to the service manager; silent when there is none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    to: Option<Arc<Line>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    manager: UnixAddr,
}

/// The value of `NOTIFY_SOCKET` leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the service manager at NOTIFY_SOCKET={address:?}")]
pub struct NotifyError {
    address: String,
    source: io::Error,
}

impl Notify {
    /// Nobody wants to know.
    pub fn none() -> Self {
        Self::default()
    }

    /// Messages go to `address`: a path, or `@name` in the abstract namespace (`NOTIFY_SOCKET`).
    pub fn to(address: &OsStr) -> Result<Self, NotifyError> {
        let line = Line::open(address).map_err(|source| NotifyError {
            address: address.to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Self { to: Some(Arc::new(line)), watchdog: None })
    }

    /// Expects a ping within each `timeout`; see [`watchdog_timeout`].
    pub fn with_watchdog(mut self, timeout: Option<Duration>) -> Self {
        self.watchdog = timeout;
        self
    }

    /// The role is started: every one of `listeners` is bound.
    pub fn ready(&self, role: &str, listeners: &[Listener]) {
        self.send(&ready_message(role, listeners, std::process::id()));
    }

    /// The configuration is being read again; [`reloaded`](Self::reloaded) must follow.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&format!("{}\n{now}", NotifyState::Reloading)),
            Err(error) => tracing::warn!(%error, "no monotonic clock, reload not announced"),
        }
    }

    /// The reload is over, well or badly as `status` says.
    pub fn reloaded(&self, status: &str) {
        let status = one_line(status);
        self.send(&format!("{}\n{}", NotifyState::Ready, NotifyState::Status(&status)));
    }

    /// The drain has begun.
    pub fn stopping(&self) {
        self.send(&NotifyState::Stopping.to_string());
    }

    /// A line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&NotifyState::Status(&one_line(status)).to_string());
    }

    /// Pings at half the watchdog's timeout until `stop`; ends at once without a watchdog.
    ///
    /// It runs as a task beside the others, so a runtime that is stuck is noticed and restarted.
    pub async fn ping_watchdog(self, stop: CancellationToken) {
        let Some(timeout) = self.watchdog else { return };
        let mut ticks = tokio::time::interval((timeout / 2).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.send(&NotifyState::Watchdog.to_string());
        }
    }

    fn send(&self, message: &str) {
        let Some(line) = &self.to else { return };
        if let Err(error) = line.socket.send_to_addr(message.as_bytes(), &line.manager) {
            let key = message.split('=').next().unwrap_or_default();
            tracing::warn!(%error, "could not tell the service manager {key}");
        }
    }
}

impl Line {
    fn open(address: &OsStr) -> io::Result<Self> {
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => UnixAddr::from_abstract_name(name)?,
            [b'/', ..] => UnixAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("want an absolute path or @name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { socket, manager })
    }
}

/// The watchdog's timeout from the values of `WATCHDOG_USEC` and `WATCHDOG_PID`.
///
/// `None` when it is off, unreadable, or meant for a process other than `own_pid`.
pub fn watchdog_timeout(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

fn ready_message(role: &str, listeners: &[Listener], pid: u32) -> String {
    let mut json = serde_json::Map::from_iter([("role".to_owned(), role.into())]);
    let mut status = String::from("serving");
    for (name, address) in listeners {
        json.insert((*name).to_owned(), address.to_string().into());
        let _ = write!(status, " {name} {address}");
    }
    json.insert("pid".to_owned(), pid.into());
    let listeners = serde_json::Value::Object(json);
    format!(
        "{}\n{}\nX_NIGH_LISTENERS={listeners}",
        NotifyState::Ready,
        NotifyState::Status(&status)
    )
}

/// A newline would begin another message.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
