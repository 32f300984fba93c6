//! How large may a body be, and what if it is not what it should be?

use std::io::Read as _;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;

use super::problem::Refusal;
use crate::blobs::{Pipe, blocking, pipe};

/// The longest small JSON body.
const JSON_MAX_BYTES: u64 = 256 << 10;
/// Compressed on the wire.
const LARGE_WIRE_MAX_BYTES: u64 = 128 << 20;
/// Decoded.
const LARGE_MAX_BYTES: u64 = 256 << 20;

/// A JSON body of at most 256 KiB.
#[derive(Debug)]
pub(crate) struct Small<T>(pub(crate) T);

/// A JSON body of at most 256 MiB, which may be zstd-encoded (RFC 8878).
#[derive(Debug)]
pub(crate) struct Large<T>(pub(crate) T);

impl<T, S> FromRequest<S> for Small<T>
where
    T: DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        expect_media_type(&parts.headers, &["application/json"])?;
        refuse_encoding(&parts.headers)?;
        // An absent body stands for a document without fields.
        let read = |pipe| decode(pipe, JSON_MAX_BYTES, b"{}");
        receive(body, JSON_MAX_BYTES, read).await.map(Small)
    }
}

impl<T, S> FromRequest<S> for Large<T>
where
    T: DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        expect_media_type(&parts.headers, &["application/json"])?;
        if parts.headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding != "zstd") {
            refuse_encoding(&parts.headers)?;
            let read = |pipe| decode(pipe, LARGE_MAX_BYTES, b"");
            return receive(body, LARGE_MAX_BYTES, read).await.map(Large);
        }
        let read = |pipe: Pipe| {
            let mut frame = zstd::stream::read::Decoder::new(pipe).map_err(broken)?;
            frame.window_log_max(27).map_err(broken)?;
            decode(frame, LARGE_MAX_BYTES, b"")
        };
        receive(body, LARGE_WIRE_MAX_BYTES, read).await.map(Large)
    }
}

async fn receive<T: Send + 'static>(
    body: Body,
    max_bytes: u64,
    read: impl FnOnce(Pipe) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (pipe, fill) = pipe(body, max_bytes);
    let (read, ()) = tokio::join!(blocking(move || read(pipe)), fill);
    read
}

fn decode<T: DeserializeOwned>(
    reader: impl std::io::Read,
    max_bytes: u64,
    empty: &[u8],
) -> Result<T, Refusal> {
    let mut text = Vec::new();
    reader.take(max_bytes + 1).read_to_end(&mut text).map_err(broken)?;
    if text.len() as u64 > max_bytes {
        return Err(too_large(max_bytes));
    }
    let text = if text.is_empty() { empty } else { &text };
    serde_json::from_slice(text).map_err(|error| {
        let detail = format!("the body is not the JSON document that this route takes: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, "body_invalid", detail).with_field("", error)
    })
}

fn broken(error: std::io::Error) -> Refusal {
    if error.kind() == std::io::ErrorKind::FileTooLarge {
        return too_large(LARGE_WIRE_MAX_BYTES);
    }
    let detail = format!("the body could not be read to its end: {error}");
    Refusal::new(StatusCode::BAD_REQUEST, "body_broken", detail)
}

pub(crate) fn too_large(max_bytes: u64) -> Refusal {
    let detail = format!("the body is larger than the {max_bytes} bytes that this route takes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// Refuses a body that says it is something else; one that says nothing is taken at its word.
pub(crate) fn expect_media_type(headers: &HeaderMap, expected: &[&str]) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if expected.iter().any(|expected| essence.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let detail = format!("the body is said to be {text:?}; send content-type: {}", expected[0]);
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_unknown", detail))
}

fn refuse_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            let detail = "send the body as it is, or zstd-encoded where the route allows it";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding_unknown", detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_body_that_says_it_is_something_else_is_refused() {
        for (content_type, is_taken) in [
            (None, true),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/jsonx"), false),
            (Some("text/plain"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = content_type {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            }
            let taken = expect_media_type(&headers, &["application/json"]);
            assert_eq!(taken.is_ok(), is_taken, "{content_type:?}");
        }
    }
}
