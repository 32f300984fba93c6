//! Control's CAs, and who trusts which.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Digest, MachineName, Timestamp};

/// `GET /v1/ca`: whom clients and machines trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaView {
    /// Every CA that is trusted, PEM, the newest first: what `NIGH_CA_FILE` should hold.
    pub bundle_pem: String,
    /// The newest first.
    pub authorities: Vec<AuthorityView>,
    /// Machines that are here and do not trust the next CA yet: control waits for them.
    pub waiting_for: Vec<MachineName>,
    /// When the next CA signs everything even so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on_at: Option<Timestamp>,
    /// Machines that are here and trust only a retired CA: when that one ends they lose control, and
    /// have to join again.
    #[serde(default)]
    pub left_behind: Vec<MachineName>,
}

/// One of control's CAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityView {
    pub number: i64,
    pub stage: AuthorityStage,
    /// When it came to that stage.
    pub since: Timestamp,
    /// BLAKE3 of its certificate.
    pub fingerprint: Digest,
    /// When its own certificate ends.
    pub not_after: Timestamp,
    /// Machines whose newest certificate it signed.
    pub machines: Vec<MachineName>,
}

/// How far a CA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityStage {
    /// Machines come to trust it and get their certificates from it.
    Next,
    /// It signs everything.
    Current,
    /// It signs nothing and is trusted until nobody needs it.
    Retired,
}

impl AuthorityStage {
    /// The word in the database and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            AuthorityStage::Next => "next",
            AuthorityStage::Current => "current",
            AuthorityStage::Retired => "retired",
        }
    }
}
