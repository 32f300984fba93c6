//! Where can an edge fetch blobs without control sending them?
//!
//! Control answers with objects of its bucket: a URL that is good for a while, and where in the
//! object each blob lies. Blobs that are not in the answer come from control itself. What an edge
//! found gone or damaged it says with its next question.

use serde::{Deserialize, Serialize};

use crate::{Digest, pack::PackHead};

/// A field of control's answers with blobs: they are in a bucket, so locations may be asked for.
pub const BUCKET_FIELD: &str = "nigh-bucket";
/// How many objects one question may complain about.
pub const COMPLAINTS_MAX: usize = 16;
/// Bytes between two blobs that are fetched with them, since another request would cost more.
pub const GAP_BYTES_MAX: u64 = 64 << 10;

/// `POST /machine/v1/locations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wanted {
    pub digests: Vec<Digest>,
    /// Objects that were gone, or whose bytes were not those of their blobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Locations {
    pub objects: Vec<LocatedObject>,
    /// The CA of the bucket's endpoint, when no public one vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// An object with blobs that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LocatedObject {
    /// What complaints call it.
    pub key: String,
    pub url: String,
    pub blobs: Vec<LocatedBlob>,
}

/// Where a blob lies in its object. As in a pack: a body that is shorter than the blob is one zstd
/// frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LocatedBlob {
    pub digest: Digest,
    pub start: u64,
    pub stored_len: u64,
    pub raw_len: u64,
}

impl LocatedBlob {
    /// The byte after its last.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.stored_len)
    }

    /// Whether it may travel in a pack.
    pub const fn is_small(&self) -> bool {
        self.raw_len <= PackHead::MAX_BLOB_BYTES as u64 && self.stored_len <= self.raw_len
    }
}

/// Neighbours that are fetched with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub start: u64,
    pub end: u64,
    /// In the order in which they lie.
    pub blobs: Vec<LocatedBlob>,
}

/// The requests that bring `blobs` of one object: few, and with little that nobody asked for.
pub fn runs(mut blobs: Vec<LocatedBlob>) -> Vec<Run> {
    // By their ends too, so that of bodies that overlap the shorter comes first.
    blobs.sort_unstable_by_key(|blob| (blob.start, blob.end()));
    let mut runs: Vec<Run> = Vec::new();
    for blob in blobs {
        match runs.last_mut() {
            Some(run)
                if (run.end..=run.end.saturating_add(GAP_BYTES_MAX)).contains(&blob.start) =>
            {
                run.end = blob.end();
                run.blobs.push(blob);
            }
            _ => runs.push(Run { start: blob.start, end: blob.end(), blobs: vec![blob] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(start: u64, length: u64) -> LocatedBlob {
        let digest = Digest::of(&start.to_le_bytes());
        LocatedBlob { digest, start, stored_len: length, raw_len: length }
    }

    #[test]
    fn neighbours_share_a_request_and_what_lies_apart_does_not() {
        let gap = GAP_BYTES_MAX;
        let found = runs(vec![blob(200 + 2 * gap, 10), blob(60, 10), blob(70 + gap, 5)]);
        let bounds: Vec<_> = found.iter().map(|run| (run.start, run.end)).collect();
        assert_eq!(bounds, [(60, 75 + gap), (200 + 2 * gap, 210 + 2 * gap)]);
        assert_eq!(found[0].blobs.len(), 2);
    }

    proptest! {
        #[test]
        fn whatever_control_says_each_blob_is_in_one_run_and_in_order(
            places in proptest::collection::vec((any::<u64>(), 0u64..1 << 40), 0..40),
        ) {
            let blobs: Vec<_> = places.iter().map(|&(start, length)| blob(start, length)).collect();
            let found = runs(blobs.clone());
            prop_assert_eq!(found.iter().map(|run| run.blobs.len()).sum::<usize>(), blobs.len());
            for run in &found {
                let mut at = run.start;
                for blob in &run.blobs {
                    prop_assert!(blob.start >= at && blob.end() <= run.end);
                    at = blob.end();
                }
            }
        }
    }
}
