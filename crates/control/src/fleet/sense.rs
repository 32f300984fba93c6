//! What of a report can be true?
//!
//! A machine is believed about itself, within what control knows: sites and releases that exist,
//! a revision that was made, numbers that can be measured. What a machine may still say of what was
//! deleted a moment ago is left out; what no machine of nigh would ever say is refused. So what is
//! kept of a machine is bounded by what the fleet holds.

use std::collections::BTreeSet;

use nigh_proto::{
    ReleaseId,
    report::{
        AUTHORITIES_MAX, CertificateReport, Health, MachineAbout, Report, SiteReport, StageFailure,
    },
};

use super::{Site, World};

/// Addresses of one machine, of each kind.
const ADDRESSES_MAX: usize = 16;
/// The longest version, in bytes.
const VERSION_MAX_BYTES: usize = 64;
/// Failures of one site that are kept.
const FAILURES_MAX: usize = 8;
/// The longest reason that is kept, in bytes; machines cut theirs at 500.
const REASON_MAX_BYTES: usize = 600;
/// As many files as a release may have, with a document or three.
const MISSING_BLOBS_MAX: u64 = 1_000_003;
/// The longest name of a certificate, in bytes.
const CERTIFICATE_ID_MAX_BYTES: usize = 300;

/// Refuses what no machine says of itself.
pub(crate) fn check_about(about: &MachineAbout) -> Result<(), &'static str> {
    if about.location.is_some_and(|location| !location.is_valid()) {
        return Err("its location is nowhere on earth");
    }
    if about.ipv4.len() > ADDRESSES_MAX || about.ipv6.len() > ADDRESSES_MAX {
        return Err("it names more than 16 addresses of one kind");
    }
    if about.version.len() > VERSION_MAX_BYTES || about.version.chars().any(char::is_control) {
        return Err("its version is none");
    }
    Ok(())
}

/// How many things `report` says of sites and certificates: fewer when something was left out of it.
pub(crate) fn statements(report: &Report) -> usize {
    let of_site = |site: &SiteReport| {
        1 + site.staged.len() + site.failed.len() + usize::from(site.active.is_some())
    };
    report.sites.iter().map(of_site).sum::<usize>() + report.certificates.len()
}

/// The part of `report` that can be true in `world`.
pub(crate) fn sensible(world: &World, mut report: Report) -> Result<Report, &'static str> {
    check_about(&report.about)?;
    if report.credentials.trusts.len() > AUTHORITIES_MAX {
        return Err("it trusts more CAs than there can be");
    }
    // A revision of the future is one of before control's database was restored, or made up; the
    // machine has not acted on what control means by it.
    report.revision = report.revision.filter(|revision| revision.0 <= world.revision);
    report.health = measurable(report.health);
    let mut seen = BTreeSet::new();
    report.sites.retain(|site| world.site(&site.site).is_some() && seen.insert(site.site.clone()));
    for told in &mut report.sites {
        if let Some(site) = world.site(&told.site) {
            keep_known(site, told);
        }
    }
    keep_certificates(world, &mut report.certificates);
    Ok(report)
}

fn keep_known(site: &Site, told: &mut SiteReport) {
    let is_known = |id: &ReleaseId| site.release(id).is_some();
    let mut seen = BTreeSet::new();
    told.staged.retain(|id| is_known(id) && seen.insert(id.clone()));
    told.active = told.active.take().filter(is_known);
    told.failed.retain(|failure| is_known(&failure.release));
    told.failed.truncate(FAILURES_MAX);
    told.failed.iter_mut().for_each(shorten);
    told.missing_blobs = told.missing_blobs.min(MISSING_BLOBS_MAX);
}

fn shorten(failure: &mut StageFailure) {
    let reason = &mut failure.reason;
    reason.truncate(reason.floor_char_boundary(REASON_MAX_BYTES));
    if reason.chars().any(char::is_control) {
        *reason = reason.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    }
}

/// Each certificate and each candidate is told of once.
fn keep_certificates(world: &World, told: &mut Vec<CertificateReport>) {
    told.truncate(world.certificates.len() + world.candidates.len() + world.sites.len() + 1);
    told.retain(|certificate| certificate.id.len() <= CERTIFICATE_ID_MAX_BYTES);
}

fn measurable(health: Health) -> Health {
    let ratio = |value: f64| if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    Health {
        cpu_steal_ratio: ratio(health.cpu_steal_ratio),
        cpu_pressure_ratio: ratio(health.cpu_pressure_ratio),
        io_pressure_ratio: ratio(health.io_pressure_ratio),
        memory_pressure_ratio: ratio(health.memory_pressure_ratio),
        ..health
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::{
        Protocols,
        report::Credentials,
        state::{Location, Revision},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::fixture;

    fn about(latitude: f64, addresses: usize, version: &str) -> MachineAbout {
        MachineAbout {
            location: Some(Location { latitude, longitude: 0.0 }),
            ipv4: vec![std::net::Ipv4Addr::LOCALHOST; addresses],
            version: version.to_owned(),
            protocols: Protocols::HERE,
            ..fixture::about("fra1")
        }
    }

    prop_compose! {
        fn any_site()(
            name in prop_oneof![Just("docs".to_owned()), "[a-z]{1,8}"],
            staged in proptest::collection::vec(0u64..50, 0..40),
            active in proptest::option::of(0u64..50),
            failed in proptest::collection::vec((0u64..50, "(?s).{0,900}"), 0..20),
            missing_blobs: u64,
        ) -> SiteReport {
            SiteReport {
                site: name.parse().unwrap(),
                staged: staged.into_iter().map(fixture::release).collect(),
                active: active.map(fixture::release),
                failed: failed.into_iter()
                    .map(|(id, reason)| StageFailure { release: fixture::release(id), reason })
                    .collect(),
                missing_blobs,
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_kept_that_cannot_be_true_or_grows_without_a_bound(
            sites in proptest::collection::vec(any_site(), 0..40),
            revision in proptest::option::of(any::<u64>()),
            ratios in proptest::array::uniform4(any::<f64>()),
        ) {
            let world = fixture::world(&["fra1"], Some(3), None);
            let [cpu_steal_ratio, cpu_pressure_ratio, io_pressure_ratio, memory_pressure_ratio] =
                ratios;
            let health = Health {
                cpu_steal_ratio, cpu_pressure_ratio, io_pressure_ratio, memory_pressure_ratio,
                ..Health::default()
            };
            let report = Report {
                revision: revision.map(Revision), sites, health, ..fixture::report("fra1", &[])
            };
            let kept = sensible(&world, report).unwrap();
            prop_assert!(kept.revision.is_none_or(|revision| revision.0 <= world.revision));
            prop_assert!(kept.sites.len() <= world.sites.len());
            for site in &kept.sites {
                prop_assert!(site.staged.len() <= 1 && site.failed.len() <= FAILURES_MAX);
                prop_assert!(site.staged.iter().chain(&site.active).all(|id| *id == fixture::release(3)));
                for StageFailure { reason, .. } in &site.failed {
                    prop_assert!(reason.len() <= REASON_MAX_BYTES);
                    prop_assert!(!reason.chars().any(char::is_control));
                }
                prop_assert!(site.missing_blobs <= MISSING_BLOBS_MAX);
            }
            let Health { cpu_steal_ratio: a, cpu_pressure_ratio: b, .. } = kept.health;
            prop_assert!((0.0..=1.0).contains(&a) && (0.0..=1.0).contains(&b));
        }
    }

    #[test]
    fn what_no_machine_says_of_itself_is_refused() {
        let world = fixture::world(&["fra1"], Some(3), None);
        for about in [
            about(91.0, 1, "1"),
            about(f64::NAN, 1, "1"),
            about(1.0, ADDRESSES_MAX + 1, "1"),
            about(1.0, 1, &"9".repeat(65)),
            about(1.0, 1, "1\n2"),
        ] {
            let report = Report { about, ..fixture::report("fra1", &[]) };
            assert!(sensible(&world, report.clone()).is_err(), "{report:?}");
        }
        let trusts = vec![nigh_proto::Digest::of(b"ca"); AUTHORITIES_MAX + 1];
        let credentials = Credentials { trusts, ..Credentials::default() };
        let report = Report { credentials, ..fixture::report("fra1", &[]) };
        assert!(sensible(&world, report).is_err());
    }

    #[test]
    fn what_a_sane_machine_says_is_kept_as_it_is() {
        let world = fixture::world(&["fra1"], Some(3), None);
        let report = fixture::report("fra1", &[3]);
        assert_eq!(sensible(&world, report.clone()).unwrap(), report);
    }
}
