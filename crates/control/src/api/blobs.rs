//! `/v1/blobs` and `/v1/packs`: the bytes of a push.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use nigh_proto::{
    Digest,
    access::Verb,
    api::{
        BLOB_MAX_BYTES, PACK_MEDIA_TYPE, PackStored, Problem, UPLOAD_LENGTH, UPLOAD_OFFSET,
        UPLOAD_PART_MAX_BYTES,
    },
    pack::PackHead,
};

use super::{
    body::{expect_media_type, too_large},
    caller::Caller,
    problem::Refusal,
    segments::Segments,
};
use crate::{
    app::App,
    blobs::{PartError, PartOutcome, Stands, pipe},
};

/// A whole pack, as it is sent.
pub(crate) const PACK_MAX_BYTES: u64 =
    PackHead::MAX_BODIES_BYTES + PackHead::head_bytes(PackHead::MAX_BLOBS) as u64;

/// Is a blob stored, or how much of its upload?
#[utoipa::path(head, path = "/v1/blobs/{digest}", tag = "blobs", params(("digest" = String, Path)),
    responses((status = 200), (status = 404, description = "`upload-offset` bytes of it are there")))]
pub(crate) async fn head(
    State(app): State<App>,
    caller: Caller,
    Segments(digest): Segments<Digest>,
) -> Result<Response, Refusal> {
    caller.require_scope(Verb::ReleasesPush)?;
    app.push_goes_on();
    match app.blobs().stands(digest).await? {
        Stands::Stored => Ok(StatusCode::OK.into_response()),
        Stands::Partial { offset } => {
            Ok((StatusCode::NOT_FOUND, [(UPLOAD_OFFSET, offset.to_string())]).into_response())
        }
    }
}

/// Upload a blob, or the next part of a large one.
#[utoipa::path(put, path = "/v1/blobs/{digest}", tag = "blobs",
    params(("digest" = String, Path), ("upload-length" = Option<u64>, Header),
        ("upload-offset" = Option<u64>, Header)),
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream"),
    responses((status = 201, description = "whole and verified"),
        (status = 202, description = "`upload-offset` says where the next part begins"),
        (status = 409, description = "`upload_offset`", body = Problem),
        (status = 422, description = "`digest_mismatch`", body = Problem),
        (status = 503, description = "`upload_busy`, `bucket_unavailable`", body = Problem)))]
pub(crate) async fn put(
    State(app): State<App>,
    caller: Caller,
    Segments(digest): Segments<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.require_scope(Verb::ReleasesPush)?;
    app.push_goes_on();
    put_blob(&app, digest, &headers, body).await
}

/// Takes in a blob, or the part of it that the headers say.
pub(crate) async fn put_blob(
    app: &App,
    digest: Digest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let offset = number(headers, UPLOAD_OFFSET)?.unwrap_or(0);
    let length = match number(headers, UPLOAD_LENGTH)? {
        Some(length) => length,
        None => number(headers, "content-length")?.ok_or_else(|| {
            let why = "send upload-length, or content-length for a blob in one piece";
            Refusal::new(StatusCode::LENGTH_REQUIRED, "length_required", why)
        })?,
    };
    if length > BLOB_MAX_BYTES {
        return Err(too_large(BLOB_MAX_BYTES));
    }
    if length <= u64::from(PackHead::MAX_BLOB_BYTES) {
        return put_small(app, digest, length, body).await;
    }
    let (pipe, fill) = pipe(body, UPLOAD_PART_MAX_BYTES);
    let part = app.blobs().part(digest, length, offset, pipe, app.instant());
    let (part, ()) = tokio::join!(part, fill);
    match part {
        Ok(PartOutcome::Whole) => Ok(StatusCode::CREATED.into_response()),
        Ok(PartOutcome::More { offset }) => {
            Ok((StatusCode::ACCEPTED, [(UPLOAD_OFFSET, offset.to_string())]).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn put_small(
    app: &App,
    digest: Digest,
    length: u64,
    body: Body,
) -> Result<Response, Refusal> {
    let max = PackHead::MAX_BLOB_BYTES as usize;
    let bytes = axum::body::to_bytes(body, max).await.map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "body_broken", format!("the body broke off: {error}"))
    })?;
    if bytes.len() as u64 != length {
        let why = format!("{} bytes were sent and {length} announced", bytes.len());
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "body_broken", why));
    }
    let actual = Digest::of(&bytes);
    if actual != digest {
        let why = format!("blob {digest} hashes to {actual}");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch", why));
    }
    app.blobs().insert_documents(vec![bytes.into()]).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// Upload many small blobs at once.
#[utoipa::path(post, path = "/v1/packs", tag = "blobs",
    request_body(content((Vec<u8> = "application/octet-stream"), (Vec<u8> = "application/vnd.nigh.pack"))),
    responses((status = 200, body = PackStored),
        (status = 415, description = "`media_type_unknown`", body = Problem),
        (status = 422, description = "`pack_invalid`, `digest_mismatch`", body = Problem),
        (status = 507, description = "`store_full`", body = Problem)))]
pub(crate) async fn post_pack(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PackStored>, Refusal> {
    caller.require_scope(Verb::ReleasesPush)?;
    expect_media_type(&headers, &[PACK_MEDIA_TYPE, "application/octet-stream"])?;
    app.push_goes_on();
    let (pipe, fill) = pipe(body, PACK_MAX_BYTES);
    let (inserted, ()) = tokio::join!(app.blobs().insert_pack(pipe), fill);
    app.push_goes_on();
    let inserted = inserted?;
    Ok(Json(PackStored { stored: inserted.stored, already_present: inserted.already_present }))
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_plain => Ok(Some(number)),
        _ => {
            let why = format!("{name} is not a number of bytes");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "header_invalid", why))
        }
    }
}

impl From<PartError> for Refusal {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Offset { offset } => {
                Refusal::new(StatusCode::CONFLICT, "upload_offset", error).with_offset(offset)
            }
            PartError::Length { .. } => Refusal::new(StatusCode::CONFLICT, "upload_length", error),
            PartError::Receive(source) if source.kind() == std::io::ErrorKind::FileTooLarge => {
                too_large(UPLOAD_PART_MAX_BYTES)
            }
            PartError::Receive(source) => {
                let why = format!("the part broke off: {source}");
                Refusal::new(StatusCode::BAD_REQUEST, "body_broken", why)
            }
            PartError::Insert(error) => error.into(),
            PartError::Blob(error) => error.into(),
        }
    }
}
