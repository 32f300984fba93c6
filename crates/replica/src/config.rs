//! How does a machine find control?

use std::path::PathBuf;

use nigh_proto::report::MachineAbout;
use serde::{Deserialize, Serialize};

/// `[control]` of a machine's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Control's machine port: `https://control.example:8444`.
    pub url: String,
    /// Control's CA certificate, PEM: the one authority that control is believed through.
    pub ca_file: PathBuf,
    /// The single-use token for joining. Needed once; read again at every attempt until then.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
}

/// What a replica needs to run.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The machine's state folder; the copy is `state.json` and the identity `identity/` in it.
    pub state_dir: PathBuf,
    /// What the machine is, with the ports that it has bound.
    pub about: MachineAbout,
    pub upstream: UpstreamConfig,
}
