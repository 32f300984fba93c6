//! Which new certificates have edges proven, and which edge is to prove the others?

use std::time::Duration;

use nigh_proto::{SiteName, api::EventKind};
use serde_json::json;

use super::{Leader, Reconcile};
use crate::{
    app::{App, AppError},
    certificates::{
        inspect,
        proof::{Next, Prover, next},
    },
    fleet::presence::Presence,
    store::{CandidateRow, CertificateRow},
};

const WAIT: Duration = Duration::from_secs(10 * 60);
/// While there is one to be proven: an edge may fall silent.
const WAIT_SOME: Duration = Duration::from_secs(1);

/// Gives new certificates to one edge, and to the fleet when it has proven them.
#[derive(Debug)]
pub(crate) struct Proving(pub(crate) App);

impl Proving {
    fn next(&self, row: &CandidateRow) -> Next {
        let app = &self.0;
        let leaf = match inspect::leaf(&row.chain_pem) {
            Ok(leaf) => leaf,
            Err(error) => return Next::Refuse(error.to_string()),
        };
        let world = app.world();
        let statuses = app.statuses();
        let now = app.instant();
        let provers: Vec<Prover<'_>> = world
            .edges()
            .filter(|edge| !edge.is_drained && statuses.presence(&edge.name, now) == Presence::Here)
            .filter_map(|edge| {
                let reports = &statuses.get(&edge.name)?.certificates;
                Some(Prover { name: &edge.name, reports })
            })
            .collect();
        next(row, leaf.fingerprint, &provers, app.now())
    }

    /// Whether something changed for machines.
    async fn step(&self, row: CandidateRow) -> Result<bool, AppError> {
        let app = &self.0;
        let next = self.next(&row);
        if next == Next::Wait {
            return Ok(false);
        }
        let id = row.id.clone();
        let mut tx = app.store().begin().await?;
        // Another control may have come first, or an operator.
        if !tx.is_candidate(&id, row.created_at).await? {
            return Ok(false);
        }
        match next {
            Next::Wait => {}
            Next::Ask(edge) => {
                tracing::debug!(certificate.id = id, machine.name = %edge, "{edge} is to prove {id}");
                tx.put_candidate(&CandidateRow { asked: Some((edge, app.now())), ..row }).await?;
            }
            Next::Promote => {
                let kind = match tx.certificate(&id).await? {
                    Some(_) => EventKind::CertificateRenewed,
                    None => EventKind::CertificateIssued,
                };
                let data = json!({ "names": row.names, "not_after": row.not_after });
                tx.record(app.now(), kind, site_of(&id).as_ref(), &id, data).await?;
                tx.put_certificate(&promoted(row, app.now())).await?;
                tx.delete_candidate(&id).await?;
                tracing::info!(certificate.id = id, "{id} is proven, and goes to all edges");
            }
            Next::Refuse(why) => {
                tracing::error!(
                    certificate.id = id,
                    error = why,
                    "the new certificate {id} is kept out: {why}"
                );
                let data = json!({ "names": row.names, "reason": why });
                let kind = EventKind::CertificateFailed;
                tx.record(app.now(), kind, site_of(&id).as_ref(), &id, data).await?;
                tx.put_candidate(&CandidateRow { refused: Some(why), ..row }).await?;
            }
            Next::Forget => drop(tx.delete_candidate(&id).await?),
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// The site that a certificate is for, if it is for one alone.
pub(super) fn site_of(id: &str) -> Option<SiteName> {
    let rest = id.strip_prefix("site:").or_else(|| id.strip_prefix("import:"))?;
    rest.split(':').next()?.parse().ok()
}

fn promoted(row: CandidateRow, now: nigh_proto::Timestamp) -> CertificateRow {
    CertificateRow {
        id: row.id,
        names: row.names,
        chain_pem: row.chain_pem,
        key_pem: row.key_pem,
        not_before: row.not_before,
        not_after: row.not_after,
        source: row.source,
        ca: row.ca,
        renew_at: None,
        ask_at: Some(now),
    }
}

impl Reconcile for Proving {
    const NAME: &'static str = "proving";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.0.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let candidates = self.0.store().candidates().await?;
        let wait =
            if candidates.iter().any(|row| row.refused.is_none()) { WAIT_SOME } else { WAIT };
        let mut has_changed = false;
        for row in candidates {
            has_changed |= self.step(row).await?;
        }
        if has_changed {
            self.0.publish().await?;
        }
        Ok(wait)
    }
}
