//! Taking over what machines hold of a fleet whose control is lost.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{FleetId, MachineName, SiteName, report::MachineRole};

/// `GET /v1/takeover`: machines whose states are another fleet's, and what could be taken over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TakeoverView {
    /// Machines that are told nothing, so that nothing is taken from them.
    pub machines: Vec<HeldMachine>,
    /// Those of them that are here and have not told their whole state yet.
    pub waiting_for: Vec<MachineName>,
    /// What a takeover would bring now; `null` when there is nothing to take over.
    pub plan: Option<TakeoverPlan>,
    /// Blobs of this control's releases that edges have not given back yet.
    pub blobs_missing: u64,
}

/// A machine that holds sites which this control does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldMachine {
    pub name: MachineName,
    pub role: MachineRole,
    /// Whose state it has; `null` when the state does not say.
    pub fleet: Option<FleetId>,
    /// Of that state. The newest one counts.
    pub revision: u64,
    pub sites_total: u64,
    /// DNS servers only.
    pub zones_total: u64,
    /// Whether its whole state is here.
    pub has_told: bool,
    /// Whether a takeover goes by its state.
    pub is_chosen: bool,
}

/// What a takeover brings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TakeoverPlan {
    pub sites: Vec<SiteName>,
    pub releases_total: u64,
    pub certificates_total: u64,
    pub ticket_keys_total: u64,
    /// Zones that DNS servers answer for and control's configuration does not name, as `[[zones]]`
    /// of that configuration. They would be lost.
    #[schema(value_type = Vec<Object>)]
    pub zones_missing: Vec<Map<String, Value>>,
    /// What is left out or other than it was, in words.
    pub notes: Vec<String>,
}

/// `POST /v1/takeover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTakeover {
    /// Go by the states of these machines only; of all that are held otherwise.
    #[serde(default)]
    pub from: Vec<MachineName>,
    /// Let go of zones that control's configuration does not name.
    #[serde(default)]
    pub without_zones: bool,
}

/// What was taken over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TakenOver {
    /// The machines whose states counted; none when there was nothing to take over.
    pub from: Vec<HeldMachine>,
    pub plan: TakeoverPlan,
    /// What no machine holds, in words.
    pub lost: Vec<String>,
    /// The revision with which machines are told.
    pub revision: u64,
}
