//! How much may be asked for, and for how long is it remembered?

use serde::{Deserialize, Serialize};

use super::DAY_MS;

/// How often the API may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests of one token.
    pub requests_per_minute: u32,
    /// Wrong tokens from one address (one /56 of IPv6).
    pub failures_per_minute: u32,
    /// Wrong tokens from everywhere.
    pub failures_per_minute_total: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_minute: 1_200_000,
            failures_per_minute: 60,
            failures_per_minute_total: 6_000,
        }
    }
}

/// How long it is known who changed what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    pub keep_ms: u64,
    /// The oldest beyond these go, however young.
    pub keep_entries: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep_ms: 400 * DAY_MS, keep_entries: 1_000_000 }
    }
}

/// What a site may hold, unless it was given a quota of its own; no bound when left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotasConfig {
    /// Files of one release.
    pub files_max: Option<u64>,
    /// Bytes of all files of one release.
    pub bytes_max: Option<u64>,
    /// Releases that control keeps, whatever their state.
    pub releases_max: Option<u64>,
}
