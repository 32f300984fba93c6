//! How does a machine give control back what control has lost?

use std::time::Duration;

use bytes::Bytes;
use nigh_proto::{
    Digest,
    api::{PACK_MEDIA_TYPE, UPLOAD_LENGTH, UPLOAD_OFFSET},
};
use reqwest::header;

use crate::{
    fetch::FetchError,
    link::{self, Link},
};

/// Control verifies and syncs what it was given before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Gives blobs that control asked for, in one pack.
pub(crate) async fn pack(link: &Link, pack: Bytes) -> Result<(), FetchError> {
    let request = link
        .fetch()
        .put(link.url("machine/v1/packs"))
        .header(header::CONTENT_TYPE, PACK_MEDIA_TYPE)
        .body(pack);
    link::call(request, ANSWER_TIMEOUT).await?;
    Ok(())
}

/// Gives the part of a blob of `size_bytes` that begins at `offset`.
pub(crate) async fn part(
    link: &Link,
    digest: &Digest,
    size_bytes: u64,
    offset: u64,
    part: Bytes,
) -> Result<(), FetchError> {
    let request = link
        .fetch()
        .put(link.url(&format!("machine/v1/blobs/{digest}")))
        .header(UPLOAD_LENGTH, size_bytes)
        .header(UPLOAD_OFFSET, offset)
        .body(part);
    link::call(request, ANSWER_TIMEOUT).await?;
    Ok(())
}
