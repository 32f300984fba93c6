//! What control tells a machine: `GET /machine/v1/watch?since=REV`.
//!
//! One stream of JSON documents, one per line. The first is the whole state, unless the machine
//! already has that revision; then every change as it happens, and heartbeats between. Silence for
//! longer than [`SILENCE_MAX_MS`] means that the stream is dead.

use serde::{Deserialize, Serialize};

use crate::state::{MachineState, Revision};

/// How often control sends a heartbeat on a quiet stream.
pub const HEARTBEAT_MS: u64 = 5_000;
/// After how long a machine gives up on a silent stream and dials again.
pub const SILENCE_MAX_MS: u64 = 15_000;
/// The longest frame, in bytes.
pub const FRAME_MAX_BYTES: usize = 64 << 20;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Frame {
    /// The whole desired state.
    State { state: Box<MachineState> },
    /// Control is alive and the machine is up to date.
    Heartbeat { revision: Revision },
}
