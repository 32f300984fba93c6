//! Where is control, and who am I to it?

use std::path::PathBuf;

use nigh_dial::ControlUrls;
use nigh_proto::report::MachineAbout;
use serde::{Deserialize, Serialize};

/// The `[control]` table of `edge.toml` and `dns.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Control's machine port, such as `https://control.example:8444`, or those of several controls.
    pub url: ControlUrls,
    /// Control's CA certificate, PEM. Needed until the machine has joined.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with a join token. Needed until the machine has joined; read again for every try.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
}

/// Everything that a replica needs to know.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Holds `identity/` and `state.json`. The caller has locked it.
    pub state_dir: PathBuf,
    pub control: ControlConfig,
    pub about: MachineAbout,
}
