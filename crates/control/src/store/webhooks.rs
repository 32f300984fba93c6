//! Who is told of events, and how far have they been told?

use nigh_proto::{
    SiteName, Timestamp, WebhookId,
    api::{DeliveryOutcome, DeliveryView, EventKind},
};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};
use crate::seal::Seal;

/// A webhook. Its secret is sealed in the database only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WebhookRow {
    pub id: WebhookId,
    pub url: String,
    pub secret: String,
    pub events: Vec<EventKind>,
    pub sites: Vec<SiteName>,
    pub created_at: Timestamp,
    pub is_enabled: bool,
    pub disabled_reason: Option<String>,
    pub position: u64,
    /// Failures of the event behind the position, and since when.
    pub attempts: u32,
    pub event_failing_since: Option<Timestamp>,
    pub next_at: Timestamp,
    pub failing_since: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub deliveries: u64,
}

impl std::fmt::Debug for WebhookRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("WebhookRow");
        shown.field("id", &self.id).field("position", &self.position).finish_non_exhaustive()
    }
}

/// What the seal of a webhook's secret is for.
fn purpose(id: &WebhookId) -> String {
    format!("webhook {id}")
}

fn as_json(list: &impl serde::Serialize) -> String {
    serde_json::to_string(list).expect("names always have a JSON form")
}

impl WebhookRow {
    fn read(row: &Row, seal: &Seal) -> Result<Self, StoreError> {
        let id: WebhookId = row.parse("id")?;
        let secret: String = row.get("secret")?;
        Ok(Self {
            secret: seal.reveal(&purpose(&id), &secret)?,
            id,
            url: row.get("url")?,
            events: row.json("events")?,
            sites: row.json("sites")?,
            created_at: row.time("created_at")?,
            is_enabled: row.get("is_enabled")?,
            disabled_reason: row.get("disabled_reason")?,
            position: row.number("position")?,
            attempts: u32::try_from(row.number("attempts")?).unwrap_or(u32::MAX),
            event_failing_since: row.time_optional("event_failing_since")?,
            next_at: row.time("next_at")?,
            failing_since: row.time_optional("failing_since")?,
            delivered_at: row.time_optional("delivered_at")?,
            deliveries: row.number("deliveries")?,
        })
    }
}

fn read_delivery(row: &Row) -> Result<DeliveryView, StoreError> {
    let outcome: String = row.get("outcome")?;
    let known = DeliveryOutcome::ALL.into_iter().find(|known| known.label() == outcome);
    let narrow = |number: Option<i64>| number.and_then(|number| u16::try_from(number).ok());
    Ok(DeliveryView {
        number: row.number("number")?,
        event: row.number("event")?,
        kind: row.parse("kind")?,
        attempt: u32::try_from(row.number("attempt")?).unwrap_or(u32::MAX),
        at: row.time("at")?,
        duration_ms: row.number("duration_ms")?,
        outcome: known.ok_or(StoreError::Damaged { column: "outcome", text: outcome })?,
        status: narrow(row.get("status")?),
        error: row.get("error")?,
    })
}

impl Store {
    /// At most `limit` webhooks after the id `after`, oldest first.
    pub(crate) async fn webhooks(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<WebhookRow>, StoreError> {
        let rows = query("SELECT * FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| WebhookRow::read(row, &self.seal)).collect()
    }

    pub(crate) async fn webhook(&self, id: &WebhookId) -> Result<Option<WebhookRow>, StoreError> {
        let row = query("SELECT * FROM webhooks WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| WebhookRow::read(&row, &self.seal)).transpose()
    }

    /// Those that may have something to be told at `now`.
    pub(crate) async fn webhooks_due(&self, now: Timestamp) -> Result<Vec<WebhookRow>, StoreError> {
        let rows = query(
            "SELECT * FROM webhooks WHERE is_enabled AND next_at <= $1 \
             AND position < (SELECT last FROM event_log WHERE id = 1) ORDER BY id",
        )
        .bind(now.unix_ms())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| WebhookRow::read(row, &self.seal)).collect()
    }

    /// The newest attempts, newest first, before the one numbered `before`.
    pub(crate) async fn deliveries(
        &self,
        id: &WebhookId,
        before: u64,
        limit: u32,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        let rows = query(
            "SELECT * FROM webhook_deliveries WHERE webhook = $1 AND number < $2 \
             ORDER BY number DESC LIMIT $3",
        )
        .bind(id.as_str())
        .bind(signed(before))
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read_delivery).collect()
    }
}

impl Tx {
    pub(crate) async fn webhooks_total(&mut self) -> Result<u64, StoreError> {
        let total: i64 = query("SELECT count(*) FROM webhooks").scalar(&mut self.on).await?;
        Ok(total.unsigned_abs())
    }

    /// The newest event as this transaction sees it.
    pub(crate) async fn last_event(&mut self) -> Result<u64, StoreError> {
        let last: i64 =
            query("SELECT last FROM event_log WHERE id = 1").scalar(&mut self.on).await?;
        Ok(last.unsigned_abs())
    }

    pub(crate) async fn webhook(
        &mut self,
        id: &WebhookId,
    ) -> Result<Option<WebhookRow>, StoreError> {
        let row = query("SELECT * FROM webhooks WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut self.on)
            .await?;
        row.map(|row| WebhookRow::read(&row, &self.seal)).transpose()
    }

    pub(crate) async fn insert_webhook(&mut self, row: &WebhookRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO webhooks (id, url, secret, events, sites, created_at, is_enabled, \
             position, attempts, next_at, deliveries) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(row.id.as_str())
        .bind(&row.url)
        .bind(self.seal.seal(&purpose(&row.id), &row.secret))
        .bind(as_json(&row.events))
        .bind(as_json(&row.sites))
        .bind(row.created_at.unix_ms())
        .bind(row.is_enabled)
        .bind(signed(row.position))
        .bind(i64::from(row.attempts))
        .bind(row.next_at.unix_ms())
        .bind(signed(row.deliveries))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Writes how far a webhook has come. What it is stays as it was made.
    pub(crate) async fn update_webhook(&mut self, row: &WebhookRow) -> Result<(), StoreError> {
        query(
            "UPDATE webhooks SET is_enabled = $2, disabled_reason = $3, position = $4, \
             attempts = $5, event_failing_since = $6, next_at = $7, failing_since = $8, \
             delivered_at = $9, deliveries = $10 WHERE id = $1",
        )
        .bind(row.id.as_str())
        .bind(row.is_enabled)
        .bind(row.disabled_reason.clone())
        .bind(signed(row.position))
        .bind(i64::from(row.attempts))
        .bind(row.event_failing_since.map(Timestamp::unix_ms))
        .bind(row.next_at.unix_ms())
        .bind(row.failing_since.map(Timestamp::unix_ms))
        .bind(row.delivered_at.map(Timestamp::unix_ms))
        .bind(signed(row.deliveries))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Whether there was such a webhook.
    pub(crate) async fn delete_webhook(&mut self, id: &WebhookId) -> Result<bool, StoreError> {
        let done = query("DELETE FROM webhooks WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(done > 0)
    }

    /// Writes one attempt down, and forgets all but the newest `keep`.
    pub(crate) async fn insert_delivery(
        &mut self,
        id: &WebhookId,
        delivery: &DeliveryView,
        keep: u64,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO webhook_deliveries (webhook, number, event, kind, attempt, at, \
             duration_ms, outcome, status, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(id.as_str())
        .bind(signed(delivery.number))
        .bind(signed(delivery.event))
        .bind(delivery.kind.label())
        .bind(i64::from(delivery.attempt))
        .bind(delivery.at.unix_ms())
        .bind(signed(delivery.duration_ms))
        .bind(delivery.outcome.label())
        .bind(delivery.status.map(i64::from))
        .bind(delivery.error.clone())
        .execute(&mut self.on)
        .await?;
        query("DELETE FROM webhook_deliveries WHERE webhook = $1 AND number <= $2")
            .bind(id.as_str())
            .bind(signed(delivery.number.saturating_sub(keep)))
            .execute(&mut self.on)
            .await?;
        Ok(())
    }
}
