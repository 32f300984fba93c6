//! Tokens of people and pipelines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Change;
use crate::{
    SiteName, Timestamp, TokenId,
    access::{Scope, Verb, Verbs},
};

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: String,
    /// What it may do, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "has_no_verbs")]
    #[schema(value_type = Vec<Verb>)]
    pub verbs: Verbs,
    /// The sites it is for; empty: all of them.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub sites: Vec<SiteName>,
    /// Never expires otherwise.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Option<u64>,
}

/// `PATCH /v1/tokens/{id}`: a JSON merge patch (RFC 7396). What is absent stays. What a token may
/// do, and where, can only become less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenChange {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    #[schema(value_type = String, min_length = 1, max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: Option<String>,
    /// `null`: nothing but `verbs`.
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<Scope>)]
    pub scope: Change<Scope>,
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    #[schema(value_type = Vec<Verb>)]
    pub verbs: Option<Verbs>,
    /// The sites it is for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    #[schema(value_type = Vec<SiteName>, max_items = 100)]
    pub sites: Option<Vec<SiteName>>,
    /// From now on; `null`: it never expires.
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Change<u64>,
}

/// A field that may be left out and may not be `null`.
fn some<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn has_no_verbs(verbs: &Verbs) -> bool {
    verbs.is_empty()
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub id: TokenId,
    pub name: String,
    /// The shorthand that it was made with.
    pub scope: Option<Scope>,
    /// Everything that it may do.
    #[schema(value_type = Vec<Verb>)]
    pub verbs: Verbs,
    pub sites: Vec<SiteName>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// A new token; the secret is shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    pub token: TokenView,
    /// `nigh_pat_…` or `nigh_ci_…`.
    pub secret: String,
}
