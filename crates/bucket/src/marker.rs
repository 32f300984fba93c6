//! Whose bucket is this?
//!
//! One object below the prefix names the fleet whose blobs these are, so that a wrong bucket is
//! found before anything is written to it or removed from it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Bucket, Content, Error};

const KEY: &str = "nigh-fleet.json";
const FORMAT: u32 = 1;
const BYTES_MAX: u64 = 4096;

#[derive(Debug, Deserialize, Serialize)]
struct Marker {
    format: u32,
    fleet: String,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The fleet's own, from before.
    Own,
    /// There was no marker; now there is.
    New,
}

/// Why a bucket is not this fleet's.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(transparent)]
    Bucket(#[from] Error),
    #[error(
        "bucket {bucket} holds the blobs of another fleet, {theirs}; correct blobs.bucket, or give this fleet a prefix of its own"
    )]
    Foreign { bucket: String, theirs: String },
    #[error(
        "{KEY} in bucket {bucket} is no marker of nigh's; correct blobs.bucket, or remove that object"
    )]
    Unknown { bucket: String },
    #[error(
        "bucket {bucket} has no {KEY}, though this fleet's database says that its blobs are in a bucket; correct blobs.bucket, or, when that bucket is lost, put {{\"format\":1,\"fleet\":\"{fleet}\"}} there as {KEY}"
    )]
    Empty { bucket: String, fleet: String },
}

impl Bucket {
    /// Sees that the bucket is that of `fleet`; makes it so when it is nobody's, unless blobs are
    /// expected in it.
    pub async fn claim(&self, fleet: &str, has_blobs: bool) -> Result<Claim, ClaimError> {
        let bucket = || self.name.clone();
        let Some(text) = self.get_small(KEY, BYTES_MAX).await? else {
            if has_blobs {
                return Err(ClaimError::Empty { bucket: bucket(), fleet: fleet.to_owned() });
            }
            let marker = Marker { format: FORMAT, fleet: fleet.to_owned() };
            let text = serde_json::to_vec(&marker).expect("a marker is a number and a text");
            self.put(KEY, &Content::Bytes(Bytes::from(text))).await?;
            return Ok(Claim::New);
        };
        match serde_json::from_slice::<Marker>(&text) {
            Ok(Marker { format: FORMAT, fleet: theirs }) if theirs == fleet => Ok(Claim::Own),
            Ok(Marker { fleet: theirs, .. }) => {
                Err(ClaimError::Foreign { bucket: bucket(), theirs })
            }
            Err(_) => Err(ClaimError::Unknown { bucket: bucket() }),
        }
    }

    /// Whether an object of this name is the marker.
    pub fn is_marker(key: &str) -> bool {
        key == KEY
    }
}
