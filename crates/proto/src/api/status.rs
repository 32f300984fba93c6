//! How is the fleet, at a glance?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::MachineView;

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
