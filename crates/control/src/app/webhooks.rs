//! Making webhooks, telling them of events, and what becomes of those that do not listen.

use std::time::Instant;

use nigh_proto::{
    SiteName, Timestamp, WebhookId,
    api::{
        DeliveryOutcome, DeliveryView, EventKind, EventView, NewWebhook, WebhookCreated,
        WebhookView,
    },
};
use serde_json::json;

use super::{App, AppError, EventFilter, Expected};
use crate::{
    random::random,
    store::WebhookRow,
    webhooks::{
        self, After, BadTarget, DELIVERY_TIMEOUT, Delivery, Failing, SendError, Target,
        after_failure, sign,
    },
};

const WEBHOOKS_MAX: u64 = 100;
/// Attempts of one webhook that are remembered.
const DELIVERIES_KEPT: u64 = 100;
/// Events that one webhook is told before the next look at all of them.
const ROUND_MAX: usize = 20;
/// What is kept of an error.
const ERROR_MAX_CHARS: usize = 300;

/// What came of one request to a webhook.
struct Attempt {
    at: Timestamp,
    duration_ms: u64,
    result: Result<u16, SendError>,
}

impl Attempt {
    fn is_delivered(&self) -> bool {
        self.result.as_ref().is_ok_and(|status| (200..300).contains(status))
    }

    fn view(
        &self,
        event: &EventView,
        number: u64,
        attempt: u32,
        outcome: DeliveryOutcome,
    ) -> DeliveryView {
        let error = match &self.result {
            Ok(status) if (200..300).contains(status) => None,
            Ok(status) => Some(format!("the receiver answered {status}")),
            Err(error) => Some(error.to_string().chars().take(ERROR_MAX_CHARS).collect()),
        };
        DeliveryView {
            number,
            event: event.id,
            kind: event.kind,
            attempt,
            at: self.at,
            duration_ms: self.duration_ms,
            outcome,
            status: self.result.as_ref().ok().copied(),
            error,
        }
    }
}

impl WebhookRow {
    /// What `If-Match` is compared with: a webhook is turned off and on, and nothing else of it is
    /// edited.
    pub(crate) const fn edits(&self) -> &'static str {
        if self.is_enabled { "on" } else { "off" }
    }
}

impl App {
    pub(crate) async fn create_webhook(&self, new: NewWebhook) -> Result<WebhookCreated, AppError> {
        let NewWebhook { url, mut events, mut sites } = new;
        Target::parse(&url, self.allows_private())?;
        events.sort_unstable();
        events.dedup();
        sites.sort_unstable();
        sites.dedup();
        let total = sites.len() as u64;
        if total > WEBHOOKS_MAX {
            return Err(AppError::TooMany {
                what: "sites of one webhook",
                field: Some("sites"),
                total,
                max: WEBHOOKS_MAX,
            });
        }
        for site in &sites {
            self.require_site(site).await?;
        }
        let now = self.now();
        let mut tx = self.store().begin().await?;
        let total = tx.webhooks_total().await?;
        if total >= WEBHOOKS_MAX {
            return Err(AppError::TooMany {
                what: "webhooks",
                field: None,
                total,
                max: WEBHOOKS_MAX,
            });
        }
        let row = WebhookRow {
            id: WebhookId::new(self.unix_ms(), random()),
            url,
            secret: webhooks::new_secret(),
            events,
            sites,
            created_at: now,
            is_enabled: true,
            disabled_reason: None,
            position: tx.last_event().await?,
            attempts: 0,
            event_failing_since: None,
            next_at: now,
            failing_since: None,
            delivered_at: None,
            deliveries: 0,
        };
        tx.insert_webhook(&row).await?;
        tx.commit().await?;
        tracing::info!(webhook.id = %row.id, "webhook {} was made", row.id);
        let secret = row.secret.clone();
        Ok(WebhookCreated { webhook: webhook_view(row), secret })
    }

    pub(crate) async fn webhook(&self, id: &WebhookId) -> Result<WebhookRow, AppError> {
        self.store().webhook(id).await?.ok_or(AppError::WebhookUnknown)
    }

    pub(crate) async fn delete_webhook(
        &self,
        id: &WebhookId,
        expected: &Expected,
    ) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        let row = tx.webhook(id).await?.ok_or(AppError::WebhookUnknown)?;
        expected.allow(row.edits())?;
        tx.delete_webhook(id).await?;
        tx.commit().await?;
        tracing::info!(webhook.id = %id, "webhook {id} was removed");
        Ok(())
    }

    /// Turns a webhook on again; it is told of everything since it was last told, as far as that
    /// is kept.
    pub(crate) async fn enable_webhook(
        &self,
        id: &WebhookId,
        expected: &Expected,
    ) -> Result<WebhookView, AppError> {
        let mut tx = self.store().begin().await?;
        let mut row = tx.webhook(id).await?.ok_or(AppError::WebhookUnknown)?;
        expected.allow(row.edits())?;
        row.is_enabled = true;
        row.disabled_reason = None;
        row.attempts = 0;
        row.event_failing_since = None;
        row.failing_since = None;
        row.next_at = self.now();
        tx.update_webhook(&row).await?;
        tx.commit().await?;
        self.ring_webhooks();
        Ok(webhook_view(row))
    }

    /// Sends an event of its own to one webhook, now, and says what came of it.
    pub(crate) async fn test_webhook(&self, id: &WebhookId) -> Result<DeliveryView, AppError> {
        let row = self.webhook(id).await?;
        let now = self.now();
        let mut tx = self.store().begin().await?;
        let kind = EventKind::WebhookTest;
        tx.record(now, kind, None, id.as_str(), json!({})).await?;
        let seq = tx.last_event().await?;
        tx.commit().await?;
        self.ring_events().await?;
        let event = self.event(seq).await?.ok_or(AppError::WebhookUnknown)?;
        let attempt = self.attempt(&row, &event).await;
        let is_delivered = attempt.is_delivered();
        let outcome =
            if is_delivered { DeliveryOutcome::Delivered } else { DeliveryOutcome::Failed };
        let mut tx = self.store().begin().await?;
        let mut row = tx.webhook(id).await?.ok_or(AppError::WebhookUnknown)?;
        row.deliveries += 1;
        let view = attempt.view(&event, row.deliveries, 1, outcome);
        tx.insert_delivery(id, &view, DELIVERIES_KEPT).await?;
        tx.update_webhook(&row).await?;
        tx.commit().await?;
        Ok(view)
    }

    /// Tells one webhook what it has not been told yet, until a delivery fails.
    pub(crate) async fn tell(&self, id: &WebhookId) -> Result<(), AppError> {
        for _ in 0..ROUND_MAX {
            let Some(mut row) = self.store().webhook(id).await? else { return Ok(()) };
            if !row.is_enabled || row.next_at > self.now() || self.stopping().is_cancelled() {
                return Ok(());
            }
            let log = self.store().event_log().await?;
            if row.position < log.pruned {
                tracing::warn!(webhook.id = %id, "webhook {id} missed events that are kept no longer");
                self.move_on(&mut row, log.pruned).await?;
                continue;
            }
            let look = self.events_after(&wanted(&row), row.position, 1).await?;
            let event = look.events.into_iter().next();
            match event.filter(|event| event.kind != EventKind::WebhookTest) {
                Some(event) => self.deliver(&row, &event).await?,
                None if look.seen == row.position => return Ok(()),
                None => self.move_on(&mut row, look.seen).await?,
            }
        }
        // There is more: another round.
        self.ring_webhooks();
        Ok(())
    }

    /// Nothing up to `position` is for this webhook.
    async fn move_on(&self, row: &mut WebhookRow, position: u64) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        let Some(mut current) = tx.webhook(&row.id).await? else { return Ok(()) };
        if current.position == row.position {
            current.position = position;
            current.attempts = 0;
            current.event_failing_since = None;
            tx.update_webhook(&current).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn deliver(&self, before: &WebhookRow, event: &EventView) -> Result<(), AppError> {
        let attempt = self.attempt(before, event).await;
        let now = self.now();
        let mut tx = self.store().begin().await?;
        let Some(mut row) = tx.webhook(&before.id).await? else { return Ok(()) };
        if row.position != before.position {
            return Ok(());
        }
        row.deliveries += 1;
        row.attempts = row.attempts.saturating_add(1);
        let attempts = row.attempts;
        let outcome = settle(&mut row, event.id, &attempt, now);
        let view = attempt.view(event, row.deliveries, attempts, outcome);
        tx.insert_delivery(&row.id, &view, DELIVERIES_KEPT).await?;
        if outcome == DeliveryOutcome::Disabled {
            row.disabled_reason = view.error.clone();
            let data = json!({ "url": row.url, "reason": view.error });
            tx.record(now, EventKind::WebhookDisabled, None, row.id.as_str(), data).await?;
        }
        tx.update_webhook(&row).await?;
        tx.commit().await?;
        self.metrics().delivered(outcome);
        match outcome {
            DeliveryOutcome::Delivered => {}
            DeliveryOutcome::Disabled => {
                self.ring_events().await?;
                tracing::warn!(
                    webhook.id = %row.id, error = view.error,
                    "webhook {} is turned off; `nigh webhook enable` turns it on again", row.id
                );
            }
            _ => tracing::debug!(
                webhook.id = %row.id, error = view.error, attempts, "a delivery failed"
            ),
        }
        Ok(())
    }

    async fn attempt(&self, row: &WebhookRow, event: &EventView) -> Attempt {
        let (at, began) = (self.now(), Instant::now());
        let result = self.send(row, event, at).await;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Attempt { at, duration_ms, result }
    }

    async fn send(
        &self,
        row: &WebhookRow,
        event: &EventView,
        at: Timestamp,
    ) -> Result<u16, SendError> {
        let body = serde_json::to_string(event).expect("events always have a JSON form");
        let id = format!("{}_{}", row.id, event.id);
        let unix_s = at.unix_ms().div_euclid(1000);
        let signature = sign(&row.secret, &id, unix_s, body.as_bytes()).ok_or(BadTarget::Url)?;
        let delivery = Delivery { id, unix_s, signature, body };
        let tls = self.webhook_tls();
        let status =
            webhooks::send(&row.url, self.allows_private(), tls, &delivery, DELIVERY_TIMEOUT)
                .await?;
        Ok(status.as_u16())
    }

    fn allows_private(&self) -> bool {
        self.effective().config.webhooks.allow_private
    }

    /// What an operator should know of webhooks.
    pub(crate) async fn webhook_warnings(&self) -> Result<Vec<String>, AppError> {
        let rows = self.store().webhooks("", u32::MAX).await?;
        let warnings = rows.into_iter().filter_map(|row| match row.failing_since {
            _ if !row.is_enabled => {
                Some(format!("webhook {} is turned off: see `nigh webhook list`", row.id))
            }
            Some(since) if self.now().ms_since(since) > 60 * 60 * 1000 => {
                Some(format!("webhook {} has been failing since {since}", row.id))
            }
            _ => None,
        });
        Ok(warnings.collect())
    }
}

fn wanted(row: &WebhookRow) -> EventFilter {
    let sites: Option<Vec<SiteName>> = (!row.sites.is_empty()).then(|| row.sites.clone());
    EventFilter { sites, kinds: row.events.clone() }
}

/// What one attempt makes of a webhook.
fn settle(row: &mut WebhookRow, event: u64, attempt: &Attempt, now: Timestamp) -> DeliveryOutcome {
    let done = |row: &mut WebhookRow| {
        row.position = event;
        row.attempts = 0;
        row.event_failing_since = None;
    };
    if attempt.is_delivered() {
        done(row);
        row.failing_since = None;
        row.delivered_at = Some(now);
        row.next_at = now;
        return DeliveryOutcome::Delivered;
    }
    let failing = Failing {
        attempts: row.attempts,
        event_since: *row.event_failing_since.get_or_insert(now),
        since: *row.failing_since.get_or_insert(now),
        is_unwanted: attempt.result.as_ref().is_ok_and(|status| *status == 410),
    };
    match after_failure(failing, now, u64::from_le_bytes(random())) {
        After::Retry { at } => {
            row.next_at = at;
            DeliveryOutcome::Retrying
        }
        After::GiveUp { next_at } => {
            done(row);
            row.next_at = next_at;
            DeliveryOutcome::GivenUp
        }
        After::Disable => {
            row.is_enabled = false;
            DeliveryOutcome::Disabled
        }
    }
}

/// A webhook, without its secret.
pub(crate) fn webhook_view(row: WebhookRow) -> WebhookView {
    let is_waiting = row.attempts > 0 && row.is_enabled;
    WebhookView {
        id: row.id,
        url: row.url,
        events: row.events,
        sites: row.sites,
        created_at: row.created_at,
        is_enabled: row.is_enabled,
        disabled_reason: row.disabled_reason,
        position: row.position,
        failing_since: row.failing_since,
        next_attempt_at: is_waiting.then_some(row.next_at),
        delivered_at: row.delivered_at,
    }
}
