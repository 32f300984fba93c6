//! How large may a body be, and what if it is not what it should be?

use std::{io::Read as _, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::{
    json::{self, Sender, Wrong},
    problem::Refusal,
};
use crate::blobs::{Pipe, blocking, pipe};

/// The longest small JSON body, unless its route says otherwise.
const JSON_MAX_BYTES: usize = 256 << 10;
/// How long a small body may take to arrive, as a whole.
const SMALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer ones are read as JSON on a thread that may block.
const QUICK_MAX_BYTES: usize = 256 << 10;
/// Compressed on the wire.
const LARGE_WIRE_MAX_BYTES: u64 = 128 << 20;
/// Decoded.
const LARGE_MAX_BYTES: u64 = 256 << 20;
/// How long a large body may take to arrive, as a whole.
const LARGE_TIMEOUT: Duration = Duration::from_secs(300);
/// Large bodies taken in at once; each holds a thread and its text in memory.
static LARGE_PLACES: Semaphore = Semaphore::const_new(4);

/// A JSON body of at most `MAX_BYTES`. No thread waits for it: strangers may send one.
#[derive(Debug)]
pub(crate) struct Small<T, const MAX_BYTES: usize = JSON_MAX_BYTES>(pub(crate) T);

/// The like from a machine.
#[derive(Debug)]
pub(crate) struct OfMachine<T, const MAX_BYTES: usize>(pub(crate) T);

/// A JSON body of at most 256 MiB, which may be zstd-encoded (RFC 8878).
#[derive(Debug)]
pub(crate) struct Large<T>(pub(crate) T);

/// A JSON merge patch (RFC 7396) that is as short as any small body.
#[derive(Debug)]
pub(crate) struct Patch<T>(pub(crate) T);

impl<T, S> FromRequest<S> for Patch<T>
where
    T: DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let kinds = ["application/merge-patch+json", "application/json"];
        expect_media_type(request.headers(), &kinds)?;
        parse(&small(request, JSON_MAX_BYTES).await?, Sender::Person).map(Patch)
    }
}

/// The text of a small body.
async fn small(request: Request, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let (parts, body) = request.into_parts();
    refuse_encoding(&parts.headers)?;
    let text = tokio::time::timeout(SMALL_TIMEOUT, collect(body, max_bytes)).await;
    text.map_err(|_| too_slow(SMALL_TIMEOUT))?
}

impl<T, S, const MAX_BYTES: usize> FromRequest<S> for Small<T, MAX_BYTES>
where
    T: DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        read_small(request, MAX_BYTES, Sender::Person).await.map(Small)
    }
}

impl<T, S, const MAX_BYTES: usize> FromRequest<S> for OfMachine<T, MAX_BYTES>
where
    T: DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        read_small(request, MAX_BYTES, Sender::Machine).await.map(OfMachine)
    }
}

async fn read_small<T: DeserializeOwned + Send + 'static>(
    request: Request,
    max_bytes: usize,
    sender: Sender,
) -> Result<T, Refusal> {
    expect_media_type(request.headers(), &["application/json"])?;
    let text = small(request, max_bytes).await?;
    match text.len() {
        // An absent body stands for a document without fields.
        0 => parse(b"{}", sender),
        1..=QUICK_MAX_BYTES => parse(&text, sender),
        _ => blocking(move || parse(&text, sender)).await,
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
            let read = |pipe| decode(pipe, LARGE_MAX_BYTES);
            return receive(body, LARGE_MAX_BYTES, read).await.map(Large);
        }
        let read = |pipe: Pipe| {
            let mut frame = zstd::stream::read::Decoder::new(pipe).map_err(broken)?;
            frame.window_log_max(27).map_err(broken)?;
            decode(frame, LARGE_MAX_BYTES)
        };
        receive(body, LARGE_WIRE_MAX_BYTES, read).await.map(Large)
    }
}

async fn receive<T: Send + 'static>(
    body: Body,
    max_bytes: u64,
    read: impl FnOnce(Pipe) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let received = async {
        let _place = LARGE_PLACES.acquire().await.expect("this semaphore is never closed");
        let (pipe, fill) = pipe(body, max_bytes);
        let (read, ()) = tokio::join!(blocking(move || read(pipe)), fill);
        read
    };
    tokio::time::timeout(LARGE_TIMEOUT, received).await.map_err(|_| too_slow(LARGE_TIMEOUT))?
}

async fn collect(body: Body, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| unread(&error))?;
        if piece.len() > max_bytes - text.len() {
            return Err(too_large(max_bytes as u64));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

fn decode<T: DeserializeOwned>(reader: impl std::io::Read, max_bytes: u64) -> Result<T, Refusal> {
    let mut text = Vec::new();
    reader.take(max_bytes + 1).read_to_end(&mut text).map_err(broken)?;
    if text.len() as u64 > max_bytes {
        return Err(too_large(max_bytes));
    }
    parse(&text, Sender::Person)
}

fn parse<T: DeserializeOwned>(text: &[u8], sender: Sender) -> Result<T, Refusal> {
    json::read(text, sender).map_err(|Wrong { pointer, why }| {
        let detail = format!("the body is not the JSON document that this route takes: {why}");
        Refusal::new(StatusCode::BAD_REQUEST, "body_invalid", detail).with_field(&pointer, why)
    })
}

fn broken(error: std::io::Error) -> Refusal {
    if error.kind() == std::io::ErrorKind::FileTooLarge {
        return too_large(LARGE_WIRE_MAX_BYTES);
    }
    unread(&error)
}

fn unread(error: &dyn std::error::Error) -> Refusal {
    let detail = format!("the body could not be read to its end: {error}");
    Refusal::new(StatusCode::BAD_REQUEST, "body_broken", detail)
}

fn too_slow(timeout: Duration) -> Refusal {
    let detail = format!("the body did not arrive within {timeout:?}");
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_slow", detail)
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
    use std::collections::BTreeMap;

    use futures_util::FutureExt as _;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_small_body_that_never_comes_holds_no_thread() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let never =
                Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>());
            let mut stalled = Box::pin(Small::<()>::from_request(Request::new(never), &()));
            assert!(stalled.as_mut().now_or_never().is_none());
            let work = tokio::time::timeout(Duration::from_secs(5), blocking(|| ()));
            assert!(work.await.is_ok(), "the only thread waits for the body");
        });
    }

    #[tokio::test]
    async fn a_body_may_be_as_long_as_its_route_takes() {
        type Numbers = BTreeMap<String, u32>;
        let sent =
            |text: &'static str| Small::<Numbers, 7>::from_request(Request::new(text.into()), &());
        assert_eq!(sent("{\"a\":1}").await.unwrap().0["a"], 1);
        let long = sent("{\"a\":10}").await.unwrap_err();
        assert_eq!((long.status, long.code), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    }

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
