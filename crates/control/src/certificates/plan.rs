//! Which certificates should there be, and which are to be asked for now?
//!
//! One wildcard covers the default hosts of all sites, and previews. A site's other hosts in zones of
//! ours share one certificate; a host whose DNS is elsewhere has its own, and so has one that failed:
//! it never holds back the others. A certificate is asked for when a host has none yet, and anew when
//! its time has come; what no host needs any more goes.

use std::collections::{BTreeMap, BTreeSet};

use nigh_proto::{Host, SiteName, Timestamp, zone::DnsName};

use super::{covers, own_zone};
use crate::store::Source;

/// What is known when the plan is made.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub now: Timestamp,
    pub domain: &'a Host,
    pub preview_domain: &'a Host,
    pub zones: &'a [DnsName],
    pub names_max: usize,
    pub sites: &'a [(SiteName, Vec<Host>)],
    /// What edges serve with.
    pub held: &'a [Held],
    /// What an edge is to prove, by the id of the certificate that it will be.
    pub candidates: &'a BTreeMap<String, Vec<DnsName>>,
    /// Names that a CA could not validate, and that have had no certificate since.
    pub troubled: &'a BTreeSet<DnsName>,
}

/// A certificate in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub id: String,
    pub names: Vec<DnsName>,
    pub source: Source,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// When its CA, or an operator, would have it renewed.
    pub renew_at: Option<Timestamp>,
}

/// A certificate to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub id: String,
    pub names: Vec<DnsName>,
    /// Whether it takes the place of one that still serves.
    pub is_renewal: bool,
}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The most urgent first.
    pub requests: Vec<Request>,
    /// Ids of certificates that no host needs.
    pub surplus: Vec<String>,
    /// Names that nothing in hand covers.
    pub bare: BTreeSet<DnsName>,
}

impl Held {
    /// Whether it is time for the next one.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.due_at() <= now
    }

    /// When its CA says, and else at two thirds of its life. A CA that names a time far too late is
    /// not waited for.
    pub(crate) fn due_at(&self) -> Timestamp {
        let life_ms = self.not_after.ms_since(self.not_before);
        let after = |sixths: i64| self.not_before.plus_ms(life_ms / 6 * sixths);
        self.renew_at.map_or(after(4), |at| at.min(after(5)))
    }

    fn serves(&self, name: &DnsName) -> bool {
        self.source != Source::Internal && self.names.iter().any(|own| covers(own, name))
    }
}

/// The wildcards that can be had: a CA is convinced of those through DNS alone.
fn wildcards(situation: &Situation<'_>) -> BTreeMap<String, Vec<DnsName>> {
    let domains = BTreeSet::from([situation.domain.clone(), situation.preview_domain.clone()]);
    let wildcard = |domain: Host| {
        let name: DnsName = format!("*.{domain}").parse().ok()?;
        own_zone(&name, situation.zones)?;
        Some((format!("wildcard:{domain}"), vec![name]))
    };
    domains.into_iter().filter_map(wildcard).collect()
}

/// Every certificate that there should be, by id.
fn wanted(situation: &Situation<'_>) -> BTreeMap<String, Vec<DnsName>> {
    let mut wanted = wildcards(situation);
    let is_own = |held: &&Held| held.source == Source::Import && held.not_after > situation.now;
    let own = situation.held.iter().filter(is_own).flat_map(|held| &held.names);
    let covering: Vec<DnsName> = wanted.values().flatten().chain(own).cloned().collect();
    for (site, hosts) in situation.sites {
        let names = hosts.iter().cloned().map(DnsName::from);
        let names = names.filter(|name| !covering.iter().any(|own| covers(own, name)));
        let (alone, mut together): (Vec<_>, Vec<_>) = names.partition(|name| {
            own_zone(name, situation.zones).is_none() || situation.troubled.contains(name)
        });
        together.sort_unstable();
        for (index, names) in together.chunks(situation.names_max).enumerate() {
            let id = match index {
                0 => format!("site:{site}"),
                _ => format!("site:{site}:{}", index + 1),
            };
            wanted.insert(id, names.to_vec());
        }
        wanted.extend(alone.into_iter().map(|name| (format!("host:{name}"), vec![name])));
    }
    wanted
}

/// What there is to do now.
pub(crate) fn plan(situation: &Situation<'_>) -> Plan {
    let now = situation.now;
    let wanted = wanted(situation);
    let unexpired: Vec<&Held> = situation.held.iter().filter(|held| held.not_after > now).collect();
    // One that is due and has no place among the wanted is not renewed: its names go to others.
    let is_lasting = |held: &&&Held| {
        held.source == Source::Import || wanted.contains_key(&held.id) || !held.is_due(now)
    };
    let lasting: Vec<&Held> = unexpired.iter().filter(is_lasting).copied().collect();
    let is_coming =
        |name: &DnsName| situation.candidates.values().flatten().any(|coming| covers(coming, name));
    let mut plan = Plan { surplus: surplus(situation, &wanted), ..Plan::default() };
    let mut urgent: Vec<(Timestamp, Request)> = Vec::new();
    for (id, names) in &wanted {
        let is_served = |by: &[&Held], name: &DnsName| by.iter().any(|held| held.serves(name));
        plan.bare.extend(names.iter().filter(|name| !is_served(&unexpired, name)).cloned());
        let held = situation.held.iter().find(|held| held.id == *id);
        let held = held.filter(|held| held.source == Source::Acme);
        let is_missing = names.iter().any(|name| !is_served(&lasting, name) && !is_coming(name));
        let is_due = held.is_some_and(|held| held.is_due(now));
        if situation.candidates.contains_key(id) || !(is_missing || is_due) {
            continue;
        }
        // Hosts that have nothing come first, then what ends first.
        let ends = held.filter(|_| !is_missing).map(|held| held.not_after).unwrap_or_default();
        let request = Request { id: id.clone(), names: names.clone(), is_renewal: held.is_some() };
        urgent.push((ends, request));
    }
    urgent.sort_by(|one, other| (one.0, &one.1.id).cmp(&(other.0, &other.1.id)));
    plan.requests = urgent.into_iter().map(|(_, request)| request).collect();
    plan
}

/// What no host needs: those of an earlier mode or arrangement once each of their hosts has another
/// one, and those whose hosts are gone.
fn surplus(situation: &Situation<'_>, wanted: &BTreeMap<String, Vec<DnsName>>) -> Vec<String> {
    let asked: BTreeSet<&DnsName> = wanted.values().flatten().collect();
    let hosts: Vec<DnsName> =
        situation.sites.iter().flat_map(|(_, hosts)| hosts).cloned().map(DnsName::from).collect();
    let has_another = |held: &Held, name: &DnsName| {
        situation.held.iter().any(|other| {
            other.id != held.id
                && other.not_after > situation.now
                && other.serves(name)
                && (wanted.contains_key(&other.id) || other.source == Source::Import)
        })
    };
    let is_needless = |held: &Held| {
        let served = hosts.iter().filter(|host| held.names.iter().any(|name| covers(name, host)));
        let needed = served.chain(held.names.iter().filter(|name| asked.contains(name)));
        needed.into_iter().all(|name| has_another(held, name))
    };
    let is_surplus = |held: &&Held| match held.source {
        Source::Import => false,
        Source::Acme => !wanted.contains_key(&held.id) && is_needless(held),
        Source::Internal => is_needless(held),
    };
    situation.held.iter().filter(is_surplus).map(|held| held.id.clone()).collect()
}

#[cfg(test)]
mod tests;
