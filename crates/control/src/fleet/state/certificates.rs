//! What does one machine need, to serve over TLS and to answer CAs?

use std::collections::HashMap;

use nigh_proto::{
    Host, MachineName, Timestamp,
    state::{Certificate, DnsChallenge, HttpChallenge},
    zone::DnsName,
};

use super::{Site, World};
use crate::store::{CertificateRow, ChallengeKind, Source};

/// Which certificate is the one for each name.
#[derive(Debug)]
pub(super) struct Names<'w>(HashMap<&'w str, (u8, &'w str)>);

fn rank(row: &CertificateRow, now: Timestamp) -> u8 {
    match row.source {
        Source::Import if row.not_after > now => 0,
        Source::Acme => PUBLIC,
        Source::Internal => 2,
        Source::Import => 3,
    }
}

/// The rank of a certificate from a public CA.
const PUBLIC: u8 = 1;

impl<'w> Names<'w> {
    pub(super) fn of(world: &'w World, now: Timestamp) -> Self {
        let mut names: HashMap<&str, (u8, &str)> = HashMap::new();
        for row in &world.certificates {
            let place = (rank(row, now), row.id.as_str());
            for name in &row.names {
                let best = names.entry(name.as_str()).or_insert(place);
                *best = place.min(*best);
            }
        }
        Self(names)
    }

    /// Whether every host of the site has a certificate: a redirect to `https` must lead somewhere.
    pub(super) fn cover(&self, site: &Site) -> bool {
        let is_covered = |host: &Host| {
            let parent = host.as_str().split_once('.').map(|(_, parent)| format!("*.{parent}"));
            self.0.contains_key(host.as_str())
                || parent.is_some_and(|wildcard| self.0.contains_key(wildcard.as_str()))
        };
        site.hosts.iter().all(is_covered)
    }

    /// Whether `row` is the certificate to show for `name`, which is one of its own: the one that an
    /// operator brought, until it ends; else that of a public CA, even when only its wildcard is for
    /// the name; else that of the own CA.
    fn is_for(&self, row: &CertificateRow, name: &DnsName, now: Timestamp) -> bool {
        let place = (rank(row, now), row.id.as_str());
        let parent = name.as_str().split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let wildcard = parent.and_then(|wildcard| self.0.get(wildcard.as_str()));
        let gives_way = place.0 > PUBLIC && wildcard.is_some_and(|wildcard| wildcard.0 == PUBLIC);
        self.0.get(name.as_str()) == Some(&place) && !gives_way
    }
}

/// What edges serve with.
pub(super) fn served(world: &World, names: &Names<'_>, now: Timestamp) -> Vec<Certificate> {
    let certificate = |row: &CertificateRow| Certificate {
        id: row.id.clone(),
        names: row.names.iter().filter(|name| names.is_for(row, name, now)).cloned().collect(),
        chain_pem: row.chain_pem.clone(),
        key_pem: row.key_pem.clone(),
        not_after: row.not_after,
    };
    world.certificates.iter().map(certificate).filter(|row| !row.names.is_empty()).collect()
}

/// What this edge is to prove.
pub(super) fn to_prove(world: &World, machine: &MachineName) -> Vec<Certificate> {
    let is_asked = |asked: &Option<(MachineName, Timestamp)>| {
        asked.as_ref().is_some_and(|(name, _)| name == machine)
    };
    let mine = world.candidates.iter().filter(|row| is_asked(&row.asked) && row.refused.is_none());
    mine.map(|row| Certificate {
        id: row.id.clone(),
        names: row.names.clone(),
        chain_pem: row.chain_pem.clone(),
        key_pem: row.key_pem.clone(),
        not_after: row.not_after,
    })
    .collect()
}

pub(super) fn http_challenges(world: &World) -> Vec<HttpChallenge> {
    let of_kind = world.challenges.iter().filter(|row| row.kind == ChallengeKind::Http);
    of_kind
        .filter_map(|row| {
            Some(HttpChallenge {
                host: row.name.as_str().parse().ok()?,
                token: row.token.clone(),
                key_authorization: row.value.clone(),
            })
        })
        .collect()
}

pub(super) fn dns_challenges(world: &World) -> Vec<DnsChallenge> {
    let of_kind = world.challenges.iter().filter(|row| row.kind == ChallengeKind::Dns);
    of_kind.map(|row| DnsChallenge { name: row.name.clone(), value: row.value.clone() }).collect()
}
