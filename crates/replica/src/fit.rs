//! How does a report stay as short as control takes it?
//!
//! A report that is too long would be refused for ever, and control would count the machine as
//! away. So the least useful goes first: reasons, failures, releases that are only kept, and at
//! the very end sites.

use nigh_proto::report::{CertificateStanding, Report, SiteReport};

/// Failures of one site that are told.
const FAILURES_MAX: usize = 8;
/// The longest reason, in bytes.
const REASON_MAX_BYTES: usize = 500;
/// Certificates that are told; candidates come first.
const CERTIFICATES_MAX: usize = 10_000;
/// Releases of one site that are told when space is short, besides the one served.
const STAGED_SHORT: usize = 4;

/// A report as it is sent.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) body: Vec<u8>,
    /// What had to go beyond the usual bounds of reasons and failures.
    pub(crate) left_out: Option<&'static str>,
}

type Step = (&'static str, fn(&mut Report));

const STEPS: [Step; 4] = [
    ("all but the first words of what went wrong", |report| shorten(report, 1, 80)),
    ("why releases are not staged", |report| {
        report.sites.iter_mut().for_each(|site| site.failed.clear());
    }),
    ("releases that are only kept", |report| report.sites.iter_mut().for_each(keep_newest)),
    ("which certificates are served", |report| {
        report.certificates.retain(|report| report.state != CertificateStanding::Served);
    }),
];

/// `report` as JSON of at most `max_bytes`.
pub(crate) fn fit(mut report: Report, max_bytes: usize) -> serde_json::Result<Fitted> {
    shorten(&mut report, FAILURES_MAX, REASON_MAX_BYTES);
    let mut fitted = Fitted { body: serde_json::to_vec(&report)?, left_out: None };
    for (what, step) in STEPS {
        if fitted.body.len() <= max_bytes {
            return Ok(fitted);
        }
        step(&mut report);
        fitted = Fitted { body: serde_json::to_vec(&report)?, left_out: Some(what) };
    }
    if fitted.body.len() > max_bytes {
        drop_sites(&mut report, fitted.body.len() - max_bytes)?;
        fitted = Fitted { body: serde_json::to_vec(&report)?, left_out: Some("the last sites") };
    }
    Ok(fitted)
}

fn shorten(report: &mut Report, failures_max: usize, reason_max_bytes: usize) {
    report.certificates.truncate(CERTIFICATES_MAX);
    for certificate in &mut report.certificates {
        if let CertificateStanding::Refused { reason } = &mut certificate.state {
            cut(reason, reason_max_bytes);
        }
    }
    for site in &mut report.sites {
        site.failed.truncate(failures_max);
        site.failed.iter_mut().for_each(|failure| cut(&mut failure.reason, reason_max_bytes));
    }
}

fn cut(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
}

/// Releases come newest first.
fn keep_newest(site: &mut SiteReport) {
    let SiteReport { staged, active, .. } = site;
    let mut place = 0;
    staged.retain(|release| {
        place += 1;
        place <= STAGED_SHORT || active.as_ref() == Some(release)
    });
}

/// Drops sites from the end until `bytes` are saved.
fn drop_sites(report: &mut Report, bytes: usize) -> serde_json::Result<()> {
    let mut saved = 0;
    while saved < bytes {
        let Some(site) = report.sites.pop() else { return Ok(()) };
        // The comma before it goes too.
        saved += serde_json::to_vec(&site)?.len() + usize::from(!report.sites.is_empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nigh_proto::{
        Digest, Protocols, ReleaseId, Timestamp,
        report::{
            CertificateReport, Credentials, Health, MachineAbout, MachineRole, Ports, Sequel,
            StageFailure,
        },
    };
    use proptest::prelude::*;

    use super::*;

    fn release(number: usize) -> ReleaseId {
        ReleaseId::new(number as u64, [7; 10])
    }

    fn site(staged: usize, failures: usize, reason: &str) -> SiteReport {
        let failure = |number| StageFailure { release: release(number), reason: reason.to_owned() };
        SiteReport {
            site: "docs".parse().unwrap(),
            staged: (0..staged).map(release).collect(),
            active: staged.checked_sub(1).map(release),
            failed: (0..failures).map(failure).collect(),
            missing_blobs: 3,
        }
    }

    fn report(sites: Vec<SiteReport>) -> Report {
        let about = MachineAbout {
            role: MachineRole::Edge,
            name: "fra1".parse().unwrap(),
            region: None,
            location: None,
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            ports: Ports::default(),
            version: "1".to_owned(),
            protocols: Protocols::HERE,
        };
        let (health, sent_at) = (Health::default(), Timestamp::default());
        Report {
            about,
            revision: None,
            sites,
            certificates: Vec::new(),
            health,
            sent_at,
            credentials: Credentials::default(),
            sequel: Sequel::default(),
            holding: None,
        }
    }

    fn read(fitted: &Fitted) -> Report {
        serde_json::from_slice(&fitted.body).unwrap()
    }

    proptest! {
        #[test]
        fn any_report_is_whole_json_within_the_bound_and_keeps_what_is_served(
            sites in proptest::collection::vec((0usize..12, 0usize..20, "\\PC{0,900}"), 0..8),
            max_bytes in 700usize..20_000,
        ) {
            let sites: Vec<_> =
                sites.iter().map(|(staged, failed, reason)| site(*staged, *failed, reason)).collect();
            let fitted = fit(report(sites.clone()), max_bytes).unwrap();
            prop_assert!(fitted.body.len() <= max_bytes);
            let told = read(&fitted);
            for (told, site) in told.sites.iter().zip(&sites) {
                prop_assert_eq!(&told.active, &site.active);
                prop_assert!(site.active.iter().all(|active| told.staged.contains(active)));
            }
            if fitted.left_out != Some("the last sites") {
                prop_assert_eq!(told.sites.len(), sites.len());
            }
        }
    }

    #[test]
    fn a_usual_report_is_sent_as_it_is() {
        let sites = vec![site(3, 1, "control sent 2 blobs less than it was asked for")];
        let fitted = fit(report(sites.clone()), 4 << 20).unwrap();
        assert_eq!(read(&fitted).sites, sites);
        assert_eq!(fitted.left_out, None);
    }

    #[test]
    fn reasons_and_failures_are_bounded_even_with_space_left() {
        let fitted = fit(report(vec![site(0, 20, &"ä".repeat(700))]), 4 << 20).unwrap();
        let failed = &read(&fitted).sites[0].failed;
        assert_eq!(failed.len(), FAILURES_MAX);
        assert_eq!(failed[0].reason, format!("{}…", "ä".repeat(250)));
    }

    #[test]
    fn what_became_of_candidates_stays_when_space_is_short() {
        let certificate = |id: &str, state| CertificateReport {
            id: id.to_owned(),
            fingerprint: Digest::of(b"leaf"),
            state,
        };
        let reason = "x".repeat(900);
        let mut long = report(Vec::new());
        long.certificates = vec![certificate("site:new", CertificateStanding::Refused { reason })];
        long.certificates.extend(vec![certificate("site:old", CertificateStanding::Served); 50]);
        let fitted = fit(long.clone(), 4 << 20).unwrap();
        assert_eq!(read(&fitted).certificates.len(), 51);
        assert_eq!(fitted.left_out, None);
        let fitted = fit(long, 2000).unwrap();
        let reason = format!("{}…", "x".repeat(80));
        let told = certificate("site:new", CertificateStanding::Refused { reason });
        assert_eq!(read(&fitted).certificates, [told]);
        assert_eq!(fitted.left_out, Some("which certificates are served"));
    }

    #[test]
    fn sites_go_last_and_no_more_of_them_than_must() {
        let sites = vec![site(2, 5, "why"); 10];
        let whole = serde_json::to_vec(&report(vec![site(2, 0, ""); 9])).unwrap().len();
        let told = |max_bytes| read(&fit(report(sites.clone()), max_bytes).unwrap()).sites.len();
        assert_eq!(told(whole), 9);
        assert_eq!(told(whole - 1), 8);
    }
}
