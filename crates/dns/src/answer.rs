//! What is the reply to a packet?
//!
//! [`answer`] is the whole server without its sockets: bytes in, bytes out, the same for UDP and
//! TCP. It reads no clock, asks nobody and cannot fail; a packet that deserves no reply gets none.

mod lookup;
#[cfg(test)]
mod properties;
mod steered;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::{
    query::{Query, Unusable},
    reply::{self, Draft, Signature},
    rr::{Ede, Rcode, kind},
    snapshot::Snapshot,
};

/// How a query came, and so how large its reply may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp {
        /// How long a connection may idle, in units of 100 ms (RFC 7828).
        idle_100ms: u16,
    },
}

/// A packet to send, and what metrics say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub rcode: Rcode,
    /// The type that was asked for; `None` when that was not understood.
    pub kind: Option<u16>,
    /// Numbers, in the snapshot's fleet, of the edges that the answer names.
    pub edges: Vec<usize>,
}

/// The reply to `packet` from `source`. Without a snapshot every query is refused: other servers of
/// the zone have the answer.
pub fn answer(
    snapshot: Option<&Snapshot>,
    packet: &[u8],
    source: IpAddr,
    transport: Transport,
) -> Option<Reply> {
    let query = match Query::read(packet) {
        Ok(query) => query,
        Err(Unusable::Silence) => return None,
        Err(Unusable::Told(told)) => {
            let bytes = reply::write_told(&told);
            return Some(Reply { bytes, rcode: told.rcode, kind: None, edges: Vec::new() });
        }
    };
    let mut edges = Vec::new();
    let draft = match (refuse(&query, transport), snapshot) {
        (Some(refusal), _) => refusal,
        (None, None) => Draft::refused(Ede::NotReady),
        (None, Some(snapshot)) => {
            lookup::resolve(snapshot, &query, source.to_canonical(), &mut edges)
        }
    };
    let signature = Signature {
        nsid: snapshot.map_or(&[][..], |snapshot| snapshot.machine.as_str().as_bytes()),
        keepalive: match transport {
            Transport::Udp => None,
            Transport::Tcp { idle_100ms } => Some(idle_100ms),
        },
    };
    let bytes_max = reply::bytes_max(query.edns.as_ref(), transport == Transport::Udp);
    let bytes = reply::write(&query, &draft, signature, bytes_max);
    Some(Reply { bytes, rcode: draft.rcode, kind: Some(query.kind), edges })
}

/// What is turned down whatever the zones hold.
fn refuse<'a>(query: &Query<'_>, transport: Transport) -> Option<Draft<'a>> {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Some(Draft::new(Rcode::BadVers));
    }
    match query.kind {
        kind::OPT => Some(Draft::new(Rcode::FormErr)),
        kind::NXNAME => {
            Some(Draft { ede: Some(Ede::InvalidQueryType), ..Draft::new(Rcode::FormErr) })
        }
        // Zone transfer is a policy that says no (RFC 5936, section 2.2.1); UDP cannot carry one.
        kind::AXFR | kind::IXFR if transport != Transport::Udp => {
            Some(Draft::refused(Ede::NotSupported))
        }
        kind::META_FIRST..kind::ANY => Some(Draft::new(Rcode::NotImp)),
        _ if !query.is_internet() => Some(Draft::refused(Ede::NotSupported)),
        _ => None,
    }
}
