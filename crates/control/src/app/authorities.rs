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
use serde_json::{Value, json};

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
        let data = json!({ "number": number, "stage": AuthorityStage::Next.label() });
        self.record_ca(&mut tx, number, data).await?;
        tx.audit(now, Deed::new("ca.rotate", number)).await?;
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(number, "a new CA was made; machines come to trust it");
        Ok(())
    }

    /// Lets the next CA sign everything, once every machine that is here trusts it, or was waited for
    /// long enough. Its predecessor's key is forgotten. Whether that has happened.
    pub(crate) async fn promote_ca(&self) -> Result<bool, AppError> {
        let mut tx = self.begin_leading().await?;
        let rows = tx.authorities().await?;
        let Some(next) = rows.iter().find(|row| row.stage == AuthorityStage::Next) else {
            return Ok(false);
        };
        let since = self.now();
        let left_behind = self.waited_for(next)?;
        if !left_behind.is_empty() && since < self.goes_on_at(next) {
            return Ok(false);
        }
        for row in &rows {
            let (stage, key_pem) = match row.stage {
                AuthorityStage::Next => (AuthorityStage::Current, row.key_pem.clone()),
                AuthorityStage::Current => (AuthorityStage::Retired, String::new()),
                AuthorityStage::Retired => continue,
            };
            tx.put_authority(&AuthorityRow { stage, since, key_pem, ..row.clone() }).await?;
            let mut data = json!({ "number": row.number, "stage": stage.label() });
            if stage == AuthorityStage::Current && !left_behind.is_empty() {
                data["left_behind"] = json!(left_behind);
            }
            self.record_ca(&mut tx, row.number, data).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(number = next.number, "the new CA signs everything from now on");
        for name in left_behind {
            tracing::warn!(machine.name = %name,
                "{name} still does not trust the new CA; when the old one ends it loses control");
        }
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
                let data = json!({ "number": row.number, "stage": "ended" });
                self.record_ca(&mut tx, row.number, data).await?;
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

    async fn record_ca(&self, tx: &mut Tx, number: i64, data: Value) -> Result<(), AppError> {
        self.record(tx, EventKind::CaRotated, None, &number.to_string(), data).await?;
        Ok(())
    }

    /// Machines of a presence that counts which do not trust `row`.
    fn distrusting(
        &self,
        row: &AuthorityRow,
        counts: impl Fn(Presence) -> bool,
    ) -> Result<Vec<MachineName>, AppError> {
        let fingerprint = ca::fingerprint(&row.certificate_pem)?;
        let (world, statuses, now) = (self.world(), self.statuses(), self.instant());
        let names = world.machines.iter().map(|machine| &machine.name);
        let distrusts = |name: &&MachineName| {
            counts(statuses.presence(name, now))
                && !statuses
                    .get(name)
                    .is_some_and(|status| status.credentials.trusts.contains(&fingerprint))
        };
        Ok(names.filter(distrusts).cloned().collect())
    }

    /// Machines that are here, or may be in a moment, and do not trust the CA `next` yet.
    fn waited_for(&self, next: &AuthorityRow) -> Result<Vec<MachineName>, AppError> {
        self.distrusting(next, |presence| presence != Presence::Away)
    }

    /// When the CA `next` is no longer kept waiting by machines that do not trust it.
    fn goes_on_at(&self, next: &AuthorityRow) -> Timestamp {
        let patience_ms = self.effective().config.machines.ca_patience_ms;
        next.since.plus_ms(i64::try_from(patience_ms).unwrap_or(i64::MAX))
    }

    /// Machines that are here and trust only a CA that was replaced.
    pub(super) fn left_behind(&self) -> Result<Vec<MachineName>, AppError> {
        let authority = self.authority();
        let row_at = |stage| authority.rows().iter().find(|row| row.stage == stage);
        match (row_at(AuthorityStage::Current), row_at(AuthorityStage::Retired)) {
            (Some(current), Some(_)) => {
                self.distrusting(current, |presence| presence == Presence::Here)
            }
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) async fn ca_view(&self) -> Result<CaView, AppError> {
        let signers = self.store().signers().await?;
        let authority = self.authority();
        let (mut waiting_for, mut goes_on_at) = (Vec::new(), None);
        let mut authorities = Vec::new();
        for row in authority.rows() {
            if row.stage == AuthorityStage::Next {
                waiting_for = self.waited_for(row)?;
                goes_on_at = Some(self.goes_on_at(row)).filter(|_| !waiting_for.is_empty());
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
        let left_behind = self.left_behind()?;
        let bundle_pem = authority.bundle_pem();
        Ok(CaView { bundle_pem, authorities, waiting_for, goes_on_at, left_behind })
    }
}
