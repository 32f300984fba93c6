//! How do edges get blobs from each other, so that control sends each only a few times?
//!
//! `plan` decides who asks whom, `fan_out` does it, `ask` is the line to a peer, `serve` the other end
//! of it, `pieces` takes in large blobs, which `arrivals` knows before they are whole, and `trust` how both know who the other is. Everything that comes from a peer is verified
//! like what comes from control.

mod arrivals;
mod ask;
mod fan_out;
mod pieces;
mod plan;
mod serve;
mod trust;

pub(crate) use arrivals::Arrivals;
pub(crate) use fan_out::FanOut;
pub(crate) use pieces::Pieces;
pub(crate) use serve::{Admission, PeerPort};

/// What the first message of a connection says when it is a peer's (RFC 7301): visitors are never
/// asked for a certificate.
pub(crate) const ALPN: &[u8] = b"nigh-peer/1";
/// `x-nigh-fetched`: how many bytes of blobs an edge has fetched since its start. While it rises,
/// those who wait for the edge know that it has not stopped.
pub(crate) const FETCHED: &str = "x-nigh-fetched";
/// The longest list of digests: as many as one pack holds, each with quotes and a comma.
pub(crate) const WANTED_MAX_BYTES: usize = 70 * nigh_proto::pack::PackHead::MAX_BLOBS;

/// Which blobs are asked for.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Wanted {
    pub(crate) digests: Vec<nigh_proto::Digest>,
}
