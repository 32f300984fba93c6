//! How much is remembered of what happened?

use serde::{Deserialize, Serialize};

/// The log of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// So many of the newest are kept.
    pub keep_max: u64,
    /// Streams of events that are open at once on one control.
    pub streams_max: usize,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { keep_max: 100_000, streams_max: 100 }
    }
}
