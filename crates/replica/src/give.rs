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
    link::{self, CallError, Link},
    replica::Shared,
    said::Said,
};

/// Control verifies and syncs what it was given before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A state of a large fleet has tens of megabytes.
const STATE_TIMEOUT: Duration = Duration::from_secs(120);

/// Gives the whole state to a control that asks for it, since it knows nothing of what it says.
pub(crate) async fn states_for_ever(shared: &Shared) {
    let mut said = Said::default();
    loop {
        shared.state_wanted.notified().await;
        let Some(link) = shared.link() else { continue };
        let (text, revision) = {
            let document = shared.document.borrow();
            (document.text(), document.revision().0)
        };
        match state(&link, text).await {
            Ok(()) => tracing::info!(
                revision,
                "control does not know what this machine holds and asked for its state; it has it now"
            ),
            Err(error) => {
                let why = shared.told(&error);
                if said.is_news(&why) {
                    tracing::warn!(
                        why,
                        "control asked for this machine's state and did not take it"
                    );
                }
            }
        }
    }
}

async fn state(link: &Link, text: String) -> Result<(), CallError> {
    let request = link
        .fetch()
        .put(link.url("machine/v1/state"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(text);
    link::call(request, STATE_TIMEOUT).await.map(drop)
}

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
