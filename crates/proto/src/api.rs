//! What people and control say to each other: the bodies of `/v1`.
//!
//! Every number of bytes ends in `_bytes`, every duration in `_ms`, every time is RFC 3339 in UTC.
//! Readers ignore fields they do not know.

mod authorities;
mod blobs;
mod certificates;
mod change;
mod events;
mod machines;
mod operations;
mod problem;
mod releases;
mod sites;
mod status;
mod takeover;
mod tokens;
mod webhooks;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use crate::access::{Scope, Verb};
pub use authorities::{AuthorityStage, AuthorityView, CaView};
pub use blobs::{
    BLOB_MAX_BYTES, PACK_MEDIA_TYPE, PackStored, UPLOAD_LENGTH, UPLOAD_OFFSET,
    UPLOAD_PART_MAX_BYTES,
};
pub use certificates::{
    CertificateSource, CertificateState, CertificateView, NewCertificate, NewRevocation,
    RevocationReason,
};
pub use change::Change;
pub use events::{EVENT_STREAM, EventKind, EventView, UnknownKind};
pub use machines::{JoinTokenCreated, MachineView, NewJoinToken};
pub use operations::{OperationState, OperationView};
pub use problem::{FieldProblem, Problem};
pub use releases::{
    EdgeProgress, EdgeReleaseState, Finalize, NewPreview, NewRelease, PreviewView, Prune, Pruned,
    ReleaseBegun, ReleaseState, ReleaseView, Rollback, SourceView,
};
pub use sites::{HostView, NewHost, NewSite, QuotasChange, SiteChange, SiteQuotas, SiteView};
pub use status::{BucketView, StatusView};
pub use takeover::{HeldMachine, NewTakeover, TakenOver, TakeoverPlan, TakeoverView};
pub use tokens::{NewToken, TokenChange, TokenCreated, TokenView};
pub use webhooks::{DeliveryOutcome, DeliveryView, NewWebhook, WebhookCreated, WebhookView};

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
