//! Sites, their hosts and what they may hold.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Change;
use crate::{Host, ReleaseId, SiteName, Timestamp};

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
