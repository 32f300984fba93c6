//! Is it time for a new key for TLS session tickets?

use std::time::Duration;

use super::{Leader, Reconcile};
use crate::{
    app::{App, AppError},
    certificates::tickets::{make, until_due},
};

/// Keys that have ended are removed at least this often.
const WAIT: Duration = Duration::from_secs(10 * 60);

/// Makes keys, and forgets those that have ended.
#[derive(Debug)]
pub(crate) struct Tickets(pub(crate) App);

impl Reconcile for Tickets {
    const NAME: &'static str = "tickets";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.0.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let app = &self.0;
        let period = app.effective().config.certificates.ticket_period_ms;
        let period_ms = i64::try_from(period).unwrap_or(i64::MAX);
        let now = app.now();
        let keys = app.store().ticket_keys().await?;
        let newest = keys.first().map(|row| row.created_at);
        let is_due = until_due(newest, period_ms, now) == 0;
        if is_due || keys.iter().any(|row| row.key.not_after <= now) {
            let mut tx = app.store().begin().await?;
            tx.expire_ticket_keys(now).await?;
            if is_due {
                tx.insert_ticket_key(&make(period_ms, now)).await?;
            }
            tx.raise_revision().await?;
            tx.commit().await?;
            app.publish().await?;
        }
        let newest = if is_due { Some(now) } else { newest };
        let wait = until_due(newest, period_ms, now).unsigned_abs();
        Ok(Duration::from_millis(wait).clamp(Duration::from_secs(1), WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::Fixture;

    #[tokio::test]
    async fn edges_hold_the_last_three_keys_and_the_database_none_in_the_clear() {
        let fixture = Fixture::new().await;
        let mut tickets = Tickets(fixture.app.clone());
        let mut seen = Vec::new();
        for _ in 0..5 {
            tickets.pass().await.unwrap();
            tickets.pass().await.unwrap();
            seen.insert(0, fixture.app.world().ticket_keys[0].name.clone());
            fixture.hand.advance(Duration::from_secs(12 * 60 * 60));
        }
        tickets.pass().await.unwrap();
        let world = fixture.app.world();
        let names: Vec<_> = world.ticket_keys.iter().map(|key| key.name.clone()).collect();
        assert_eq!(names[1..], seen[..2], "the newest first, and what has ended is gone");
        let files = ["control.db", "control.db-wal"].map(|file| fixture.dir.path().join(file));
        let bytes: Vec<u8> =
            files.iter().filter_map(|file| std::fs::read(file).ok()).flatten().collect();
        let secret = world.ticket_keys[0].key.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}
