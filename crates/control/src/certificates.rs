//! How do sites get certificates that every visitor trusts?
//!
//! From public CAs that speak ACME (RFC 8555), or from an operator who has some. `plan` says which
//! certificates there should be, `limits` when a CA may be asked for one, `caa` whether it may issue
//! at all: pure functions. `order` carries one through, with `issuers`, `account`, `challenges`, `confirm`
//! and `lookup` around it; `trouble` says what an error means, `inspect` looks at what comes back, and
//! `proof` has one edge try it before the fleet gets it. `reconcile::acme` puts them to work.

pub(crate) mod account;
pub(crate) mod caa;
pub(crate) mod challenges;
pub(crate) mod confirm;
pub(crate) mod http;
pub(crate) mod inspect;
pub(crate) mod issuers;
pub(crate) mod limits;
pub(crate) mod lookup;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod proof;
pub(crate) mod tickets;
pub(crate) mod trouble;

use nigh_proto::zone::DnsName;

/// Whether a certificate for `name` is one for `host`: the same, or a wildcard one label up.
pub(crate) fn covers(name: &DnsName, host: &DnsName) -> bool {
    name == host
        || name.as_str().strip_prefix("*.").is_some_and(|parent| {
            host.as_str()
                .split_once('.')
                .is_some_and(|(label, rest)| rest == parent && label != "*")
        })
}

/// The zone of ours that `name` lies in, the deepest of several.
pub(crate) fn own_zone<'z>(name: &DnsName, zones: &'z [DnsName]) -> Option<&'z DnsName> {
    let bare: DnsName = name.as_str().trim_start_matches("*.").parse().ok()?;
    zones.iter().filter(|zone| bare.is_within(zone)).max_by_key(|zone| zone.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn a_wildcard_is_for_one_label_and_not_for_its_parent() {
        let wildcard = name("*.nigh.test");
        assert!(covers(&wildcard, &name("docs.nigh.test")));
        assert!(covers(&wildcard, &wildcard));
        assert!(!covers(&wildcard, &name("nigh.test")));
        assert!(!covers(&wildcard, &name("a.docs.nigh.test")));
        assert!(!covers(&wildcard, &name("docs.nigh.tests")));
    }

    #[test]
    fn a_name_is_in_the_deepest_zone_that_holds_it() {
        let zones = [name("nigh.test"), name("eu.nigh.test")];
        assert_eq!(own_zone(&name("*.eu.nigh.test"), &zones), Some(&zones[1]));
        assert_eq!(own_zone(&name("aeu.nigh.test"), &zones), Some(&zones[0]));
        assert_eq!(own_zone(&name("other.test"), &zones), None);
    }
}
