//! Servers that control tells what happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventKind;
use crate::{SiteName, Timestamp, WebhookId};

/// `POST /v1/webhooks`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Where events are sent: `https://HOST/PATH`.
    #[schema(
        pattern = "^https://([A-Za-z0-9](-?[A-Za-z0-9]){0,28}\\.){0,3}[A-Za-z](-?[A-Za-z0-9]){0,28}(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?([/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$",
        max_length = 2048,
        example = "https://example.org/hooks/nigh"
    )]
    pub url: String,
    /// The kinds that are sent; empty: all.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub events: Vec<EventKind>,
    /// The sites whose events are sent; empty: all, and those of the fleet.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub sites: Vec<SiteName>,
}

/// A webhook, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookView {
    pub id: WebhookId,
    pub url: String,
    pub events: Vec<EventKind>,
    pub sites: Vec<SiteName>,
    pub created_at: Timestamp,
    pub is_enabled: bool,
    /// Why control turned it off.
    pub disabled_reason: Option<String>,
    /// The last event that was delivered, given up or not wanted; those behind it will be sent.
    pub position: u64,
    /// Since when nothing could be delivered.
    pub failing_since: Option<Timestamp>,
    /// When the next attempt is due, while the last one failed.
    pub next_attempt_at: Option<Timestamp>,
    /// When a delivery last succeeded.
    pub delivered_at: Option<Timestamp>,
}

/// A new webhook; the secret is shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookCreated {
    pub webhook: WebhookView,
    /// `whsec_…`: what deliveries are signed with.
    pub secret: String,
}

/// What became of one attempt to deliver an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The receiver answered with 2xx.
    Delivered,
    /// It will be tried again.
    Retrying,
    /// It failed for so long that it is not tried again.
    GivenUp,
    /// It failed, and the webhook was turned off.
    Disabled,
    /// A test that failed.
    Failed,
}

impl DeliveryOutcome {
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Retrying, Self::GivenUp, Self::Disabled, Self::Failed];

    /// The word in the database, in JSON and in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::GivenUp => "given_up",
            Self::Disabled => "disabled",
            Self::Failed => "failed",
        }
    }
}

/// One attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Of this webhook's deliveries.
    pub number: u64,
    pub event: u64,
    pub kind: EventKind,
    /// 1 for the first attempt.
    pub attempt: u32,
    pub at: Timestamp,
    pub duration_ms: u64,
    pub outcome: DeliveryOutcome,
    /// What the receiver answered with, if it answered.
    pub status: Option<u16>,
    pub error: Option<String>,
}
