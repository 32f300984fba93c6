//! How does an edge get the bytes of blobs that it misses?

use std::{fmt, io, pin::Pin};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use nigh_proto::Digest;
use reqwest::{StatusCode, header};
use serde::Serialize;

use crate::link::{self, CallError, Link};

/// The raw bytes of all blobs of one [`fetch_pack`](crate::Replica::fetch_pack) together, at most.
pub const PACK_RAW_BYTES_MAX: u64 = 48 << 20;

/// A body as it comes.
pub struct ByteStream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>);

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

impl Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl ByteStream {
    /// A body of `pieces`, for sources other than control.
    pub fn new(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        ByteStream(Box::pin(pieces))
    }
}

/// Why blobs did not come. All are worth another try later.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("this machine has not joined yet")]
    NotJoined,
    #[error("control does not have blob {digest}")]
    Unknown { digest: Digest },
    #[error("control refused ({status}): {detail}")]
    Refused { status: u16, detail: String },
    #[error("control cannot be reached")]
    Unreachable { source: Box<dyn std::error::Error + Send + Sync> },
}

impl From<CallError> for FetchError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { status, detail } => {
                FetchError::Refused { status: status.as_u16(), detail }
            }
            other => FetchError::Unreachable { source: Box::new(other) },
        }
    }
}

#[derive(Serialize)]
struct Wanted<'a> {
    digests: &'a [Digest],
}

/// A pack with those of `digests` that control has.
pub(crate) async fn pack(link: &Link, digests: &[Digest]) -> Result<ByteStream, FetchError> {
    let url = link.url("machine/v1/packs");
    let sent = link.fetch().post(url).json(&Wanted { digests }).send().await;
    Ok(stream(link::success(sent).await?))
}

/// The raw bytes of `digest` from `offset` on.
pub(crate) async fn blob(
    link: &Link,
    digest: &Digest,
    offset: u64,
) -> Result<ByteStream, FetchError> {
    let mut request = link.fetch().get(link.url(&format!("machine/v1/blobs/{digest}")));
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
    }
    let response = match link::success(request.send().await).await {
        Err(CallError::Refused { status: StatusCode::NOT_FOUND, .. }) => {
            return Err(FetchError::Unknown { digest: *digest });
        }
        answered => answered?,
    };
    if offset > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
        let detail = format!("asked for bytes from {offset} on and was sent all of them");
        return Err(FetchError::Refused { status: response.status().as_u16(), detail });
    }
    Ok(stream(response))
}

fn stream(response: reqwest::Response) -> ByteStream {
    ByteStream::new(response.bytes_stream().map_err(io::Error::other))
}
