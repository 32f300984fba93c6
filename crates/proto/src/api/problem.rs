//! Why was a request not carried out?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `application/problem+json` (RFC 9457): why a request was not carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What could not be done, why, and what to try.
    pub detail: String,
    /// Stable, for programs: `site_taken`, `release_incomplete`, …
    pub code: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What is wrong with one field of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// JSON Pointer (RFC 6901) to the field.
    pub pointer: String,
    pub detail: String,
}
