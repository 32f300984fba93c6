//! How does an edge get the bytes of blobs that it misses?

use std::{fmt, io, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use nigh_proto::{Digest, api::BLOB_MAX_BYTES, locations::BUCKET_FIELD, pack::PackHead};
use reqwest::{Response, StatusCode, header};
use serde::Serialize;

use crate::{
    link::{self, CallError, Link},
    objects::Objects,
};

/// The raw bytes of all blobs of one [`fetch_pack`](crate::Replica::fetch_pack) together, at most.
pub const PACK_RAW_BYTES_MAX: u64 = 48 << 20;

/// An answer begins within this time; control may have to read a lot first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A body as it comes. It ends in an error when it stands still for 15 s while it is waited for,
/// or is longer than was asked for.
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
pub(crate) async fn pack(
    link: &Link,
    objects: &Objects,
    digests: &[Digest],
) -> Result<ByteStream, FetchError> {
    let request = link.fetch().post(link.url("machine/v1/packs")).json(&Wanted { digests });
    let response = link::call(request, ANSWER_TIMEOUT).await?;
    objects.note(response.headers().contains_key(BUCKET_FIELD));
    let head_bytes = PackHead::head_bytes(digests.len().min(PackHead::MAX_BLOBS)) as u64;
    stream(response, head_bytes + PackHead::MAX_BODIES_BYTES)
}

/// The raw bytes of `digest` from `offset` on.
pub(crate) async fn blob(
    link: &Link,
    objects: &Objects,
    digest: &Digest,
    offset: u64,
) -> Result<ByteStream, FetchError> {
    let mut request = link.fetch().get(link.url(&format!("machine/v1/blobs/{digest}")));
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
    }
    let response = match link::call(request, ANSWER_TIMEOUT).await {
        Err(CallError::Refused { status: StatusCode::NOT_FOUND, .. }) => {
            return Err(FetchError::Unknown { digest: *digest });
        }
        answered => answered?,
    };
    objects.note(response.headers().contains_key(BUCKET_FIELD));
    let first = first_byte(&response);
    if first != Some(offset) {
        let sent = first.map_or("something else".to_owned(), |first| format!("those from {first}"));
        let detail = format!("asked for the bytes from {offset} on and was sent {sent}");
        return Err(FetchError::Refused { status: response.status().as_u16(), detail });
    }
    stream(response, BLOB_MAX_BYTES.saturating_sub(offset))
}

/// What control says of the pieces of `digest`.
pub(crate) async fn outline(
    link: &Link,
    digest: &Digest,
    max_bytes: u64,
) -> Result<Bytes, FetchError> {
    let request = link.fetch().get(link.url(&format!("machine/v1/blobs/{digest}/outline")));
    let response = match link::call(request, ANSWER_TIMEOUT).await {
        Err(CallError::Refused { status: StatusCode::NOT_FOUND, .. }) => {
            return Err(FetchError::Unknown { digest: *digest });
        }
        answered => answered?,
    };
    let collected = stream(response, max_bytes)?.try_collect::<Vec<Bytes>>().await;
    match collected {
        Ok(pieces) => Ok(pieces.concat().into()),
        Err(error) => Err(FetchError::Unreachable { source: error.into() }),
    }
}

/// Where in the blob the body of `response` begins.
fn first_byte(response: &Response) -> Option<u64> {
    match response.status() {
        StatusCode::OK => Some(0),
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
            let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
            first.parse().ok()
        }
        _ => None,
    }
}

/// The body of `response`, which has at most `max_bytes`.
fn stream(response: Response, max_bytes: u64) -> Result<ByteStream, FetchError> {
    if let Some(bytes) = response.content_length().filter(|&bytes| bytes > max_bytes) {
        let detail = format!("{bytes} bytes are more than the {max_bytes} that it may send");
        return Err(FetchError::Refused { status: response.status().as_u16(), detail });
    }
    Ok(ByteStream::new(stream::unfold(Some((response, max_bytes)), |state| async {
        let (mut response, left) = state?;
        let chunk = match link::next_chunk(&mut response).await {
            Ok(chunk) => chunk?,
            Err(error) => return Some((Err(io::Error::other(error)), None)),
        };
        match left.checked_sub(chunk.len() as u64) {
            Some(left) => Some((Ok(chunk), Some((response, left)))),
            None => Some((Err(io::Error::other("control sent more than it was asked for")), None)),
        }
    })))
}
