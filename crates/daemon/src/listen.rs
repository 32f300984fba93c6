//! Which address does a listener take, and what should the operator do when it cannot?

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Deserializer, Serialize, de};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Where to accept TCP connections.
///
/// In a configuration either `"127.0.0.1:8443"` or `{ address = "127.0.0.1:8443", backlog = 512 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpListen {
    /// IP address and port. Port 0 takes a free one; `[::]` accepts IPv4 too.
    pub address: SocketAddr,
    /// How many connections the kernel holds until they are accepted; 1024 unless told otherwise,
    /// and never more than `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether several sockets may share the address (`SO_REUSEPORT`); off unless told otherwise,
    /// since a second process by mistake would then take half of the visitors unseen.
    pub reuse_port: bool,
}

/// Where to receive UDP datagrams.
///
/// In a configuration either `"127.0.0.1:53"` or `{ address = "127.0.0.1:53", reuse_port = true }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UdpListen {
    /// IP address and port. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Size asked for the kernel's receive buffer in bytes; 4 MiB unless told otherwise. The
    /// kernel gives at most `net.core.rmem_max`.
    pub receive_buffer_bytes: usize,
    /// Whether several sockets may share the address (`SO_REUSEPORT`); off unless told otherwise.
    pub reuse_port: bool,
}

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{what} cannot listen on {address}: another program has this port; stop it (`ss -lnptu 'sport = :{}'` names it) or choose another port", .address.port()
    )]
    InUse { what: String, address: SocketAddr, source: io::Error },
    #[error(
        "{what} cannot listen on {address}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, a systemd socket unit, or a port of 1024 and above"
    )]
    Denied { what: String, address: SocketAddr, source: io::Error },
    #[error(
        "{what} cannot listen on {address}: this machine has no such address; use one that `ip address` shows, or 0.0.0.0 or [::] for all"
    )]
    NoSuchAddress { what: String, address: SocketAddr, source: io::Error },
    #[error("{what} cannot listen on {address}")]
    Other { what: String, address: SocketAddr, source: io::Error },
    #[error(
        "the socket that systemd handed over for {what} cannot be used; check ListenStream=, ListenDatagram= and FileDescriptorName= in its socket unit"
    )]
    HandedOver { what: String, source: io::Error },
}

impl TcpListen {
    /// Listens on `address` with the documented defaults.
    pub const fn on(address: SocketAddr) -> Self {
        Self { address, backlog: 1024, reuse_port: false }
    }
}

impl UdpListen {
    /// Listens on `address` with the documented defaults.
    pub const fn on(address: SocketAddr) -> Self {
        Self { address, receive_buffer_bytes: 4 << 20, reuse_port: false }
    }
}

/// Opens a listener; when it returns, connections are being queued. `what` names it in errors.
///
/// Must be called within a tokio runtime. `SO_REUSEADDR` is set, so that a restart does not wait
/// for the closed connections of its predecessor.
pub fn bind_tcp(what: &str, listen: &TcpListen) -> Result<TcpListener, BindError> {
    open_tcp(listen).map_err(|source| BindError::new(what, listen.address, source))
}

/// Opens a UDP socket. `what` names it in errors. Must be called within a tokio runtime.
///
/// `SO_REUSEADDR` is not set: for UDP it would let two processes take the same port.
pub fn bind_udp(what: &str, listen: &UdpListen) -> Result<UdpSocket, BindError> {
    open_udp(listen).map_err(|source| BindError::new(what, listen.address, source))
}

fn open_tcp(listen: &TcpListen) -> io::Result<TcpListener> {
    let socket = open(listen.address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(listen.reuse_port)?;
    socket.bind(&listen.address.into())?;
    socket.listen(i32::try_from(listen.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

fn open_udp(listen: &UdpListen) -> io::Result<UdpSocket> {
    let socket = open(listen.address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(listen.reuse_port)?;
    socket.set_recv_buffer_size(listen.receive_buffer_bytes)?;
    socket.bind(&listen.address.into())?;
    UdpSocket::from_std(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let IpAddr::V6(ip) = address.ip() {
        // Said outright, since `net.ipv6.bindv6only` differs between machines.
        socket.set_only_v6(ip != Ipv6Addr::UNSPECIFIED)?;
    }
    Ok(socket)
}

impl BindError {
    fn new(what: &str, address: SocketAddr, source: io::Error) -> Self {
        let what = what.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { what, address, source },
            io::ErrorKind::PermissionDenied => Self::Denied { what, address, source },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { what, address, source },
            _ => Self::Other { what, address, source },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpTable {
    address: SocketAddr,
    backlog: Option<u32>,
    reuse_port: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UdpTable {
    address: SocketAddr,
    receive_buffer_bytes: Option<usize>,
    reuse_port: Option<bool>,
}

impl From<TcpTable> for TcpListen {
    fn from(table: TcpTable) -> Self {
        let default = Self::on(table.address);
        Self {
            address: table.address,
            backlog: table.backlog.unwrap_or(default.backlog),
            reuse_port: table.reuse_port.unwrap_or(default.reuse_port),
        }
    }
}

impl From<UdpTable> for UdpListen {
    fn from(table: UdpTable) -> Self {
        let default = Self::on(table.address);
        Self {
            address: table.address,
            receive_buffer_bytes: table
                .receive_buffer_bytes
                .unwrap_or(default.receive_buffer_bytes),
            reuse_port: table.reuse_port.unwrap_or(default.reuse_port),
        }
    }
}

impl<'de> Deserialize<'de> for TcpListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressOrTable::<TcpTable, _>::new(Self::on))
    }
}

impl<'de> Deserialize<'de> for UdpListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressOrTable::<UdpTable, _>::new(Self::on))
    }
}

/// Reads `"IP:PORT"` or a table. By hand, since serde's untagged enums lose the error of the table.
struct AddressOrTable<Table, Listen> {
    on: fn(SocketAddr) -> Listen,
    table: std::marker::PhantomData<Table>,
}

impl<Table, Listen> AddressOrTable<Table, Listen> {
    fn new(on: fn(SocketAddr) -> Listen) -> Self {
        Self { on, table: std::marker::PhantomData }
    }
}

impl<'de, Table: Deserialize<'de>, Listen: From<Table>> de::Visitor<'de>
    for AddressOrTable<Table, Listen>
{
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"127.0.0.1:8443\" or \"[::]:443\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
        text.parse().map(self.on).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
        Table::deserialize(de::value::MapAccessDeserializer::new(map)).map(Listen::from)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[tokio::test]
    async fn port_0_takes_a_free_port_and_accepts_at_once() {
        let listener = bind_tcp("http", &TcpListen::on(loopback())).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        assert_eq!(client.unwrap().local_addr().unwrap(), accepted.unwrap().1);
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_listener_address_and_remedy() {
        let first = bind_tcp("http", &TcpListen::on(loopback())).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_tcp("http", &TcpListen::on(address)).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("http cannot listen on {address}: ")), "{text}");
        assert!(text.contains(&format!("sport = :{}", address.port())), "{text}");
        assert!(error.source().is_some());
    }

    #[tokio::test]
    async fn a_taken_udp_port_is_refused() {
        let first = bind_udp("dns", &UdpListen::on(loopback())).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_udp("dns", &UdpListen::on(address)).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn sockets_share_a_port_when_both_are_told_to() {
        let mut listen = UdpListen { reuse_port: true, ..UdpListen::on(loopback()) };
        let first = bind_udp("dns", &listen).unwrap();
        listen.address = first.local_addr().unwrap();
        bind_udp("dns", &listen).unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_explained() {
        let address = "192.0.2.1:0".parse().unwrap();
        let error = bind_tcp("http", &TcpListen::on(address)).unwrap_err();
        assert!(matches!(error, BindError::NoSuchAddress { .. }), "{error:?}");
    }

    #[test]
    fn a_privileged_port_without_permission_is_explained() {
        let error =
            BindError::new("http", "0.0.0.0:80".parse().unwrap(), io::Error::from_raw_os_error(13));
        assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"), "{error}");
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Config {
        http: TcpListen,
        dns: UdpListen,
    }

    #[test]
    fn a_listener_is_written_as_an_address_or_as_a_table() {
        let (http, dns) = ("[::1]:8443".parse().unwrap(), "127.0.0.1:53".parse().unwrap());
        let short = "http = \"[::1]:8443\"\ndns = \"127.0.0.1:53\"";
        let expected = Config { http: TcpListen::on(http), dns: UdpListen::on(dns) };
        assert_eq!(toml::from_str::<Config>(short).unwrap(), expected);
        let long = "[http]\naddress = \"[::1]:8443\"\nbacklog = 7\n\
            [dns]\naddress = \"127.0.0.1:53\"\nreuse_port = true";
        let expected = Config {
            http: TcpListen { backlog: 7, ..TcpListen::on(http) },
            dns: UdpListen { reuse_port: true, ..UdpListen::on(dns) },
        };
        assert_eq!(toml::from_str::<Config>(long).unwrap(), expected);
        let written = toml::to_string(&expected).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap(), expected, "{written}");
    }

    #[test]
    fn unknown_keys_and_hostnames_are_refused_with_what_is_expected() {
        let error = toml::from_str::<TcpListen>("address = \"[::1]:1\"\nbacklogs = 7").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("backlogs") && error.contains("`backlog`"), "{error}");
        let text = "http = \"localhost:80\"\ndns = \"127.0.0.1:53\"";
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains("localhost:80") && error.contains("127.0.0.1:8443"), "{error}");
    }
}
