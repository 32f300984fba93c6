//! Rotating control's CA.
//!
//! A rotation is three steps, each one transaction: the new CA is there and trusted
//! ([`rotate_ca`](App::rotate_ca)), it signs everything, and the one before is trusted no more.
//! The last two are taken by `reconcile::rotation` as soon as the machines are ready for them.

use std::sync::{Arc, PoisonError};

use nigh_proto::{
    MachineName, Timestamp,
    api::{AuthorityStage, AuthorityView, CaView, EventKind},
};
use serde_json::json;

use super::{App, AppError};
use crate::{
    ca::{self, Authorities, Authority, CaError},
    fleet::presence::Presence,
    store::{AuthorityRow, Deed, Store, Tx},
};

/// CAs at once: a new one, the current one, and those that are retired.
const AUTHORITIES_MAX: usize = 4;

/// The CAs of the database; the first start makes one.
pub(crate) async fn load_or_make(store: &Store, now: Timestamp) -> Result<Authorities, AppError> {
    let mut tx = store.begin().await?;
    let mut rows = tx.authorities().await?;
    if rows.is_empty() {
        let row = Authority::generate(1, None, now)?;
        tx.put_authority(&row).await?;
        rows.push(row);
    }
    tx.commit().await?;
    Ok(Authorities::open(rows)?)
}

impl App {
    /// Takes in which CAs there are, when they are others than before.
    pub(super) fn adopt(&self, rows: &[AuthorityRow]) {
        if self.authority().rows() == rows {
            return;
        }
        match Authorities::open(rows.to_vec()) {
            Ok(authorities) => {
                let authorities = Arc::new(authorities);
                *self.0.authorities.write().unwrap_or_else(PoisonError::into_inner) = authorities;
                self.trust_changed().notify_one();
                self.rotating().notify_one();
                self.renewing().notify_one();
            }
            Err(error) => {
                let error = nigh_daemon::logging::causes(&error);
                tracing::error!(error, "control's CAs in the database cannot be used");
            }
        }
    }

    /// Makes a new CA and tells every machine to trust it.
    pub(crate) async fn rotate_ca(&self) -> Result<(), AppError> {
        let now = self.now();
        let mut tx = self.store().begin().await?;
        let rows = tx.authorities().await?;
        let is_on_its_way = rows.iter().any(|row| row.stage == AuthorityStage::Next);
        if is_on_its_way || rows.len() >= AUTHORITIES_MAX {
            return Err(AppError::CaRotating);
        }
        let current = rows.iter().find(|row| row.stage == AuthorityStage::Current);
        let current = Authority::open(current.ok_or(CaError::NoAuthority)?)?;
        let number = rows.iter().map(|row| row.number).max().unwrap_or(0) + 1;
        tx.put_authority(&Authority::generate(number, Some(&current), now)?).await?;
        self.record_ca(&mut tx, number, AuthorityStage::Next.label()).await?;
        tx.audit(now, Deed::new("ca.rotate", number)).await?;
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(number, "a new CA was made; machines come to trust it");
        Ok(())
    }

    /// Lets the next CA sign everything, once every machine that is here trusts it. Its
    /// predecessor's key is forgotten. Whether that has happened.
    pub(crate) async fn promote_ca(&self) -> Result<bool, AppError> {
        let mut tx = self.begin_leading().await?;
        let rows = tx.authorities().await?;
        let Some(next) = rows.iter().find(|row| row.stage == AuthorityStage::Next) else {
            return Ok(false);
        };
        if !self.distrusting(next)?.is_empty() {
            return Ok(false);
        }
        let since = self.now();
        for row in &rows {
            let (stage, key_pem) = match row.stage {
                AuthorityStage::Next => (AuthorityStage::Current, row.key_pem.clone()),
                AuthorityStage::Current => (AuthorityStage::Retired, String::new()),
                AuthorityStage::Retired => continue,
            };
            tx.put_authority(&AuthorityRow { stage, since, key_pem, ..row.clone() }).await?;
            self.record_ca(&mut tx, row.number, stage.label()).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(number = next.number, "the new CA signs everything from now on");
        Ok(true)
    }

    /// Ends the trust in retired CAs: in those that nobody needs any more, or `at_once` in all.
    /// Returns how many.
    pub(crate) async fn retire_ca(&self, at_once: bool) -> Result<usize, AppError> {
        let now = self.now();
        let overlap_ms = self.effective().config.machines.ca_overlap_ms;
        let overlap_ms = i64::try_from(overlap_ms).unwrap_or(i64::MAX);
        let mut tx = self.store().begin().await?;
        let mut ended = 0;
        for row in tx.authorities().await? {
            let is_over = row.since.plus_ms(overlap_ms) <= now;
            let is_retired = row.stage == AuthorityStage::Retired;
            if is_retired
                && (at_once || is_over && !tx.is_authority_needed(row.number, now).await?)
            {
                tx.delete_authority(row.number).await?;
                self.record_ca(&mut tx, row.number, "ended").await?;
                ended += 1;
                tracing::info!(number = row.number, "a retired CA is no longer trusted");
            }
        }
        if ended > 0 {
            tx.raise_revision().await?;
            tx.commit().await?;
            self.publish().await?;
        }
        Ok(ended)
    }

    async fn record_ca(&self, tx: &mut Tx, number: i64, stage: &str) -> Result<(), AppError> {
        let data = json!({ "number": number, "stage": stage });
        self.record(tx, EventKind::CaRotated, None, &number.to_string(), data).await?;
        Ok(())
    }

    /// Machines that are here, or may be in a moment, and do not trust `row` yet.
    fn distrusting(&self, row: &AuthorityRow) -> Result<Vec<MachineName>, AppError> {
        let fingerprint = ca::fingerprint(&row.certificate_pem)?;
        let (world, statuses, now) = (self.world(), self.statuses(), self.instant());
        let names = world.machines.iter().map(|machine| &machine.name);
        let distrusts = |name: &&MachineName| {
            statuses.presence(name, now) != Presence::Away
                && !statuses
                    .get(name)
                    .is_some_and(|status| status.credentials.trusts.contains(&fingerprint))
        };
        Ok(names.filter(distrusts).cloned().collect())
    }

    pub(crate) async fn ca_view(&self) -> Result<CaView, AppError> {
        let signers = self.store().signers().await?;
        let authority = self.authority();
        let mut waiting_for = Vec::new();
        let mut authorities = Vec::new();
        for row in authority.rows() {
            if row.stage == AuthorityStage::Next {
                waiting_for = self.distrusting(row)?;
            }
            let machines = signers.iter().filter(|(_, signer)| *signer == row.number);
            authorities.push(AuthorityView {
                number: row.number,
                stage: row.stage,
                since: row.since,
                fingerprint: ca::fingerprint(&row.certificate_pem)?,
                not_after: ca::read(&row.certificate_pem).ok_or(CaError::Damaged)?.not_after,
                machines: machines.map(|(name, _)| name.clone()).collect(),
            });
        }
        Ok(CaView { bundle_pem: authority.bundle_pem(), authorities, waiting_for })
    }
}
