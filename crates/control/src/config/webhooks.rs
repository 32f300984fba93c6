//! Where may webhooks go?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Servers that control tells what happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Whether they may go to private and loopback addresses, and over plain HTTP.
    pub allow_private: bool,
    /// Authorities that are believed besides those of the platform.
    pub ca_file: Option<PathBuf>,
}
