//! Which node of which zone answers for a name?
//!
//! A zone is a map from names to nodes in which every ancestor of a name has a node too, so empty
//! non-terminals exist (RFC 8020) and finding a name is a walk down from the apex that stops at the
//! first absent label: the cost of an absent name is that of its labels, never of the zone.

mod compile;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use compile::{ProblemKind, ZoneProblem};

use crate::{
    name::{self, Name},
    records::RecordSet,
    rr::kind,
};

/// Everything that nigh answers for with authority.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    by_apex: HashMap<Name, Zone>,
}

/// One zone, ready to be asked.
#[derive(Clone, Debug)]
pub struct Zone {
    pub apex: Name,
    pub soa: RecordSet,
    /// TTL of the SOA record in negative answers (RFC 2308, section 3).
    pub negative_ttl_s: u32,
    nodes: HashMap<Name, Node>,
}

/// What exists at one name; with nothing in it, an empty non-terminal.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub sets: Vec<RecordSet>,
    /// Index of the site whose edges are this name's addresses.
    pub site: Option<u32>,
}

/// Where a name leads within its zone (RFC 1034, section 4.3.2; RFC 4592, section 4).
#[derive(Clone, Copy, Debug)]
pub enum Found<'z> {
    /// The name exists, or a wildcard stands in for it.
    Node(&'z Node),
    /// The name is at or below a delegation.
    Cut {
        owner: &'z Name,
        name_servers: &'z RecordSet,
    },
    Nothing,
}

impl Zones {
    /// The zone with the longest apex that `name` is in.
    pub fn closest(&self, name: &[u8]) -> Option<&Zone> {
        name::ancestors(name).find_map(|apex| self.by_apex.get(apex))
    }

    /// The zone whose answer for `kind` counts: DS is asked of the parent's side of a cut (RFC 4035,
    /// section 3.1.4.1), when nigh has that side.
    pub fn responsible(&self, name: &[u8], kind: u16) -> Option<&Zone> {
        let zone = self.closest(name)?;
        if kind != kind::DS || zone.apex.as_bytes() != name {
            return Some(zone);
        }
        name::parent(name).and_then(|parent| self.closest(parent)).or(Some(zone))
    }

    pub fn len(&self) -> usize {
        self.by_apex.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_apex.is_empty()
    }
}

impl Zone {
    /// `name` must lie within the zone.
    pub fn find(&self, name: &[u8]) -> Found<'_> {
        let mut below = [&name[..0]; 128];
        let mut depth = 0;
        for ancestor in name::ancestors(name) {
            if ancestor.len() <= self.apex.as_bytes().len() {
                break;
            }
            below[depth] = ancestor;
            depth += 1;
        }
        let mut encloser = self.apex.as_bytes();
        let mut node = self.nodes.get(encloser);
        for &next in below[..depth].iter().rev() {
            let Some((owner, found)) = self.nodes.get_key_value(next) else {
                return self.wildcard(encloser);
            };
            if let Some(name_servers) = found.set(kind::NS) {
                return Found::Cut { owner, name_servers };
            }
            encloser = next;
            node = Some(found);
        }
        node.map_or(Found::Nothing, Found::Node)
    }

    /// The closest encloser's wildcard, if it has one (RFC 4592, section 3.3.1).
    fn wildcard(&self, encloser: &[u8]) -> Found<'_> {
        Name::wildcard_below(encloser)
            .and_then(|(bytes, len)| self.nodes.get(&bytes[..len]))
            .map_or(Found::Nothing, Found::Node)
    }

    /// The records at exactly `name`, even below a cut: glue is there.
    pub fn glue(&self, name: &[u8]) -> Option<(&Name, &Node)> {
        self.nodes.get_key_value(name)
    }

    /// How many names exist, empty non-terminals among them.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Node {
    pub fn set(&self, kind: u16) -> Option<&RecordSet> {
        self.sets.iter().find(|set| set.kind == kind)
    }

    fn set_mut(&mut self, kind: u16) -> &mut RecordSet {
        let at = self.sets.iter().position(|set| set.kind == kind).unwrap_or_else(|| {
            self.sets.push(RecordSet::new(kind, u32::MAX));
            self.sets.len() - 1
        });
        &mut self.sets[at]
    }
}
