//! What does the service manager need to hear, and when?
//!
//! The protocol is `sd_notify(3)`: datagrams of `KEY=VALUE` lines to the socket named by
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_message_has_every_listener_on_one_line() {
        let listeners =
            [("http", "127.0.0.1:80".parse().unwrap()), ("https", "[::1]:443".parse().unwrap())];
        let message = ready_message("edge", &listeners, 7);
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines[..2], ["READY=1", "STATUS=serving http 127.0.0.1:80 https [::1]:443"]);
        let json = lines[2].strip_prefix("X_NIGH_LISTENERS=").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let expected = serde_json::json!(
            {"role": "edge", "http": "127.0.0.1:80", "https": "[::1]:443", "pid": 7}
        );
        assert_eq!((json, lines.len()), (expected, 3));
    }

    #[test]
    fn the_watchdog_is_for_this_process_or_off() {
        let minute = Some(Duration::from_secs(60));
        for (usec, pid, timeout) in [
            (Some("60000000"), None, minute),
            (Some("60000000"), Some("7"), minute),
            (Some("60000000"), Some("8"), None),
            (Some("60000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some("7"), None),
        ] {
            assert_eq!(watchdog_timeout(usec, pid, 7), timeout, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn an_address_that_is_no_socket_is_named() {
        for address in ["notify", "vsock:2:1234", ""] {
            let error = Notify::to(OsStr::new(address)).unwrap_err();
            assert!(error.to_string().contains(&format!("{address:?}")), "{error}");
        }
    }

    #[test]
    fn a_manager_that_is_gone_does_not_hurt() {
        let dir = tempfile::tempdir().unwrap();
        let notify = Notify::to(dir.path().join("gone").as_os_str()).unwrap();
        notify.ready("edge", &[]);
        notify.stopping();
    }

    #[test]
    fn a_status_cannot_smuggle_in_another_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        Notify::to(path.as_os_str()).unwrap().status("bad\nSTOPPING=1");
        let mut message = [0; 100];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"STATUS=bad STOPPING=1");
    }
}
