//! How do the bytes of files reach control?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

/// `POST /v1/packs`: what became of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackStored {
    pub stored: u64,
    pub already_present: u64,
}
