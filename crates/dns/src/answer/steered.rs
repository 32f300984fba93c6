//! Which addresses does a site's host have for this client, and for how many around it?

use std::{borrow::Cow, net::IpAddr};

use super::lookup::Walk;
use crate::{
    edns::ClientSubnet,
    locate::{Basis, Place},
    reply::Rr,
    rr::{Rcode, kind},
    snapshot::Snapshot,
    steer::{Family, choose},
    zone::Zone,
};

/// For whom an answer is steered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Audience<'s> {
    pub basis: Basis<'s>,
    /// How many leading bits of the client's subnet the answer depends on.
    pub scope_len: u8,
}

/// Adds the addresses for site number `site` to the answer.
pub(super) fn answer<'a>(walk: &mut Walk<'a>, zone: &'a Zone, owner: &'a [u8], site: u32) {
    let fleet = &*walk.snapshot.fleet;
    let family = if walk.query.kind == kind::A { Family::V4 } else { Family::V6 };
    let subnet = walk.query.edns.and_then(|edns| edns.subnet);
    let audience = audience(walk.snapshot, subnet, walk.source);
    let choice = choose(fleet, &fleet.sites[site as usize], family, &audience.basis);
    if choice.addresses.is_empty() {
        // An edge may get such an address at any time: not to be remembered for longer than one.
        let ttl_s = zone.negative_ttl_s.min(fleet.steered_ttl_s);
        walk.negative_for(zone, Rcode::NoError, ttl_s);
        return;
    }
    walk.draft.scope_len = if choice.is_universal { 0 } else { audience.scope_len };
    walk.draft.answers.extend(choice.addresses.iter().map(|address| Rr {
        owner,
        kind: walk.query.kind,
        ttl_s: fleet.steered_ttl_s,
        rdata: Cow::Owned(match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }),
    }));
    walk.edges.extend(choice.edges);
}

/// The client's subnet decides where its resolver sent one that is known; else the resolver's own
/// address does, and the answer then holds for all of the unknown block around the subnet.
pub(crate) fn audience(
    snapshot: &Snapshot,
    subnet: Option<ClientSubnet>,
    source: IpAddr,
) -> Audience<'_> {
    let Some(subnet) = subnet.filter(|subnet| subnet.source_len > 0) else {
        return Audience { basis: snapshot.locate(source).basis, scope_len: 0 };
    };
    let Place { basis, uniform_len: scope_len } = snapshot.locate(subnet.address);
    match basis {
        Basis::Unknown => Audience { basis: snapshot.locate(source).basis, scope_len },
        known => Audience { basis: known, scope_len },
    }
}
