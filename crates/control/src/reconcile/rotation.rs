//! How far is the rotation of control's CA?

use std::time::Duration;

use nigh_proto::api::AuthorityStage;

use super::Reconcile;
use crate::{
    app::{App, AppError},
    controls::Leader,
};

/// While a new CA is on its way.
const WAIT_ROTATING: Duration = Duration::from_secs(1);
/// While a retired one is trusted still.
const WAIT_RETIRED: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(10 * 60);

/// Lets a new CA sign when every machine trusts it, and ends the trust in those before when no
/// certificate needs them.
#[derive(Debug)]
pub(crate) struct Rotation(pub(crate) App);

impl Reconcile for Rotation {
    const NAME: &'static str = "rotation";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.0.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let is_at = |stage| self.0.authority().rows().iter().any(|row| row.stage == stage);
        if is_at(AuthorityStage::Next) && !self.0.promote_ca().await? {
            return Ok(WAIT_ROTATING);
        }
        if !is_at(AuthorityStage::Retired) {
            return Ok(WAIT);
        }
        self.0.retire_ca(false).await?;
        let overlap = Duration::from_millis(self.0.effective().config.machines.ca_overlap_ms);
        Ok(WAIT_RETIRED.min(overlap.max(WAIT_ROTATING)))
    }
}
