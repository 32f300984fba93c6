//! What has a child bound, and is it ready?
//!
//! A role sends `READY=1` and `X_NIGH_LISTENERS` to its notify socket once every listener is bound.
//! Whoever starts it receives that instead of polling or guessing ports.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher},
    io,
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram as StdDatagram},
    },
};

use tokio::net::UnixDatagram;

/// The longest notification that is read.
const NOTIFICATION_MAX_BYTES: usize = 64 << 10;

/// The addresses that a ready child has bound, by the names of its listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    pub pid: u32,
    pub addresses: BTreeMap<String, SocketAddr>,
}

impl Listeners {
    /// The address of the listener `name`.
    pub fn get(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    /// Reads one notification; `None` when it is not the ready message of a role.
    pub fn parse(notification: &str) -> Option<Self> {
        let lines = || notification.lines();
        if !lines().any(|line| line == "READY=1") {
            return None;
        }
        let json = lines().find_map(|line| line.strip_prefix("X_NIGH_LISTENERS="))?;
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
        let pid = u32::try_from(fields.get("pid")?.as_u64()?).ok()?;
        let address = |(name, value): (&String, &serde_json::Value)| {
            Some((name.clone(), value.as_str()?.parse().ok()?))
        };
        Some(Self { pid, addresses: fields.iter().filter_map(address).collect() })
    }
}

/// The receiving end of a child's notify socket.
#[derive(Debug)]
pub struct Notifications {
    socket: UnixDatagram,
    address: String,
}

impl Notifications {
    /// Opens a socket under a name of its own, without a file that could be left behind.
    pub fn open() -> io::Result<Self> {
        let random = std::hash::RandomState::new().build_hasher().finish();
        let name = format!("nigh-notify-{}-{random:016x}", std::process::id());
        let socket = StdDatagram::bind_addr(&UnixAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixDatagram::from_std(socket)?, address: format!("@{name}") })
    }

    /// The value for `NOTIFY_SOCKET`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The listeners of the child `pid`, once it is ready.
    pub async fn ready(&self, pid: u32) -> io::Result<Listeners> {
        let mut buffer = vec![0; NOTIFICATION_MAX_BYTES];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            let text = String::from_utf8_lossy(&buffer[..length]);
            // An earlier child may have left a message behind.
            if let Some(listeners) = Listeners::parse(&text).filter(|found| found.pid == pid) {
                return Ok(listeners);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_message_names_its_listeners() {
        let text = "READY=1\nSTATUS=serving\nX_NIGH_LISTENERS={\"role\":\"edge\",\"http\":\"127.77.1.1:80\",\"pid\":7}";
        let listeners = Listeners::parse(text).unwrap();
        assert_eq!(listeners.pid, 7);
        assert_eq!(listeners.get("http"), Some("127.77.1.1:80".parse().unwrap()));
        assert_eq!(listeners.get("role"), None);
    }

    #[test]
    fn other_notifications_are_passed_over() {
        for text in ["", "WATCHDOG=1", "READY=1", "READY=1\nX_NIGH_LISTENERS={", "STOPPING=1"] {
            assert_eq!(Listeners::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_message_of_an_earlier_child_is_not_taken_for_the_new_one() {
        let notifications = Notifications::open().unwrap();
        let sender = StdDatagram::unbound().unwrap();
        let to = UnixAddr::from_abstract_name(&notifications.address()[1..]).unwrap();
        for pid in [1, 2] {
            let text = format!("READY=1\nX_NIGH_LISTENERS={{\"pid\":{pid}}}");
            sender.send_to_addr(text.as_bytes(), &to).unwrap();
        }
        assert_eq!(notifications.ready(2).await.unwrap().pid, 2);
    }
}
