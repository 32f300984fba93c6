//! Where are queries received?

use std::{io, net::SocketAddr};

use nigh_daemon::{BindError, Sockets, TcpListen, UdpListen};
use tokio::net::{TcpListener, UdpSocket};

use super::StartError;

/// Ports tried for port 0: the one that TCP is given may be taken for UDP.
const TRIES_MAX: usize = 32;

/// One address with both of its sockets.
#[derive(Debug)]
pub(super) struct Bound {
    pub address: SocketAddr,
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Bound {
    /// Binds every address, or none.
    pub(super) fn bind(
        addresses: &[SocketAddr],
        sockets: &Sockets,
    ) -> Result<Vec<Self>, StartError> {
        addresses.iter().map(|address| Self::bind_one(*address, sockets)).collect()
    }

    /// Port 0 takes a port that is free for both, since resolvers ask both at one port.
    fn bind_one(address: SocketAddr, sockets: &Sockets) -> Result<Self, StartError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let tcp = sockets.tcp("dns", &TcpListen::on(address))?;
            let local = tcp.local_addr().map_err(|source| BindError::Other {
                what: "dns".to_owned(),
                address,
                source,
            })?;
            match sockets.udp("dns", &UdpListen::on(local)) {
                Ok(udp) => return Ok(Self { address: local, udp, tcp }),
                Err(BindError::InUse { .. }) if address.port() == 0 && tries < TRIES_MAX => {}
                Err(BindError::InUse { .. }) if address.port() == 0 => {
                    let source = io::Error::from(io::ErrorKind::AddrInUse);
                    return Err(StartError::NoCommonPort { address, source });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
