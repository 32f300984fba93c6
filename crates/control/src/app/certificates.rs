//! Certificates: which there are, and bringing, renewing, revoking and removing them.

use std::collections::{BTreeMap, BTreeSet};

use instant_acme::RevocationRequest;
use nigh_proto::{
    Host, SiteName, Timestamp,
    api::{CertificateSource, CertificateState, CertificateView, NewCertificate, RevocationReason},
    report::CertificateStanding,
    zone::DnsName,
};

use super::{App, AppError, sites::certificate_id};
use crate::{
    certificates::{
        account::{self, with_nonces},
        covers,
        inspect::{self, Leaf},
        limits::Hold,
        plan::Held,
        trouble::Fault,
    },
    config::CertificateMode,
    store::{CandidateRow, CertificateRow, HostRow, Source, Tally, Tx},
};

/// The certificate for hosts of previews.
pub(super) const PREVIEWS_CERTIFICATE: &str = "previews";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Own certificates are not renewed by anybody, so their end is told early.
const IMPORT_WARNING_MS: i64 = 21 * DAY_MS;

/// What the pass that asks CAs is about. Not durable: it is found out again.
#[derive(Debug, Default)]
pub(crate) struct AcmeBoard {
    /// Being asked for now, by id.
    pub running: BTreeMap<String, Vec<DnsName>>,
    /// Wanted and not to be asked for yet.
    pub waiting: BTreeMap<String, (Vec<DnsName>, Hold)>,
    /// Names that nothing in hand covers.
    pub bare: BTreeSet<DnsName>,
}

fn import_id(site: &SiteName) -> String {
    format!("import:{site}")
}

impl App {
    pub(super) fn previews_certificate(&self) -> Result<CertificateRow, AppError> {
        let wildcard = format!("*.{}", self.effective().config.sites.preview_domain());
        self.issue(PREVIEWS_CERTIFICATE, &[wildcard])
    }

    /// A new certificate of control's own CA for `names`.
    pub(crate) fn issue(&self, id: &str, names: &[String]) -> Result<CertificateRow, AppError> {
        let issued = self.authority().issue(names, self.now())?;
        let names = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(CertificateRow {
            id: id.to_owned(),
            names,
            chain_pem: issued.chain_pem,
            key_pem: issued.key_pem,
            not_before: issued.not_before,
            not_after: issued.not_after,
            source: Source::Internal,
            ca: None,
            renew_at: None,
            ask_at: None,
        })
    }

    /// Every certificate, by id: those in hand, those that come, those that cannot be had.
    pub(crate) async fn certificate_views(&self) -> Result<Vec<CertificateView>, AppError> {
        let held = self.store().certificates().await?;
        let mut views: Vec<CertificateView> = held.iter().map(|row| self.held_view(row)).collect();
        for row in self.store().candidates().await? {
            views.push(candidate_view(&row));
        }
        let board = self.acme_board();
        for (id, names) in &board.running {
            views.push(wanted_view(id, names, CertificateState::Ordering, None));
        }
        let is_held = |id: &str| held.iter().any(|row| row.id == id);
        for (id, (names, hold)) in board.waiting.iter().filter(|(id, _)| !is_held(id)) {
            views.push(wanted_view(id, names, CertificateState::Waiting, Some(hold)));
        }
        views.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(views)
    }

    fn held_view(&self, row: &CertificateRow) -> CertificateView {
        let leaf = inspect::leaf(&row.chain_pem).ok();
        let board = self.acme_board();
        let hold = board.waiting.get(&row.id).map(|(_, hold)| hold);
        CertificateView {
            id: row.id.clone(),
            names: row.names.clone(),
            source: source_view(row.source),
            state: CertificateState::Served,
            ca: row.ca.clone(),
            issuer: leaf.as_ref().map(|leaf| leaf.issuer.clone()),
            serial: leaf.as_ref().map(|leaf| leaf.serial.clone()),
            fingerprint: leaf.as_ref().map(|leaf| leaf.fingerprint),
            not_before: Some(row.not_before),
            not_after: Some(row.not_after),
            renew_at: (row.source != Source::Import).then(|| Held::from(row).due_at()),
            edges: leaf.map(|leaf| self.edges_with(&row.id, &leaf)).unwrap_or_default(),
            detail: hold.map(|hold| hold.why.clone()),
            retry_at: hold.map(|hold| hold.until),
        }
    }

    /// Edges that said that they serve with it.
    fn edges_with(&self, id: &str, leaf: &Leaf) -> Vec<nigh_proto::MachineName> {
        let world = self.world();
        let statuses = self.statuses();
        let says_so = |edge: &&crate::store::MachineRow| {
            statuses.get(&edge.name).is_some_and(|status| {
                status.certificates.iter().any(|report| {
                    report.id == id
                        && report.fingerprint == leaf.fingerprint
                        && report.state == CertificateStanding::Served
                })
            })
        };
        world.edges().filter(says_so).map(|edge| edge.name.clone()).collect()
    }

    /// The certificate `id`; the one that is served before one that comes.
    pub(crate) async fn certificate_view(&self, id: &str) -> Result<CertificateView, AppError> {
        let views = self.certificate_views().await?.into_iter().filter(|view| view.id == id);
        views
            .min_by_key(|view| view.state != CertificateState::Served)
            .ok_or_else(|| AppError::CertificateUnknown(id.to_owned()))
    }

    /// Takes a certificate that an operator has; an edge proves it before the fleet gets it.
    pub(crate) async fn import_certificate(
        &self,
        site: &SiteName,
        new: &NewCertificate,
    ) -> Result<CertificateView, AppError> {
        let now = self.now();
        let leaf = inspect::inspect(&new.chain_pem, &new.key_pem)?;
        leaf.serves(&[], now)?;
        let mut tx = self.store().begin().await?;
        if tx.site(site).await?.is_none() {
            return Err(AppError::SiteUnknown(site.clone()));
        }
        let names = fitting(&leaf, &tx.hosts(site).await?);
        if names.is_empty() {
            return Err(AppError::CertificateForeign { site: site.clone(), names: shown(&leaf) });
        }
        let row = CandidateRow {
            id: import_id(site),
            names,
            chain_pem: new.chain_pem.clone(),
            key_pem: new.key_pem.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            source: Source::Import,
            ca: None,
            asked: None,
            refused: None,
            created_at: now,
        };
        tx.put_candidate(&row).await?;
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        let until = row.not_after;
        tracing::info!(site.name = %site, not_after = %until, "a certificate was brought for {site}");
        Ok(candidate_view(&row))
    }

    /// Removes the certificate that an operator brought for a site.
    pub(crate) async fn remove_import(&self, site: &SiteName) -> Result<(), AppError> {
        let id = import_id(site);
        let mut tx = self.store().begin().await?;
        if tx.site(site).await?.is_none() {
            return Err(AppError::SiteUnknown(site.clone()));
        }
        let is_candidate = tx.delete_candidate(&id).await?;
        if !tx.delete_certificate(&id).await? && !is_candidate {
            return Err(AppError::CertificateUnknown(id));
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(site.name = %site, "the certificate that was brought for {site} is removed");
        Ok(())
    }

    /// Has a certificate renewed now, whatever went wrong before.
    pub(crate) async fn renew_certificate(&self, id: &str) -> Result<CertificateView, AppError> {
        let view = self.certificate_view(id).await?;
        if view.source != CertificateSource::Acme {
            let rule = "only one from a public CA can be renewed; the own CA renews by itself, and an own certificate is brought again with `nigh cert import`";
            return Err(AppError::CertificateKind { id: id.to_owned(), rule });
        }
        let now = self.now();
        let mut tx = self.store().begin().await?;
        tx.delete_candidate(id).await?;
        tx.set_renewal(id, Some(now), None).await?;
        tx.delete_setbacks(None, id).await?;
        for name in &view.names {
            tx.delete_setbacks(None, name.as_str()).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(certificate.id = id, "{id} is to be renewed now");
        self.certificate_view(id).await
    }

    /// Has the CA revoke a certificate. It is served until the next one is there, which is asked for.
    pub(crate) async fn revoke_certificate(
        &self,
        id: &str,
        reason: RevocationReason,
    ) -> Result<CertificateView, AppError> {
        let held = self.store().certificates().await?;
        let row = held.into_iter().find(|row| row.id == id);
        let row = row.ok_or_else(|| AppError::CertificateUnknown(id.to_owned()))?;
        let effective = self.effective();
        let cas = &effective.config.certificates.acme;
        let ca = cas.iter().find(|ca| row.ca.as_deref() == Some(ca.directory.as_str()));
        let Some(ca) = ca.filter(|_| row.source == Source::Acme) else {
            let rule = "only a CA that is configured can revoke what it made";
            return Err(AppError::CertificateKind { id: id.to_owned(), rule });
        };
        let failed =
            |fault: Fault| AppError::CaFailed { id: id.to_owned(), why: fault.to_string() };
        let issuer = self.issuers().of(ca).map_err(failed)?;
        let account = account::account(self, &issuer).await.map_err(failed)?;
        let certificate = inspect::leaf_der(&row.chain_pem)?;
        let revoke =
            || RevocationRequest { certificate: &certificate, reason: Some(reason_of(reason)) };
        let revoked = with_nonces!(account.revoke(&revoke()).await);
        if let Err(error) = revoked {
            // Done before is done.
            let is_done = matches!(&error, instant_acme::Error::Api(problem)
                if problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":alreadyRevoked")));
            if !is_done {
                return Err(failed(Fault::of_ca(&error, &issuer, &[])));
            }
        }
        tracing::warn!(
            certificate.id = id,
            ?reason,
            "the CA has revoked {id}; the next one is asked for"
        );
        self.renew_certificate(id).await
    }

    /// Brings what an operator brought in line with the hosts that the site has in this transaction.
    pub(super) async fn fit_import(
        &self,
        tx: &mut Tx,
        site: &SiteName,
        hosts: &[HostRow],
    ) -> Result<(), AppError> {
        let Some(mut row) = tx.certificate(&import_id(site)).await? else { return Ok(()) };
        if let Ok(leaf) = inspect::leaf(&row.chain_pem) {
            row.names = fitting(&leaf, hosts);
            tx.put_certificate(&row).await?;
        }
        Ok(())
    }

    /// What belongs to a site alone goes with it.
    pub(super) async fn forget_certificates(
        &self,
        tx: &mut Tx,
        site: &SiteName,
    ) -> Result<(), AppError> {
        for id in [certificate_id(site), import_id(site)] {
            tx.delete_certificate(&id).await?;
            tx.delete_candidate(&id).await?;
        }
        Ok(())
    }

    /// What an operator should know about certificates.
    pub(super) async fn certificate_warnings(&self, tally: Tally) -> Result<Vec<String>, AppError> {
        let now = self.now();
        let mut warnings = Vec::new();
        let candidates = match tally.has_refused_candidates {
            true => self.store().candidates().await?,
            false => Vec::new(),
        };
        for row in candidates {
            if let Some(reason) = row.refused {
                warnings.push(format!("the new certificate {} is kept out: {reason}", row.id));
            }
        }
        let board = self.acme_board();
        for row in &self.world().certificates {
            let hold = board.waiting.get(&row.id).map(|(_, hold)| hold.why.as_str());
            warnings.extend(end_warning(row, hold, now));
        }
        let is_bare = |names: &Vec<DnsName>| names.iter().any(|name| board.bare.contains(name));
        for (id, (names, hold)) in board.waiting.iter().filter(|(_, (names, _))| is_bare(names)) {
            warnings.push(format!(
                "there is no certificate {id} for {}: {}; next try at {}",
                some_of(names),
                hold.why,
                hold.until
            ));
        }
        Ok(warnings)
    }

    /// Shows how long certificates still last.
    pub(crate) fn show_certificate_ends(&self) {
        let world = self.world();
        let ends = world.certificates.iter().map(|row| (row.id.as_str(), row.not_after));
        self.metrics().certificates(ends);
    }

    pub(crate) fn is_acme(&self) -> bool {
        self.effective().config.certificates.mode == CertificateMode::Acme
    }
}

/// What the plan needs to know of a row.
impl From<&CertificateRow> for Held {
    fn from(row: &CertificateRow) -> Self {
        Held {
            id: row.id.clone(),
            names: row.names.clone(),
            source: row.source,
            not_before: row.not_before,
            not_after: row.not_after,
            renew_at: row.renew_at,
        }
    }
}

/// Tells of an end that comes although it should not.
fn end_warning(row: &CertificateRow, hold: Option<&str>, now: Timestamp) -> Option<String> {
    let left_ms = row.not_after.ms_since(now);
    let (id, days) = (&row.id, left_ms / DAY_MS);
    let why = hold.map(|why| format!(": {why}")).unwrap_or_default();
    if left_ms <= 0 {
        let advice = match row.source {
            Source::Import => "; bring the next one with `nigh cert import`",
            _ => "",
        };
        return Some(format!("the certificate {id} ended at {}{why}{advice}", row.not_after));
    }
    match row.source {
        Source::Import if left_ms < IMPORT_WARNING_MS => Some(format!(
            "the own certificate {id} ends in {days} days; bring the next one with `nigh cert import`"
        )),
        Source::Acme if Held::from(row).is_due(now) && hold.is_some() => {
            Some(format!("the certificate {id} ends in {days} days and was not renewed{why}"))
        }
        _ => None,
    }
}

/// The hosts that a certificate is for.
fn fitting(leaf: &Leaf, hosts: &[HostRow]) -> Vec<DnsName> {
    let names = hosts.iter().map(|row: &HostRow| DnsName::from(Host::clone(&row.host)));
    names.filter(|host| leaf.names.iter().any(|name| covers(name, host))).collect()
}

fn shown(leaf: &Leaf) -> String {
    some_of(&leaf.names)
}

fn some_of(names: &[DnsName]) -> String {
    let mut text = names.iter().take(5).map(DnsName::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(&format!(" and {} more", names.len() - 5));
    }
    text
}

fn source_view(source: Source) -> CertificateSource {
    match source {
        Source::Internal => CertificateSource::Internal,
        Source::Acme => CertificateSource::Acme,
        Source::Import => CertificateSource::Import,
    }
}

fn reason_of(reason: RevocationReason) -> instant_acme::RevocationReason {
    match reason {
        RevocationReason::Unspecified => instant_acme::RevocationReason::Unspecified,
        RevocationReason::KeyCompromise => instant_acme::RevocationReason::KeyCompromise,
        RevocationReason::Superseded => instant_acme::RevocationReason::Superseded,
        RevocationReason::CessationOfOperation => {
            instant_acme::RevocationReason::CessationOfOperation
        }
    }
}

fn wanted_view(
    id: &str,
    names: &[DnsName],
    state: CertificateState,
    hold: Option<&Hold>,
) -> CertificateView {
    CertificateView {
        id: id.to_owned(),
        names: names.to_vec(),
        source: CertificateSource::Acme,
        state,
        ca: None,
        issuer: None,
        serial: None,
        fingerprint: None,
        not_before: None,
        not_after: None,
        renew_at: None,
        edges: Vec::new(),
        detail: hold.map(|hold| hold.why.clone()),
        retry_at: hold.map(|hold| hold.until),
    }
}

fn candidate_view(row: &CandidateRow) -> CertificateView {
    let leaf = inspect::leaf(&row.chain_pem).ok();
    let state = match row.refused {
        Some(_) => CertificateState::Refused,
        None => CertificateState::Proving,
    };
    CertificateView {
        source: source_view(row.source),
        ca: row.ca.clone(),
        issuer: leaf.as_ref().map(|leaf| leaf.issuer.clone()),
        serial: leaf.as_ref().map(|leaf| leaf.serial.clone()),
        fingerprint: leaf.as_ref().map(|leaf| leaf.fingerprint),
        not_before: Some(row.not_before),
        not_after: Some(row.not_after),
        detail: row.refused.clone(),
        ..wanted_view(&row.id, &row.names, state, None)
    }
}
