//! What people and control say to each other: the bodies of `/v1`.
//!
//! Every number of bytes ends in `_bytes`, every duration in `_ms`, every time is RFC 3339 in UTC.
//! Readers ignore fields they do not know.

mod certificates;
mod events;
mod operations;
mod takeover;
mod webhooks;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Digest, Host, MachineId, MachineName, PreviewName, RegionName, ReleaseId, SiteName, Timestamp,
    TokenId,
    access::Verbs,
    report::{Health, MachineRole, Ports},
    rules::{Notice, RuleSet},
    state::Location,
};

pub use crate::access::{Scope, Verb};
pub use certificates::{
    CertificateSource, CertificateState, CertificateView, NewCertificate, NewRevocation,
    RevocationReason,
};
pub use events::{EVENT_STREAM, EventKind, EventView, UnknownKind};
pub use operations::{OperationState, OperationView};
pub use takeover::{HeldMachine, NewTakeover, TakenOver, TakeoverPlan, TakeoverView};
pub use webhooks::{DeliveryOutcome, DeliveryView, NewWebhook, WebhookCreated, WebhookView};

/// The media type of a pack ([`crate::pack`]).
pub const PACK_MEDIA_TYPE: &str = "application/vnd.nigh.pack";
/// On `HEAD` and `PUT` of a large blob: how many bytes control already has, or where this part begins.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// On `PUT` of a large blob: its whole size in bytes.
pub const UPLOAD_LENGTH: &str = "upload-length";
/// How many bytes one `PUT` of a part of a large blob may carry.
pub const UPLOAD_PART_MAX_BYTES: u64 = 16 << 20;
/// The largest blob, in bytes.
pub const BLOB_MAX_BYTES: u64 = 64 << 30;

/// `application/problem+json` (RFC 9457): why a request was not carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What could not be done, why, and what to try.
    pub detail: String,
    /// Stable, for programs: `site_taken`, `release_incomplete`, …
    pub code: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What is wrong with one field of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// JSON Pointer (RFC 6901) to the field.
    pub pointer: String,
    pub detail: String,
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST /v1/sites`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSite {
    pub name: SiteName,
    /// Hosts besides the default one.
    #[serde(default)]
    pub hosts: Vec<Host>,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    pub name: SiteName,
    /// `<site>.<sites domain>`: every site has it.
    pub default_host: Host,
    /// All hosts, the default one first.
    pub hosts: Vec<Host>,
    /// Where visitors find the site.
    pub url: String,
    pub active: Option<ReleaseId>,
    pub releases_total: u64,
    /// Files of the active release.
    #[serde(default)]
    pub files_total: u64,
    /// Bytes of the active release's files.
    #[serde(default)]
    pub bytes_total: u64,
    /// What the site may hold; no bound where there is none.
    #[serde(default)]
    pub quotas: SiteQuotas,
    pub created_at: Timestamp,
}

/// What a site may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteQuotas {
    /// Files of one release.
    pub files_max: Option<u64>,
    /// Bytes of all files of one release.
    pub bytes_max: Option<u64>,
    /// Releases that control keeps, whatever their state.
    pub releases_max: Option<u64>,
}

impl SiteQuotas {
    /// Every bound with its name.
    pub const fn named(&self) -> [(&'static str, Option<u64>); 3] {
        [
            ("files_max", self.files_max),
            ("bytes_max", self.bytes_max),
            ("releases_max", self.releases_max),
        ]
    }
}

/// `PATCH /v1/sites/{site}`: a JSON merge patch (RFC 7396). What is absent stays, `null` goes back
/// to what the fleet's configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteChange {
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<QuotasChange>)]
    pub quotas: Change<QuotasChange>,
}

/// The quotas in a [`SiteChange`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotasChange {
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub files_max: Change<u64>,
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub bytes_max: Change<u64>,
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub releases_max: Change<u64>,
}

/// One field of a merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It is absent.
    #[default]
    None,
    /// It is `null`.
    Unset,
    Set(T),
}

impl<T> Change<T> {
    pub const fn is_none(&self) -> bool {
        matches!(self, Change::None)
    }

    /// What a field is afterwards.
    pub fn applied_to(self, before: Option<T>) -> Option<T> {
        match self {
            Change::None => before,
            Change::Unset => None,
            Change::Set(new) => Some(new),
        }
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Change::None | Change::Unset => serializer.serialize_none(),
            Change::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Change::Unset, Change::Set))
    }
}

impl SiteChange {
    /// A site's own quotas afterwards.
    pub fn quotas_after(&self, before: SiteQuotas) -> SiteQuotas {
        match self.quotas {
            Change::None => before,
            Change::Unset => SiteQuotas::default(),
            Change::Set(change) => SiteQuotas {
                files_max: change.files_max.applied_to(before.files_max),
                bytes_max: change.bytes_max.applied_to(before.bytes_max),
                releases_max: change.releases_max.applied_to(before.releases_max),
            },
        }
    }
}

/// `POST /v1/sites/{site}/hosts`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    pub host: Host,
}

/// A host of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostView {
    pub host: Host,
    pub site: SiteName,
    pub is_default: bool,
    /// Whether nigh's own DNS answers for it; otherwise it needs a CNAME to the default host.
    pub is_in_zone: bool,
}

/// `POST /v1/sites/{site}/releases`: begins a release.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRelease {
    /// The text of a manifest ([`crate::manifest`]).
    pub manifest: String,
    pub rules: RuleSet,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub source: Option<SourceView>,
    /// Serve it on a host of its own instead of the site's hosts.
    #[serde(default)]
    pub preview: Option<NewPreview>,
}

/// How a preview is to be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPreview {
    /// A name that a later preview may take over; the release's own digits otherwise.
    #[serde(default)]
    pub name: Option<PreviewName>,
    /// How long it lives; control's default otherwise.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Option<u64>,
}

/// Where a release's files came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    pub commit: Option<String>,
    pub branch: Option<String>,
    /// Whether the checkout had changes that were not committed.
    #[serde(default)]
    pub is_dirty: bool,
}

/// The answer to [`NewRelease`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseBegun {
    pub release: ReleaseView,
    /// Blobs to upload before `finalize`.
    pub missing: Vec<Digest>,
    /// What the rules' lints found.
    pub warnings: Vec<Notice>,
}

/// How far a release has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Blobs may still be missing on control.
    Uploading,
    /// Edges are fetching it.
    Staging,
    /// Ready on every edge that counts, and waiting for `activate`.
    Staged,
    /// Served on the site's hosts.
    Active,
    /// Served on a host of its own.
    Preview,
    /// Was active; rollback finds it.
    Superseded,
    /// Given up: replaced before it was live, its preview expired or its upload abandoned.
    Expired,
    /// Could not go live; `failure` says why.
    Failed,
}

impl ReleaseState {
    /// The word in the database, in JSON and in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            ReleaseState::Uploading => "uploading",
            ReleaseState::Staging => "staging",
            ReleaseState::Staged => "staged",
            ReleaseState::Active => "active",
            ReleaseState::Preview => "preview",
            ReleaseState::Superseded => "superseded",
            ReleaseState::Expired => "expired",
            ReleaseState::Failed => "failed",
        }
    }
}

/// A release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    pub id: ReleaseId,
    pub site: SiteName,
    pub state: ReleaseState,
    pub files_total: u64,
    pub bytes_total: u64,
    pub message: Option<String>,
    pub source: Option<SourceView>,
    /// Who pushed it: the name of the token.
    pub pushed_by: Option<String>,
    pub created_at: Timestamp,
    pub finalized_at: Option<Timestamp>,
    /// When it went live last.
    pub activated_at: Option<Timestamp>,
    /// Where visitors see it, while they can.
    pub url: Option<String>,
    pub preview: Option<PreviewView>,
    pub failure: Option<String>,
    /// Every edge and how far it is with this release.
    pub edges: Vec<EdgeProgress>,
    /// Rises with every change of the fields above; give it as `after` to wait for the next.
    pub progress: u64,
}

/// The preview side of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewView {
    pub host: Host,
    pub expires_at: Option<Timestamp>,
}

/// How far one edge is with one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EdgeProgress {
    pub name: MachineName,
    pub state: EdgeReleaseState,
    /// Milliseconds from finalize (or, for an already staged release, from activate) to this state.
    pub ms: Option<u64>,
    /// Why it cannot, when it cannot.
    pub reason: Option<String>,
}

/// What an edge does with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeReleaseState {
    /// Fetching blobs.
    Staging,
    /// All blobs on disk.
    Staged,
    /// Serving it.
    Active,
    /// Held back by an error that `reason` tells.
    Failed,
    /// Not heard from.
    Away,
}

/// `POST /v1/sites/{site}/releases/{release}/finalize`: all blobs are there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finalize {
    /// Go live as soon as it is staged. Previews go live on their own host either way.
    #[serde(default = "yes")]
    pub activate: bool,
}

const fn yes() -> bool {
    true
}

/// `POST /v1/sites/{site}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The release to go back to; the one active before otherwise.
    #[serde(default)]
    pub release: Option<ReleaseId>,
}

/// `POST /v1/sites/{site}/releases/prune`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// How many of the newest releases stay, besides the active one and live previews.
    pub keep: u32,
}

/// What was pruned.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    pub releases: Vec<ReleaseId>,
}

/// `POST /v1/packs`: what became of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackStored {
    pub stored: u64,
    pub already_present: u64,
}

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

/// `GET /v1/ca`: whom clients and machines trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaView {
    /// Every CA that is trusted, PEM, the newest first: what `NIGH_CA_FILE` should hold.
    pub bundle_pem: String,
    /// The newest first.
    pub authorities: Vec<AuthorityView>,
    /// Machines that are here and do not trust the next CA yet: control waits for them.
    pub waiting_for: Vec<MachineName>,
    /// When the next CA signs everything even so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on_at: Option<Timestamp>,
    /// Machines that are here and trust only a retired CA: when that one ends they lose control, and
    /// have to join again.
    #[serde(default)]
    pub left_behind: Vec<MachineName>,
}

/// One of control's CAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityView {
    pub number: i64,
    pub stage: AuthorityStage,
    /// When it came to that stage.
    pub since: Timestamp,
    /// BLAKE3 of its certificate.
    pub fingerprint: Digest,
    /// When its own certificate ends.
    pub not_after: Timestamp,
    /// Machines whose newest certificate it signed.
    pub machines: Vec<MachineName>,
}

/// How far a CA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityStage {
    /// Machines come to trust it and get their certificates from it.
    Next,
    /// It signs everything.
    Current,
    /// It signs nothing and is trusted until nobody needs it.
    Retired,
}

impl AuthorityStage {
    /// The word in the database and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            AuthorityStage::Next => "next",
            AuthorityStage::Current => "current",
            AuthorityStage::Retired => "retired",
        }
    }
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: String,
    /// What it may do, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "has_no_verbs")]
    #[schema(value_type = Vec<Verb>)]
    pub verbs: Verbs,
    /// The sites it is for; empty: all of them.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub sites: Vec<SiteName>,
    /// Never expires otherwise.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Option<u64>,
}

/// `PATCH /v1/tokens/{id}`: a JSON merge patch (RFC 7396). What is absent stays. What a token may
/// do, and where, can only become less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenChange {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    #[schema(value_type = String, min_length = 1, max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: Option<String>,
    /// `null`: nothing but `verbs`.
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<Scope>)]
    pub scope: Change<Scope>,
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    #[schema(value_type = Vec<Verb>)]
    pub verbs: Option<Verbs>,
    /// The sites it is for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    #[schema(value_type = Vec<SiteName>, max_items = 100)]
    pub sites: Option<Vec<SiteName>>,
    /// From now on; `null`: it never expires.
    #[serde(default, skip_serializing_if = "Change::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 315_360_000_000_i64)]
    pub expires_ms: Change<u64>,
}

/// A field that may be left out and may not be `null`.
fn some<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn has_no_verbs(verbs: &Verbs) -> bool {
    verbs.is_empty()
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub id: TokenId,
    pub name: String,
    /// The shorthand that it was made with.
    pub scope: Option<Scope>,
    /// Everything that it may do.
    #[schema(value_type = Vec<Verb>)]
    pub verbs: Verbs,
    pub sites: Vec<SiteName>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// A new token; the secret is shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    pub token: TokenView,
    /// `nigh_pat_…` or `nigh_ci_…`.
    pub secret: String,
}

/// The bucket that control keeps blobs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketView {
    pub name: String,
    pub is_usable: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Blobs that the bucket had lost, since this control started.
    pub lost_blobs: u64,
    /// Objects that are not nigh's; they are left alone.
    pub foreign_objects: u64,
    /// Blobs that a mirror does not have yet; absent when the folder is a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmirrored_blobs: Option<u64>,
}

/// `GET /v1/status`: the fleet at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    pub version: String,
    pub revision: u64,
    pub sites_total: u64,
    pub releases_total: u64,
    pub blobs_total: u64,
    pub blobs_bytes: u64,
    pub disk_free_bytes: u64,
    /// Where blobs are kept, when not in control's folder alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketView>,
    pub machines: Vec<MachineView>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}
