//! Which loopback addresses may the edges of a fleet have?
//!
//! Every edge has an address of its own, so that A records differ, and all of them share their ports,
//! so that one URL fits every edge. A fleet takes a whole `127.77.N.0/24`, so the ports that are free
//! now on its addresses stay free until the edges bind them.

use std::{
    hash::{BuildHasher, Hasher},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use anyhow::{Context, Result};

/// How many networks and ports are tried.
const ATTEMPTS: usize = 64;

/// The addresses of all edges of one fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeAddresses {
    pub ips: Vec<Ipv4Addr>,
    pub http: u16,
    pub https: u16,
}

impl EdgeAddresses {
    /// Finds `count` addresses with two ports that are free on all of them.
    pub fn find(count: usize) -> Result<Self> {
        let start = std::hash::RandomState::new().build_hasher().finish();
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            let network = 1 + (start.wrapping_add(attempt as u64) % 254) as u8;
            let ips: Vec<_> = (1..=count).map(|host| ip(network, host)).collect();
            match free_ports(&ips) {
                Ok((http, https)) => return Ok(Self { ips, http, https }),
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| io::Error::other("no address was tried"));
        Err(error).context("no loopback network 127.77.N.0/24 has free ports for the edges")
    }
}

fn ip(network: u8, host: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, network, u8::try_from(host).unwrap_or(u8::MAX))
}

fn free_ports(ips: &[Ipv4Addr]) -> io::Result<(u16, u16)> {
    // Held until both are known, so that the two differ.
    let first = hold_port(ips)?;
    let second = hold_port(ips)?;
    Ok((first.0, second.0))
}

type Held = (u16, Vec<(TcpListener, UdpSocket)>);

/// Binds one port on every address, for TCP and for UDP.
fn hold_port(ips: &[Ipv4Addr]) -> io::Result<Held> {
    let mut port = 0;
    let mut held = Vec::with_capacity(ips.len());
    for &ip in ips {
        let tcp = TcpListener::bind((ip, port))?;
        port = tcp.local_addr()?.port();
        let udp = UdpSocket::bind(SocketAddr::from((ip, port)))?;
        held.push((tcp, udp));
    }
    Ok((port, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_share_their_ports_and_not_their_addresses() {
        let found = EdgeAddresses::find(3).unwrap();
        assert_ne!(found.http, found.https);
        assert_eq!(found.ips.len(), 3);
        assert_ne!(found.ips[0], found.ips[1]);
        for ip in found.ips {
            TcpListener::bind((ip, found.https)).unwrap();
        }
    }
}
