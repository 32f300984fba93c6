//! Where are blobs kept?

use std::path::PathBuf;

use nigh_bucket::BucketConfig;
use serde::{Deserialize, Serialize};

/// How blobs are kept: in a folder of the state directory, and in a bucket when one is named.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlobsConfig {
    /// Disk space that pushes leave free; the store's own default unless told otherwise.
    pub reserve_bytes: Option<u64>,
    /// How often blobs that nothing needs are looked for.
    pub collect_interval_ms: u64,
    /// Blobs younger than this are never collected.
    pub collect_young_ms: u64,
    /// The bucket that holds all blobs; the folder alone does unless told otherwise.
    pub bucket: Option<String>,
    /// Such as `https://s3.example:3900`; Amazon's own unless told otherwise.
    pub endpoint: Option<String>,
    pub region: String,
    /// Whether the bucket's name is in the path of URLs, not in the host.
    pub path_style: bool,
    /// What the names of all objects begin with; it ends with a slash.
    pub prefix: String,
    /// Keys in the format of `~/.aws/credentials`; the usual chain is asked unless told otherwise.
    pub credentials_file: Option<PathBuf>,
    /// The profile in that file, or in the usual ones.
    pub profile: Option<String>,
    /// The CA of an endpoint that no public CA vouches for; edges are told of it.
    pub ca_file: Option<PathBuf>,
    /// How long a URL is good that an edge is given.
    pub url_expires_ms: u64,
    /// How much of the folder is filled with blobs that the bucket has.
    pub cache_bytes: u64,
    /// Whether the folder has every blob as well, whatever `cache_bytes` says.
    pub mirror: bool,
}

impl Default for BlobsConfig {
    fn default() -> Self {
        Self {
            reserve_bytes: None,
            collect_interval_ms: 60 * 60 * 1000,
            collect_young_ms: 60 * 60 * 1000,
            bucket: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            prefix: String::new(),
            credentials_file: None,
            profile: None,
            ca_file: None,
            url_expires_ms: 15 * 60 * 1000,
            cache_bytes: 10 << 30,
            mirror: false,
        }
    }
}

impl BlobsConfig {
    /// The bucket, when one is named.
    pub fn remote(&self) -> Option<BucketConfig> {
        Some(BucketConfig {
            name: self.bucket.clone()?,
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            prefix: self.prefix.clone(),
            credentials_file: self.credentials_file.clone(),
            profile: self.profile.clone(),
            ca_file: self.ca_file.clone(),
        })
    }
}
