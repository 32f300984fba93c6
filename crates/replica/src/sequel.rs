//! What of a report does control know already?

use std::collections::BTreeMap;

use nigh_proto::{
    SiteName,
    report::{CertificateReport, Sequel, SiteReport},
};
use tokio::time::Instant;

use crate::report::Standing;

/// A report that control has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) number: u64,
    pub(crate) standing: Standing,
    /// When everything was told last.
    pub(crate) whole_at: Instant,
}

/// What report `number` says of sites and certificates, and what it leaves out.
pub(crate) fn sequel(
    known: Option<&Known>,
    standing: Standing,
    number: u64,
) -> (Vec<SiteReport>, Vec<CertificateReport>, Sequel) {
    let Standing { sites, certificates, .. } = standing;
    let Some(known) = known else {
        return (sites, certificates, Sequel { number, ..Sequel::default() });
    };
    let before = &known.standing;
    let mut gone: BTreeMap<&SiteName, &SiteReport> =
        before.sites.iter().map(|site| (&site.site, site)).collect();
    let is_new = |site: &SiteReport| gone.remove(&site.site) != Some(site);
    let sites = sites.into_iter().filter(is_new).collect();
    let gone = gone.into_keys().cloned().collect();
    let same_certificates = before.certificates == certificates;
    let certificates = if same_certificates { Vec::new() } else { certificates };
    (sites, certificates, Sequel { number, since: Some(known.number), gone, same_certificates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(sites: &[(&str, u64)]) -> Standing {
        let site = |&(name, missing_blobs): &(&str, u64)| SiteReport {
            site: name.parse().unwrap(),
            staged: Vec::new(),
            active: None,
            failed: Vec::new(),
            missing_blobs,
        };
        Standing { sites: sites.iter().map(site).collect(), ..Standing::default() }
    }

    #[test]
    fn only_what_differs_from_the_report_before_is_told() {
        let known = Known {
            number: 4,
            standing: standing(&[("docs", 1), ("blog", 2), ("old", 3)]),
            whole_at: Instant::now(),
        };
        let now = standing(&[("docs", 1), ("blog", 0), ("new", 3)]);
        let (sites, certificates, told) = sequel(Some(&known), now.clone(), 5);
        assert_eq!(sites, standing(&[("blog", 0), ("new", 3)]).sites);
        assert!(certificates.is_empty() && told.same_certificates);
        let gone = vec!["old".parse().unwrap()];
        assert_eq!((told.number, told.since, told.gone), (5, Some(4), gone));

        let (sites, _, told) = sequel(None, now.clone(), 1);
        assert_eq!(sites, now.sites);
        assert_eq!(told, Sequel { number: 1, ..Sequel::default() });
    }
}
