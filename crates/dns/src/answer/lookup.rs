//! Which records answer a question (RFC 1034, section 4.3.2)?

use std::{borrow::Cow, net::IpAddr};

use super::steered;
use crate::{
    name::{self, Name},
    query::Query,
    records::RecordSet,
    reply::{Draft, Rr},
    rr::{Ede, Rcode, kind},
    snapshot::Snapshot,
    zone::{Found, Node, Zone},
};

/// CNAMEs followed for one question; control refuses longer chains and loops.
const CHAIN_MAX: usize = 16;
/// "RFC8482" and an empty string (RFC 8482, section 4.2).
const HINFO_RDATA: &[u8] = b"\x07RFC8482\0";
const HINFO_TTL_S: u32 = 3_600;

/// A question on its way through zones and CNAMEs.
pub(super) struct Walk<'a> {
    pub snapshot: &'a Snapshot,
    pub query: &'a Query<'a>,
    pub source: IpAddr,
    pub draft: Draft<'a>,
    pub edges: &'a mut Vec<usize>,
}

/// Answers from zones; `edges` collects the edges that are named.
pub(super) fn resolve<'a>(
    snapshot: &'a Snapshot,
    query: &'a Query<'a>,
    source: IpAddr,
    edges: &'a mut Vec<usize>,
) -> Draft<'a> {
    let name = query.name.as_bytes();
    let Some(zone) = snapshot.zones.responsible(name, query.kind) else {
        return Draft::refused(Ede::NotAuthoritative);
    };
    let mut walk = Walk { snapshot, query, source, draft: Draft::new(Rcode::NoError), edges };
    let mut step = Some((zone, name));
    for _ in 0..=CHAIN_MAX {
        let Some((zone, name)) = step else { break };
        let next = walk.step(zone, name);
        // Out of nigh's zones the chain ends, and the resolver goes on by itself.
        step = next.and_then(|next| Some((snapshot.zones.closest(next)?, next)));
    }
    walk.draft
}

impl<'a> Walk<'a> {
    /// Adds what `zone` says of `name`; the name to go on with is the target of a CNAME.
    fn step(&mut self, zone: &'a Zone, name: &'a [u8]) -> Option<&'a [u8]> {
        match zone.find(name) {
            Found::Node(node) => self.node(zone, name, node),
            Found::Cut { owner, .. } if self.query.kind == kind::DS && owner.as_bytes() == name => {
                // The parent's side answers; without DNSSEC there is none (RFC 4035, 3.1.4.1).
                self.negative(zone, Rcode::NoError);
                None
            }
            Found::Cut { owner, name_servers } => {
                self.referral(zone, owner, name_servers);
                None
            }
            Found::Nothing => {
                self.negative(zone, Rcode::NxDomain);
                None
            }
        }
    }

    fn node(&mut self, zone: &'a Zone, name: &'a [u8], node: &'a Node) -> Option<&'a [u8]> {
        self.mark_authoritative();
        let asked = self.query.kind;
        if let Some(cname) = node.set(kind::CNAME).filter(|_| asked != kind::ANY) {
            self.push_answer(name, cname);
            let target = cname.targets.first().map(Name::as_bytes);
            let is_known = |target: &&[u8]| self.draft.answers.iter().any(|rr| rr.owner == *target);
            return target.filter(|target| asked != kind::CNAME && !is_known(target));
        }
        match node.site {
            _ if asked == kind::ANY => self.answer_any(name),
            Some(site) if matches!(asked, kind::A | kind::AAAA) => {
                steered::answer(self, zone, name, site);
            }
            _ => match node.set(asked) {
                Some(set) => {
                    self.push_answer(name, set);
                    self.push_extras(set);
                }
                None => self.negative(zone, Rcode::NoError),
            },
        }
        None
    }

    /// A small answer that says that ANY is not answered (RFC 8482, section 4.2).
    fn answer_any(&mut self, name: &'a [u8]) {
        self.draft.answers.push(Rr {
            owner: name,
            kind: kind::HINFO,
            ttl_s: HINFO_TTL_S,
            rdata: Cow::Borrowed(HINFO_RDATA),
        });
    }

    /// The zone says that there is no such name or record (RFC 2308, section 2). With a CNAME before
    /// it, the code is that of the last name (RFC 6604, section 3).
    pub(super) fn negative(&mut self, zone: &'a Zone, rcode: Rcode) {
        self.negative_for(zone, rcode, zone.negative_ttl_s);
    }

    pub(super) fn negative_for(&mut self, zone: &'a Zone, rcode: Rcode, ttl_s: u32) {
        self.mark_authoritative();
        self.draft.rcode = rcode;
        let soa = zone.soa.rdata.iter().map(|rdata| Rr {
            owner: zone.apex.as_bytes(),
            kind: kind::SOA,
            ttl_s,
            rdata: Cow::Borrowed(rdata),
        });
        self.draft.authorities.extend(soa);
    }

    /// Sends the resolver to the name servers of a part that others answer for.
    fn referral(&mut self, zone: &'a Zone, owner: &'a Name, name_servers: &'a RecordSet) {
        push(&mut self.draft.authorities, owner.as_bytes(), name_servers);
        for target in &name_servers.targets {
            let Some((target, node)) = zone.glue(target.as_bytes()) else { continue };
            // Within the cut nobody else can be asked for the address (RFC 9471, section 3.1).
            let is_needed = name::is_within(target.as_bytes(), owner.as_bytes());
            let section = if is_needed { &mut self.draft.glue } else { &mut self.draft.extras };
            push_addresses(section, target, node);
        }
    }

    /// Addresses of the names that an answer leads to.
    fn push_extras(&mut self, set: &'a RecordSet) {
        if !matches!(set.kind, kind::NS | kind::MX) {
            return;
        }
        for target in &set.targets {
            let zone = self.snapshot.zones.closest(target.as_bytes());
            if let Some((target, node)) = zone.and_then(|zone| zone.glue(target.as_bytes())) {
                push_addresses(&mut self.draft.extras, target, node);
            }
        }
    }

    fn push_answer(&mut self, owner: &'a [u8], set: &'a RecordSet) {
        push(&mut self.draft.answers, owner, set);
    }

    /// The bit is about the first name of a chain (RFC 1035, section 4.1.1), which is ours whenever
    /// there is anything else than a referral.
    fn mark_authoritative(&mut self) {
        self.draft.is_authoritative = true;
    }
}

fn push<'a>(section: &mut Vec<Rr<'a>>, owner: &'a [u8], set: &'a RecordSet) {
    section.extend(set.rdata.iter().map(|rdata| Rr {
        owner,
        kind: set.kind,
        ttl_s: set.ttl_s,
        rdata: Cow::Borrowed(rdata),
    }));
}

fn push_addresses<'a>(section: &mut Vec<Rr<'a>>, owner: &'a Name, node: &'a Node) {
    for kind in [kind::A, kind::AAAA] {
        if let Some(set) = node.set(kind) {
            push(section, owner.as_bytes(), set);
        }
    }
}
