//! Which of control's own books are to be written, and which are old?

use std::time::Duration;

use super::Reconcile;
use crate::app::{App, AppError};

const WAIT: Duration = Duration::from_secs(30);

/// Writes down who used their tokens, and lets go of old entries of the audit log
/// and of answers that nobody will ask for again.
#[derive(Debug)]
pub(crate) struct Books(pub(crate) App);

impl Reconcile for Books {
    const NAME: &'static str = "books";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        self.0.write_down_access().await?;
        self.0.prune_audit().await?;
        self.0.store().expire_keys(self.0.now()).await?;
        Ok(WAIT)
    }
}
