//! Machines, and the tokens that they join with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    MachineId, MachineName, RegionName, Timestamp,
    report::{Health, MachineRole, Ports},
    state::Location,
};

/// A machine of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MachineView {
    pub id: MachineId,
    pub name: MachineName,
    pub role: MachineRole,
    pub region: Option<RegionName>,
    pub location: Option<Location>,
    /// Addresses that visitors and resolvers reach it at.
    pub addresses: Vec<String>,
    pub ports: Ports,
    /// Whether its stream to control is open and its reports are fresh.
    pub is_connected: bool,
    pub is_drained: bool,
    /// Whether it has acted on the newest revision meant for it.
    pub is_current: bool,
    pub revision: Option<u64>,
    pub version: String,
    pub health: Health,
    pub joined_at: Timestamp,
    pub last_seen_at: Option<Timestamp>,
    /// When its newest certificate ends.
    #[serde(default)]
    pub certificate_not_after: Option<Timestamp>,
    /// How far its clock is ahead of control's; negative when it is behind.
    #[serde(default)]
    pub clock_ahead_ms: i64,
    /// Whether it holds sites of another fleet and is told nothing, so that it keeps them.
    #[serde(default)]
    pub is_held: bool,
    /// The newest protocol that it speaks with control.
    #[serde(default)]
    pub protocol: u16,
    /// Why control and the machine cannot talk to each other, and what to do. It serves what it has.
    #[serde(default)]
    pub turned_away: Option<String>,
}

/// `POST /v1/join-tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    pub role: MachineRole,
    /// Only a machine of this name may use it.
    pub name: MachineName,
    /// One hour otherwise.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Option<u64>,
}

/// A join token; it is shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenCreated {
    /// With the fingerprint of control's CA behind a dot: a machine needs no CA file to join.
    pub token: String,
    pub expires_at: Timestamp,
    /// Where machines reach control, as far as its configuration tells.
    #[serde(default)]
    pub control_url: String,
}
