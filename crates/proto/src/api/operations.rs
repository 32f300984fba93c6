//! Work that goes on after a call was answered.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Problem, ReleaseState, ReleaseView};
use crate::{OperationId, ReleaseId, SiteName, Timestamp};

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Something is still to be sent: blobs, or `finalize`.
    Pending,
    /// Edges are fetching.
    Running,
    /// It is done.
    Succeeded,
    /// It came to nothing; `problem` says why.
    Failed,
}

impl OperationState {
    /// The word in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A release on its way to where it was last sent: from `begin`, `activate` or `rollback` until it
/// is live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationView {
    pub id: OperationId,
    pub state: OperationState,
    pub site: SiteName,
    pub release: ReleaseId,
    /// What has become of the release.
    pub release_state: ReleaseState,
    pub created_at: Timestamp,
    /// Edges that have everything.
    pub edges_done: u64,
    pub edges_total: u64,
    /// Rises with every change; give it as `after` to wait for the next.
    pub progress: u64,
    /// Why it came to nothing.
    pub problem: Option<Problem>,
}

impl OperationView {
    /// The operation that a release is the subject of.
    pub fn of(release: &ReleaseView) -> Self {
        use super::EdgeReleaseState::{Active, Staged};
        let has_been_live = release.activated_at.is_some();
        let state = match release.state {
            ReleaseState::Uploading => OperationState::Pending,
            ReleaseState::Staging => OperationState::Running,
            ReleaseState::Staged
            | ReleaseState::Active
            | ReleaseState::Preview
            | ReleaseState::Superseded => OperationState::Succeeded,
            // A preview that is over was live before.
            ReleaseState::Expired if has_been_live => OperationState::Succeeded,
            ReleaseState::Expired | ReleaseState::Failed => OperationState::Failed,
        };
        let done = release.edges.iter().filter(|edge| matches!(edge.state, Staged | Active));
        Self {
            id: OperationId::of(&release.id),
            state,
            site: release.site.clone(),
            release: release.id.clone(),
            release_state: release.state,
            created_at: release.created_at,
            edges_done: done.count() as u64,
            edges_total: release.edges.len() as u64,
            progress: release.progress,
            problem: (state == OperationState::Failed).then(|| problem(release)),
        }
    }
}

fn problem(release: &ReleaseView) -> Problem {
    let code = format!("release_{}", release.state.label());
    let why = release.failure.clone();
    Problem {
        kind: format!("/problems/{code}"),
        title: "Conflict".to_owned(),
        status: 409,
        detail: why.unwrap_or_else(|| "it will not go live; push the folder again".to_owned()),
        code,
        ..Problem::default()
    }
}
