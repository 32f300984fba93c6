//! What a machine tells control: `POST /machine/v1/join` once, `POST /machine/v1/renew` before its
//! certificate ends, `POST /machine/v1/report` on every change and at least every [`REPORT_MS`].

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Digest, MachineName, Protocols, RegionName, ReleaseId, SiteName, Timestamp,
    state::{Holding, Location, Revision},
};

/// How often a machine reports when nothing changes.
pub const REPORT_MS: u64 = 5_000;
/// After how long without a report control counts a machine as away.
pub const AWAY_AFTER_MS: u64 = 12_000;
/// The longest report, in bytes.
pub const REPORT_MAX_BYTES: usize = 4 << 20;

/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MachineRole {
    Edge,
    Dns,
}

impl MachineRole {
    /// The word in paths, logs and commands.
    pub const fn label(self) -> &'static str {
        match self {
            MachineRole::Edge => "edge",
            MachineRole::Dns => "dns",
        }
    }
}

/// `POST /machine/v1/join`: a machine asks to be one of the fleet. Sent without a client
/// certificate, authorised by the single-use join token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    pub token: String,
    /// PKCS #10 certificate request, PEM: the machine's key never leaves it.
    pub csr_pem: String,
    pub about: MachineAbout,
    /// The machine's clock: with one that is far off a certificate would be of no use.
    #[serde(default)]
    pub sent_at: Option<Timestamp>,
}

/// `POST /machine/v1/renew`: a machine of the fleet asks for its next certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    /// PKCS #10 certificate request, PEM, of a key that was made for it.
    pub csr_pem: String,
    /// The machine's clock.
    pub sent_at: Timestamp,
}

/// The answer to a join or a renewal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinResponse {
    pub name: MachineName,
    /// The machine's certificate, PEM.
    pub certificate_pem: String,
    /// Every CA that is to be trusted as control's, PEM, the newest first.
    pub ca_pem: String,
}

/// On the answer to a report: what control's clock says, RFC 3339.
pub const CONTROL_TIME: &str = "nigh-time";
/// On the answer to a report: the number of the report that control now knows.
pub const REPORT_NUMBER: &str = "nigh-report";
/// How many CAs a machine may trust at once.
pub const AUTHORITIES_MAX: usize = 8;

/// Who says this, and what it can prove and believes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Drawn at every start: two machines with one identity differ in it. 0 when not told.
    #[serde(default)]
    pub instance: u64,
    /// BLAKE3 of the DER of every CA that the machine trusts; at most [`AUTHORITIES_MAX`].
    #[serde(default)]
    pub trusts: Vec<Digest>,
    /// When the certificate that it presents ends.
    #[serde(default)]
    pub not_after: Option<Timestamp>,
}

/// What a machine knows of itself from its own configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineAbout {
    pub role: MachineRole,
    pub name: MachineName,
    /// Edges only.
    pub region: Option<RegionName>,
    pub location: Option<Location>,
    /// Addresses that visitors and resolvers reach it at.
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    pub ports: Ports,
    /// The version of nigh that runs there.
    pub version: String,
    /// What it speaks with control.
    #[serde(default)]
    pub protocols: Protocols,
}

/// The public ports of a machine. Zero: not served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
    pub dns: u16,
}

/// How things stand on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub about: MachineAbout,
    /// The revision on its disk and acted on.
    pub revision: Option<Revision>,
    /// Edges: one per site of the state; fewer in a report that goes on from another.
    pub sites: Vec<SiteReport>,
    /// Edges: one per certificate and candidate of the state.
    #[serde(default)]
    pub certificates: Vec<CertificateReport>,
    pub health: Health,
    /// The machine's clock, so that control can warn of one that is wrong.
    pub sent_at: Timestamp,
    #[serde(default)]
    pub credentials: Credentials,
    /// What the state on its disk says, in short; `None` without one.
    #[serde(default)]
    pub holding: Option<Holding>,
    #[serde(default)]
    pub sequel: Sequel,
}

/// What a report leaves out, since control knows it from an earlier one: with many sites most say
/// the same for days.
///
/// Only what control has acknowledged ([`REPORT_NUMBER`]) is gone on from. A report that goes on from
/// one that control does not know is not taken, and not acknowledged: the machine then tells
/// everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequel {
    /// Which report of this start of the machine this is; it rises. 0 when not told.
    #[serde(default)]
    pub number: u64,
    /// The report that this one goes on from. `None` when nothing is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Sites of that report that are there no longer. Sites that are not named are as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<SiteName>,
    /// Certificates are as they were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_certificates: bool,
}

/// One site on an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    pub site: SiteName,
    /// Releases whose blobs are all verified and on disk.
    pub staged: Vec<ReleaseId>,
    /// The release that is served.
    pub active: Option<ReleaseId>,
    /// Releases that cannot be staged now, and why; tried again all the same.
    pub failed: Vec<StageFailure>,
    /// Blobs of the newest release that is not staged yet.
    pub missing_blobs: u64,
}

/// Why a release is not staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFailure {
    pub release: ReleaseId,
    pub reason: String,
}

/// What became of a certificate on an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// As in the state.
    pub id: String,
    /// BLAKE3 of the leaf's DER, so that a report on the one before is not mistaken for this.
    pub fingerprint: Digest,
    pub state: CertificateStanding,
}

/// How far a certificate is on an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CertificateStanding {
    /// A candidate: a client got through a handshake with it here.
    Proven,
    /// Shown to visitors.
    Served,
    /// It cannot be used; what was served before still is.
    Refused { reason: String },
}

/// How a machine feels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Share of CPU time that the host took away, 0 to 1.
    pub cpu_steal_ratio: f64,
    /// Pressure stall, `some` over 10 s, 0 to 1.
    pub cpu_pressure_ratio: f64,
    pub io_pressure_ratio: f64,
    pub memory_pressure_ratio: f64,
    /// Free bytes where the state lies.
    pub disk_free_bytes: u64,
    pub resident_bytes: u64,
    pub uptime_ms: u64,
}
