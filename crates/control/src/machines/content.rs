//! `POST /machine/v1/packs`, `GET /machine/v1/blobs/{digest}`, its `/outline`, and
//! `POST /machine/v1/locations`: what edges stage, or where they find it.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use nigh_core::blob::ReadError;
use nigh_proto::{
    Digest,
    api::PACK_MEDIA_TYPE,
    locations::{self, BUCKET_FIELD, Locations},
    pack::PackHead,
};
use serde::Deserialize;

use super::Machine;
use crate::{
    api::{OfMachine, Segments, problem::Refusal},
    app::App,
    blobs::{PipeWriter, blocking, stream},
};

const BUFFER_BYTES: usize = 128 << 10;
/// The longest list of digests: as many as one pack holds, each with quotes, a comma and a space.
const WANTED_MAX_BYTES: usize = 70 * PackHead::MAX_BLOBS;

/// Which blobs are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    digests: Vec<Digest>,
}

/// A pack with those small blobs that control has. What is missing, large, or too much for one
/// pack is not in it: the machine asks again.
pub(crate) async fn pack(
    State(app): State<App>,
    Machine(machine): Machine,
    OfMachine(Wanted { mut digests }): OfMachine<Wanted, WANTED_MAX_BYTES>,
) -> Result<Response, Refusal> {
    if digests.len() > PackHead::MAX_BLOBS {
        let why = format!("ask for at most {} blobs at once", PackHead::MAX_BLOBS);
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many", why));
    }
    app.blobs().fetch(&digests).await?;
    let (blobs, store) = (app.blobs().clone(), app.blobs().store().clone());
    let mut seen = std::collections::HashSet::with_capacity(digests.len());
    let mut left = PackHead::MAX_BODIES_BYTES;
    digests.retain(|digest| {
        let Some(stat) = store.stat(digest).filter(|stat| !stat.is_loose) else { return false };
        let is_taken = stat.stored_len <= left && seen.insert(*digest);
        if is_taken {
            left -= stat.stored_len;
        }
        is_taken
    });
    drop(seen);
    let (mut writer, body) = stream();
    let send = move || {
        if let Err(error) = store.write_pack(&digests, &mut writer) {
            tracing::warn!(%error, machine.name = %machine.name, "a pack for {} broke off", machine.name);
            writer.fail(io::Error::other(error));
        }
    };
    blobs.send(send).await;
    let pack = ([(header::CONTENT_TYPE, PACK_MEDIA_TYPE)], counted(&app, body));
    Ok(with_bucket(&app, pack.into_response()))
}

/// Where blobs are in control's bucket.
pub(crate) async fn locations(
    State(app): State<App>,
    Machine(machine): Machine,
    OfMachine(wanted): OfMachine<locations::Wanted, WANTED_MAX_BYTES>,
) -> Result<Json<Locations>, Refusal> {
    let Some(remote) = app.blobs().remote() else {
        let why = "control keeps its blobs in a folder; ask for the blobs themselves";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "no_bucket", why));
    };
    let locations::Wanted { digests, complaints } = wanted;
    if digests.len() > PackHead::MAX_BLOBS || complaints.len() > locations::COMPLAINTS_MAX {
        let why = format!("ask for at most {} blobs at once", PackHead::MAX_BLOBS);
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many", why));
    }
    for object in &complaints {
        tracing::warn!(object, machine.name = %machine.name, "{} says that {object} is gone or damaged", machine.name);
        remote.suspect(object).await?;
    }
    Ok(Json(remote.locations(&digests).await?))
}

/// A body whose bytes are counted as they leave.
fn counted<E>(app: &App, body: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Body
where
    E: Into<axum::BoxError> + 'static,
{
    let sent = app.metrics().sent_bytes.clone();
    Body::from_stream(body.inspect_ok(move |piece| _ = sent.inc_by(piece.len() as u64)))
}

/// Says that blobs are in a bucket, when they are.
fn with_bucket(app: &App, mut response: Response) -> Response {
    if app.blobs().remote().is_some() {
        response.headers_mut().insert(BUCKET_FIELD, HeaderValue::from_static("1"));
    }
    response
}

/// The raw bytes of a blob, from `Range: bytes=N-` on.
pub(crate) async fn blob(
    State(app): State<App>,
    Machine(_): Machine,
    Segments(digest): Segments<Digest>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let raw_len = app.blobs().sizes(&[digest]).await?.remove(&digest);
    let here = app.blobs().stat(&digest);
    let raw_len = here.map(|stat| stat.raw_len).or(raw_len).ok_or(ReadError::Missing { digest })?;
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let offset = range.and_then(first_byte).unwrap_or(0);
    if offset > 0 && offset >= raw_len {
        let why = format!("blob {digest} has {raw_len} bytes");
        return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", why));
    }
    let is_large = raw_len > u64::from(PackHead::MAX_BLOB_BYTES);
    let body = if is_large && here.is_none() {
        let body = app.blobs().open_remote(digest, offset).await?;
        let body = body.ok_or(ReadError::Missing { digest })?;
        counted(&app, body.into_stream())
    } else if here.is_some_and(|stat| stat.is_loose) {
        let store = app.blobs().store().clone();
        let (file, _) = blocking(move || store.open_loose(&digest)).await?;
        let (writer, body) = stream();
        app.blobs().send(move || send(file, offset, writer)).await;
        counted(&app, body)
    } else {
        let bytes = app.blobs().read(digest, u64::from(PackHead::MAX_BLOB_BYTES)).await?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let rest = Bytes::from(bytes).slice(offset..);
        app.metrics().sent_bytes.inc_by(rest.len() as u64);
        rest.into()
    };
    let length = (raw_len - offset).to_string();
    let status = if offset > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut fields: Vec<(HeaderName, String)> = vec![
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length),
    ];
    if offset > 0 {
        let (last, total) = (raw_len - 1, raw_len);
        fields.push((header::CONTENT_RANGE, format!("bytes {offset}-{last}/{total}")));
    }
    let mut response = (status, body).into_response();
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(with_bucket(&app, response))
}

/// The outline of a large blob that control has in its folder.
pub(crate) async fn outline(
    State(app): State<App>,
    Machine(_): Machine,
    Segments(digest): Segments<Digest>,
) -> Result<Response, Refusal> {
    let outline = app.blobs().outline(digest).await?.ok_or(ReadError::Missing { digest })?;
    app.metrics().sent_bytes.inc_by(outline.len() as u64);
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], outline).into_response())
}

/// N of `bytes=N-`; other ranges are answered with the whole (RFC 9110, section 14.2).
fn first_byte(range: &str) -> Option<u64> {
    let digits = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn send(mut file: File, offset: u64, mut to: PipeWriter) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut copy = || -> io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                length => to.write_all(&buffer[..length])?,
            }
        }
    };
    if let Err(error) = copy() {
        to.fail(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_range_to_the_end_is_understood() {
        for (range, first) in [
            ("bytes=0-", Some(0)),
            ("bytes=1048577-", Some(1_048_577)),
            ("bytes=-5", None),
            ("bytes=1-2", None),
            ("bytes=-", None),
            ("bytes=99999999999999999999-", None),
            ("lines=1-", None),
        ] {
            assert_eq!(first_byte(range), first, "{range}");
        }
    }
}
