//! Releases: how they begin, how far they are and what becomes of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Digest, Host, MachineName, PreviewName, ReleaseId, SiteName, Timestamp,
    rules::{Notice, RuleSet},
};

/// `POST /v1/sites/{site}/releases`: begins a release.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRelease {
    /// The text of a manifest ([`crate::manifest`]).
    pub manifest: String,
    pub rules: RuleSet,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub source: Option<SourceView>,
    /// Serve it on a host of its own instead of the site's hosts.
    #[serde(default)]
    pub preview: Option<NewPreview>,
}

/// How a preview is to be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPreview {
    /// A name that a later preview may take over; the release's own digits otherwise.
    #[serde(default)]
    pub name: Option<PreviewName>,
    /// How long it lives; control's default otherwise.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Option<u64>,
}

/// Where a release's files came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    pub commit: Option<String>,
    pub branch: Option<String>,
    /// Whether the checkout had changes that were not committed.
    #[serde(default)]
    pub is_dirty: bool,
}

/// The answer to [`NewRelease`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseBegun {
    pub release: ReleaseView,
    /// Blobs to upload before `finalize`.
    pub missing: Vec<Digest>,
    /// What the rules' lints found.
    pub warnings: Vec<Notice>,
}

/// How far a release has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Blobs may still be missing on control.
    Uploading,
    /// Edges are fetching it.
    Staging,
    /// Ready on every edge that counts, and waiting for `activate`.
    Staged,
    /// Served on the site's hosts.
    Active,
    /// Served on a host of its own.
    Preview,
    /// Was active; rollback finds it.
    Superseded,
    /// Given up: replaced before it was live, its preview expired or its upload abandoned.
    Expired,
    /// Could not go live; `failure` says why.
    Failed,
}

impl ReleaseState {
    /// The word in the database, in JSON and in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            ReleaseState::Uploading => "uploading",
            ReleaseState::Staging => "staging",
            ReleaseState::Staged => "staged",
            ReleaseState::Active => "active",
            ReleaseState::Preview => "preview",
            ReleaseState::Superseded => "superseded",
            ReleaseState::Expired => "expired",
            ReleaseState::Failed => "failed",
        }
    }
}

/// A release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    pub id: ReleaseId,
    pub site: SiteName,
    pub state: ReleaseState,
    pub files_total: u64,
    pub bytes_total: u64,
    pub message: Option<String>,
    pub source: Option<SourceView>,
    /// Who pushed it: the name of the token.
    pub pushed_by: Option<String>,
    pub created_at: Timestamp,
    pub finalized_at: Option<Timestamp>,
    /// When it went live last.
    pub activated_at: Option<Timestamp>,
    /// Where visitors see it, while they can.
    pub url: Option<String>,
    pub preview: Option<PreviewView>,
    pub failure: Option<String>,
    /// Every edge and how far it is with this release.
    pub edges: Vec<EdgeProgress>,
    /// Rises with every change of the fields above; give it as `after` to wait for the next.
    pub progress: u64,
}

/// The preview side of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewView {
    pub host: Host,
    pub expires_at: Option<Timestamp>,
}

/// How far one edge is with one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EdgeProgress {
    pub name: MachineName,
    pub state: EdgeReleaseState,
    /// Milliseconds from finalize (or, for an already staged release, from activate) to this state.
    pub ms: Option<u64>,
    /// Why it cannot, when it cannot.
    pub reason: Option<String>,
}

/// What an edge does with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeReleaseState {
    /// Fetching blobs.
    Staging,
    /// All blobs on disk.
    Staged,
    /// Serving it.
    Active,
    /// Held back by an error that `reason` tells.
    Failed,
    /// Not heard from.
    Away,
}

/// `POST /v1/sites/{site}/releases/{release}/finalize`: all blobs are there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finalize {
    /// Go live as soon as it is staged. Previews go live on their own host either way.
    #[serde(default = "yes")]
    pub activate: bool,
}

const fn yes() -> bool {
    true
}

/// `POST /v1/sites/{site}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The release to go back to; the one active before otherwise.
    #[serde(default)]
    pub release: Option<ReleaseId>,
}

/// `POST /v1/sites/{site}/releases/prune`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// How many of the newest releases stay, besides the active one and live previews.
    pub keep: u32,
}

/// What was pruned.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    pub releases: Vec<ReleaseId>,
}
