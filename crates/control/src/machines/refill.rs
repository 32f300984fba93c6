//! `PUT /machine/v1/packs` and `PUT /machine/v1/blobs/{digest}`: edges give back what control lost.
//!
//! Only what control asked for is taken: a machine is no way into the blob store.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use nigh_proto::{Digest, api::PACK_MEDIA_TYPE};

use super::Machine;
use crate::{
    api::{Segments, expect_media_type, problem::Refusal, put_blob},
    app::App,
    blobs::pipe,
};

/// Takes in a pack of blobs that this machine was asked for.
pub(crate) async fn pack(
    State(app): State<App>,
    Machine(_): Machine,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    expect_media_type(&headers, &[PACK_MEDIA_TYPE])?;
    if app.wanted().len() == 0 {
        return Err(unwanted());
    }
    let (pipe, fill) = pipe(body, crate::api::PACK_MAX_BYTES);
    let (inserted, ()) = tokio::join!(app.blobs().insert_pack(pipe), fill);
    inserted?;
    app.refilled().notify_one();
    Ok(StatusCode::NO_CONTENT)
}

/// Takes in a blob, or the next part of a large one.
pub(crate) async fn blob(
    State(app): State<App>,
    Machine(_): Machine,
    Segments(digest): Segments<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    if !app.wanted().contains(&digest) {
        return Err(unwanted());
    }
    let answer = put_blob(&app, digest, &headers, body).await?;
    app.refilled().notify_one();
    Ok(answer)
}

fn unwanted() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "not_wanted", "control has not asked for this")
}
