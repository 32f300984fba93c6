//! Which listeners did the service manager open for us before we started?
//!
//! A socket unit keeps the port while the service restarts, so that no visitor is refused. The
//! sockets come in the order of the unit's `Listen…=` lines, each with the name of
//! `FileDescriptorName=`, or of the unit when that is not set (`sd_listen_fds(3)`).

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UdpSocket};

use crate::listen::{BindError, TcpListen, UdpListen, bind_tcp, bind_udp};

/// The sockets that were handed over, each given away once; cheap to clone.
#[derive(Clone)]
pub struct Sockets(Arc<Mutex<HandedOver>>);

struct HandedOver {
    fds: ListenFd,
    names: Vec<String>,
}

impl Sockets {
    /// Nothing was handed over: every listener binds its own address.
    pub fn none() -> Self {
        Self::new(ListenFd::empty(), "")
    }

    /// Takes what systemd handed over; `names` is the value of `LISTEN_FDNAMES`, empty when unset.
    ///
    /// Reads and removes `LISTEN_FDS` and `LISTEN_PID`, so call it once, before there are threads.
    pub fn from_systemd(names: &str) -> Self {
        Self::new(ListenFd::from_env(), names)
    }

    fn new(fds: ListenFd, names: &str) -> Self {
        let names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Sockets(Arc::new(Mutex::new(HandedOver { fds, names })))
    }

    /// The listener for `name`: handed over, or else bound to `listen`.
    ///
    /// A role asks for its listeners in the order in which its documentation lists them.
    pub fn tcp(&self, name: &str, listen: &TcpListen) -> Result<TcpListener, BindError> {
        match self.take(name, ListenFd::take_tcp_listener)? {
            Some(listener) => listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener))
                .map_err(|source| BindError::HandedOver { what: name.to_owned(), source }),
            None => bind_tcp(name, listen),
        }
    }

    /// The UDP socket for `name`: handed over, or else bound to `listen`.
    pub fn udp(&self, name: &str, listen: &UdpListen) -> Result<UdpSocket, BindError> {
        match self.take(name, ListenFd::take_udp_socket)? {
            Some(socket) => socket
                .set_nonblocking(true)
                .and_then(|()| UdpSocket::from_std(socket))
                .map_err(|source| BindError::HandedOver { what: name.to_owned(), source }),
            None => bind_udp(name, listen),
        }
    }

    /// Warns of sockets that no listener asked for: their clients would wait for ever.
    pub fn warn_of_unused(&self) {
        let mut handed_over = self.0.lock().expect("no code panics while it holds the sockets");
        for index in 0..handed_over.fds.len() {
            if let Ok(Some(fd)) = handed_over.fds.take_raw_fd(index) {
                let name = handed_over.names.get(index).map_or("(no name)", String::as_str);
                tracing::warn!(socket = name, fd, "systemd handed over a socket nobody asked for");
            }
        }
    }

    fn take<S>(
        &self,
        name: &str,
        take: impl Fn(&mut ListenFd, usize) -> std::io::Result<Option<S>>,
    ) -> Result<Option<S>, BindError> {
        let HandedOver { fds, names } =
            &mut *self.0.lock().expect("no code panics while it holds the sockets");
        for place in candidates(name, names, fds.len()) {
            match (place, take(fds, place.index())) {
                (_, Ok(None)) | (Place::InOrder(_), Err(_)) => {}
                (_, Ok(Some(socket))) => return Ok(Some(socket)),
                (Place::Named(_), Err(source)) => {
                    return Err(BindError::HandedOver { what: name.to_owned(), source });
                }
            }
        }
        Ok(None)
    }
}

/// Where among the sockets one for a listener may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It bears the listener's name, so it must fit.
    Named(usize),
    /// Nobody named it: the first one of the right kind is meant.
    InOrder(usize),
}

impl Place {
    fn index(self) -> usize {
        match self {
            Place::Named(index) | Place::InOrder(index) => index,
        }
    }
}

/// The places to look for the listener `name` among `count` sockets, best first.
///
/// A socket with another listener's name is never taken; one without a name of its own (none at
/// all, `unknown`, or that of the socket unit) belongs to whoever asks first.
fn candidates(name: &str, names: &[String], count: usize) -> Vec<Place> {
    let named = (0..count).filter(|&index| names.get(index).is_some_and(|given| given == name));
    let unnamed = (0..count).filter(|&index| {
        names.get(index).is_none_or(|given| given == "unknown" || given.ends_with(".socket"))
    });
    named.map(Place::Named).chain(unnamed.map(Place::InOrder)).collect()
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.lock() {
            Ok(handed_over) => write!(f, "Sockets({:?})", handed_over.names),
            Err(_) => f.write_str("Sockets"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_before_order_and_other_names_are_left_alone() {
        let names = ["nigh-edge.socket", "https", "http"].map(str::to_owned);
        assert_eq!(
            candidates("http", &names, 4),
            [Place::Named(2), Place::InOrder(0), Place::InOrder(3)]
        );
        assert_eq!(candidates("ops", &names, 3), [Place::InOrder(0)]);
        assert_eq!(candidates("http", &names, 0), []);
    }

    #[tokio::test]
    async fn with_nothing_handed_over_listeners_are_bound() {
        let listen = TcpListen::on("127.0.0.1:0".parse().unwrap());
        let listener = Sockets::none().tcp("http", &listen).unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }
}
