//! Why was something not done?

use nigh_core::blob::{FileError, InsertError, ReadError};
use nigh_proto::{
    Host, MachineName, PreviewName, ReleaseId, SiteName, Timestamp, api::ReleaseState,
    manifest::InvalidManifest, rules::InvalidRules,
};

use crate::{
    blobs::BlobError, ca::CaError, certificates::inspect::BadChain, store::StoreError,
    webhooks::BadTarget,
};

/// What a caller can act on; the API turns each into a problem with a code of its own.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("there is no site {0}; `nigh site list` shows those there are")]
    SiteUnknown(SiteName),
    #[error("the site {0} is there already; choose another name")]
    SiteTaken(SiteName),
    #[error("the host {0} belongs to a site already; remove it there first")]
    HostTaken(Host),
    #[error("the site does not answer to {0}")]
    HostUnknown(Host),
    #[error("{0} is the default host of the site and stays as long as the site")]
    HostDefault(Host),
    #[error("{0} is the name of a preview's host; hosts with `--` in a label are kept for those")]
    HostReserved(Host),
    #[error("{0} is a name of control itself; give the site another host")]
    HostOwn(Host),
    #[error("{site} has {max} hosts, which is as many as a site may have")]
    HostsFull { site: SiteName, max: usize },
    #[error("{site} has no release {release}; `nigh release list` shows those there are")]
    ReleaseUnknown { site: SiteName, release: String },
    #[error("several releases end in {0}; give more of the id")]
    ReleaseAmbiguous(String),
    #[error("{missing} blobs of the release are missing; upload them and finalize again")]
    ReleaseIncomplete { missing: usize },
    #[error("{0} is active; activate another release first")]
    ReleaseActive(ReleaseId),
    #[error("{release} is {state}; {advice}", state = state.label())]
    ReleaseState { release: ReleaseId, state: ReleaseState, advice: &'static str },
    #[error("{0} has no earlier release to go back to")]
    NothingToRollBack(SiteName),
    #[error("an edge cannot be given this manifest")]
    Manifest(#[source] InvalidManifest),
    #[error("an edge cannot apply these rules")]
    Rules(#[source] InvalidRules),
    #[error("the manifest has no file; push a folder that holds at least one")]
    ManifestEmpty,
    #[error("the manifest gives sizes that its blobs do not have; push the folder again")]
    SizeMismatch { files: Vec<WrongSize> },
    #[error("the preview {0} would need a host label of more than 63 bytes")]
    PreviewTooLong(PreviewName),
    #[error("{field} is {ms} ms; give 1 ms to ten years")]
    Duration { field: &'static str, ms: u64 },
    #[error("there is no machine {0}; `nigh edge list` and `nigh dns list` show those there are")]
    MachineUnknown(MachineName),
    #[error(
        "events after {after} are not here; those from {first} on are: begin with after=0, and look at \
         what may have been missed"
    )]
    EventsGone { after: u64, first: u64 },
    #[error(
        "there is no event {after} yet, the newest is {last}; was the database restored? begin with \
         after={last}"
    )]
    EventsAhead { after: u64, last: u64 },
    #[error("there is no such operation, or its release is kept no longer")]
    OperationUnknown,
    #[error("there is no such webhook")]
    WebhookUnknown,
    #[error(transparent)]
    WebhookTarget(#[from] BadTarget),
    #[error("there is no such token")]
    TokenUnknown,
    #[error("this is the last token that may administer everything; create another one first")]
    LastAdmin,
    #[error(
        "{site} may have {max} {what} and would have {total}; an administrator can raise it: nigh site set"
    )]
    Quota { site: SiteName, what: &'static str, total: u64, max: u64 },
    #[error("{what} must be at least 1; null stands for the fleet's own bound")]
    QuotaInvalid { what: &'static str },
    #[error("somebody has changed this meanwhile; look at it again")]
    EditedMeanwhile,
    #[error("no token may make, change or revoke a stronger one: {0}")]
    TokenStronger(String),
    #[error("a token may only lose what it may do: {why}; make another one")]
    TokenWider { field: &'static str, why: String },
    #[error("the token may do nothing; give a scope, or verbs")]
    TokenPowerless,
    #[error("{field} has {length} characters; give 1 to {max}, and no control characters")]
    Text { field: &'static str, length: usize, max: usize },
    #[error("{total} {what} are more than the {max} there may be")]
    TooMany { what: &'static str, field: Option<&'static str>, total: u64, max: u64 },
    #[error("{0}; make a new one with `nigh edge token` or `nigh dns token`")]
    JoinRefused(JoinRefusal),
    #[error("the machine calls itself {name} and the token is for {expected}")]
    JoinName { name: MachineName, expected: MachineName },
    #[error("there is no certificate {0}; `nigh cert list` shows those there are")]
    CertificateUnknown(String),
    #[error("the certificate cannot be served: {0}")]
    CertificateBad(#[from] BadChain),
    #[error("the certificate is for {names}, which is no host of {site}; add the host first")]
    CertificateForeign { site: SiteName, names: String },
    #[error("{id}: {rule}")]
    CertificateKind { id: String, rule: &'static str },
    #[error("the CA did not do this with {id}: {why}")]
    CaFailed { id: String, why: String },
    #[error(
        "the machine's clock says {machine}, control's says {control}; set the clocks (NTP) and try again"
    )]
    ClockWrong { machine: Timestamp, control: Timestamp },
    #[error("{0} was removed or has joined again since; join it with a new token")]
    MachineRemoved(MachineName),
    #[error("the machine's state cannot be taken over: {0}")]
    StateBad(&'static str),
    #[error(
        "the machines have not told their states yet, or no edge is among them; try again in some seconds"
    )]
    TakeoverEarly,
    #[error(
        "DNS servers answer for {0}, and control's configuration does not name them: put them into [[zones]] and reload control (nigh restore --from-edges --dry-run prints them), or say that they may go"
    )]
    ZonesMissing(String),
    #[error("the report cannot be true: {0}")]
    Nonsense(&'static str),
    #[error(
        "another machine goes by the identity of {0} since; one of the two is a copy: stop it, or join one of them anew"
    )]
    MachineDuplicate(MachineName),
    #[error(
        "a new CA is on its way already; see how far it is with `nigh ca show`, or end the retired ones with `nigh ca retire`"
    )]
    CaRotating,
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Insert(#[from] InsertError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("control's bucket cannot be used; try again when it can")]
    Bucket(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("blobs cannot be packed")]
    Pack(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<BlobError> for AppError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Insert(error) => error.into(),
            BlobError::Read(error) => error.into(),
            BlobError::File(error) => error.into(),
            BlobError::Store(error) => error.into(),
            BlobError::Bucket(error) => AppError::Bucket(Box::new(error)),
            BlobError::Remote(error) => AppError::Bucket(error),
            BlobError::Pack(error) => AppError::Pack(Box::new(error)),
            BlobError::Packed(error) => AppError::Pack(Box::new(error)),
        }
    }
}

/// A file whose blob has another size than the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSize {
    pub path: String,
    pub claimed_bytes: u64,
    pub actual_bytes: u64,
}

/// Why a join token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    #[error("the join token is not one of control's, or expired long ago")]
    Unknown,
    #[error(
        "the join token was used already, with another key: by another machine or another disk"
    )]
    Used,
    #[error("the join token expired at {0}")]
    Expired(Timestamp),
    #[error("the join token is for a machine of the other role")]
    Role,
}
