//! Was this very request made before (draft-ietf-httpapi-idempotency-key-header)?
//!
//! A `POST` with an `Idempotency-Key` is done once: sent again with the same key and body it gets the
//! answer that it got, on whichever control. Only what was done is kept; a refusal has changed
//! nothing, so the same request may be tried again. Packs need no key: the same one twice does no
//! harm, and they are too large to look at twice.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::{FromRequestParts as _, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use nigh_proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::{caller::Caller, problem::Refusal};
use crate::{
    app::App,
    store::{Claim, KeptAnswer, RENEW_MS},
};

const KEY: &str = "idempotency-key";
/// On an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";
const KEY_MAX_BYTES: usize = 255;
/// Longer answers are not kept.
const ANSWER_MAX_BYTES: u64 = 1 << 20;
/// So much of a body is read before anything is done, that its whole fingerprint is known even
/// when nobody reads it.
const AHEAD_MAX_BYTES: usize = 256 << 10;
/// How long a body may take that is read only for its fingerprint, or ahead.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// Fields that are kept with an answer.
const KEPT_FIELDS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::LINK];

/// Answers a request once.
pub(crate) async fn idempotent(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_pack = request.uri().path() == "/v1/packs";
    if request.method() != Method::POST || is_pack {
        return next.run(request).await;
    }
    match key(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => {
            once(&app, &key, request, next).await.unwrap_or_else(Refusal::into_response)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// The key of a request; the quotes of a structured field are optional.
fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_key = (1..=KEY_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if is_key && values.next().is_none() {
        return Ok(Some(text.to_owned()));
    }
    let why = "Idempotency-Key is one text of 1 to 255 visible ASCII characters";
    Err(Refusal::new(StatusCode::BAD_REQUEST, "idempotency_key_invalid", why))
}

async fn once(app: &App, key: &str, request: Request, next: Next) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, app).await?;
    let id = id_of(caller.0.id.as_str(), target(&parts.uri), key);
    match app.store().claim_key(&id, &caller.0.id, app.now()).await? {
        Claim::Mine { since } => {
            // A body may take long to come, and what it asks for long to be done.
            let held = holding(app, &id, since, read_ahead(body)).await;
            let (body, print) = match held {
                Ok(read) => read,
                Err(refusal) => {
                    app.store().release_key(&id, since).await?;
                    return Err(refusal);
                }
            };
            let response = next.run(Request::from_parts(parts, body));
            let response = holding(app, &id, since, response).await;
            let (response, kept) = keepable(response, &print).await;
            let done = match kept {
                Some(answer) => app.store().keep_answer(&id, since, &answer).await,
                None => app.store().release_key(&id, since).await,
            };
            // What was done is done, whether it is remembered or not.
            if let Err(error) = done {
                tracing::warn!(%error, "an answer to an idempotency key was not kept");
            }
            Ok(response)
        }
        Claim::Busy => {
            let why = "a request with this Idempotency-Key is being answered; ask again soon";
            Err(Refusal::new(StatusCode::CONFLICT, "idempotency_running", why).retry_after(1))
        }
        Claim::Answered(answer) => {
            let print = fingerprint(body).await?;
            if print[..] != answer.fingerprint[..] {
                let why = "this Idempotency-Key was used with another body; take a new one";
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Err(Refusal::new(status, "idempotency_key_reused", why));
            }
            Ok(replayed(&answer))
        }
    }
}

/// Does `work` and renews the claim of `since` meanwhile, so that another control takes over what
/// one began only when that one is gone.
async fn holding<T>(
    app: &App,
    id: &[u8; 32],
    since: Timestamp,
    work: impl Future<Output = T>,
) -> T {
    let renewing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(RENEW_MS)).await;
            if let Err(error) = app.store().renew_claim(id, since, app.now()).await {
                tracing::debug!(%error, "a claim of an idempotency key was not renewed");
            }
        }
    };
    tokio::select! {
        done = work => done,
        () = renewing => unreachable!("it renews until it is dropped"),
    }
}

/// What is asked for, by whatever name and port control is reached: HTTP/2 has them in the URI.
fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or(uri.path(), PathAndQuery::as_str)
}

fn id_of(token: &str, target: &str, key: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [token, target, key] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The hash of everything that has passed, and whether that is all.
#[derive(Clone, Default)]
struct Print(Arc<Mutex<(blake3::Hasher, bool)>>);

impl Print {
    fn pass(&self, piece: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.update(piece);
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
    }

    fn whole(&self) -> Option<[u8; 32]> {
        let print = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        print.1.then(|| *print.0.finalize().as_bytes())
    }
}

fn broken(error: &axum::Error) -> Refusal {
    let why = format!("the body could not be read to its end: {error}");
    Refusal::new(StatusCode::BAD_REQUEST, "body_broken", why)
}

fn slow() -> Refusal {
    let why = format!("the body did not arrive within {BODY_TIMEOUT:?}");
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_slow", why)
}

/// Reads the beginning of a body. What is left of it is hashed when somebody reads it.
async fn read_ahead(body: Body) -> Result<(Body, Print), Refusal> {
    let print = Print::default();
    let mut pieces = body.into_data_stream();
    let mut ahead: Vec<Result<Bytes, axum::Error>> = Vec::new();
    let mut ahead_bytes = 0;
    let reading = async {
        while ahead_bytes < AHEAD_MAX_BYTES {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    print.pass(&piece);
                    ahead_bytes += piece.len();
                    ahead.push(Ok(piece));
                }
                Some(Err(error)) => return Err(broken(&error)),
                None => {
                    print.end();
                    break;
                }
            }
        }
        Ok(())
    };
    tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| slow())??;
    let passing = print.clone();
    let rest = stream::unfold(Some((pieces, passing)), |state| async move {
        let (mut pieces, passing): (_, Print) = state?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                passing.pass(&piece);
                Some((Ok(piece), Some((pieces, passing))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => {
                passing.end();
                None
            }
        }
    });
    Ok((Body::from_stream(stream::iter(ahead).chain(rest)), print))
}

/// The hash of a body that nobody needs otherwise.
async fn fingerprint(body: Body) -> Result<[u8; 32], Refusal> {
    let mut hasher = blake3::Hasher::new();
    let mut pieces = body.into_data_stream();
    let reading = async {
        while let Some(piece) = pieces.next().await {
            hasher.update(&piece.map_err(|error| broken(&error))?);
        }
        Ok::<_, Refusal>(())
    };
    tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| slow())??;
    Ok(*hasher.finalize().as_bytes())
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    fields: Vec<(String, String)>,
    body: String,
}

/// The answer, and what of it is to be kept.
async fn keepable(response: Response, print: &Print) -> (Response, Option<KeptAnswer>) {
    let size = response.body().size_hint().exact();
    let is_short = size.is_some_and(|size| size <= ANSWER_MAX_BYTES);
    let whole = print.whole().filter(|_| response.status().is_success() && is_short);
    let Some(print) = whole else { return (response, None) };
    let (head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ANSWER_MAX_BYTES as usize).await else {
        return (StatusCode::INTERNAL_SERVER_ERROR.into_response(), None);
    };
    let field = |name: &HeaderName| {
        let value = head.headers.get(name)?.to_str().ok()?;
        Some((name.to_string(), value.to_owned()))
    };
    let fields = KEPT_FIELDS.iter().filter_map(field).collect();
    let kept = String::from_utf8(body.to_vec()).ok().and_then(|body| {
        let text = serde_json::to_string(&Answer { fields, body }).ok()?;
        Some(KeptAnswer { fingerprint: print.to_vec(), status: head.status.as_u16(), text })
    });
    (Response::from_parts(head, Body::from(body)), kept)
}

fn replayed(kept: &KeptAnswer) -> Response {
    let Ok(Answer { fields, body }) = serde_json::from_str(&kept.text) else {
        let why = "the answer that was kept cannot be read";
        return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why).into_response();
    };
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Result<Option<String>, Refusal> {
        key(&HeaderMap::from_iter([(
            HeaderName::from_static(KEY),
            HeaderValue::from_str(value).unwrap(),
        )]))
    }

    #[test]
    fn a_key_is_the_same_with_quotes_and_without() {
        assert_eq!(read("abc").unwrap(), read("\"abc\"").unwrap());
        for wrong in ["", "\"\"", "a b", "a\"b", &"x".repeat(256)] {
            assert_eq!(read(wrong).unwrap_err().code, "idempotency_key_invalid");
        }
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn the_same_key_is_another_for_others_and_elsewhere() {
        let own = id_of("a", "/v1/sites", "k");
        assert_ne!(own, id_of("b", "/v1/sites", "k"));
        assert_ne!(own, id_of("a", "/v1/site", "sk"));
    }

    #[test]
    fn a_request_is_the_same_on_every_control() {
        for uri in
            ["/v1/sites?a=b", "https://a.test/v1/sites?a=b", "https://b.test:8443/v1/sites?a=b"]
        {
            assert_eq!(target(&uri.parse::<Uri>().unwrap()), "/v1/sites?a=b");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_a_key_or_refused(value in "[ -~]{0,300}") {
            if let Ok(Some(key)) = read(&value) {
                prop_assert!((1..=KEY_MAX_BYTES).contains(&key.len()));
            }
        }

        #[test]
        fn a_body_passes_through_and_is_hashed_whole(length in 0usize..600_000) {
            let text = vec![b'x'; length];
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let pieces: Vec<_> =
                    text.chunks(50_000).map(|piece| Ok::<_, axum::Error>(Bytes::copy_from_slice(piece))).collect();
                let (body, print) = read_ahead(Body::from_stream(stream::iter(pieces))).await.unwrap();
                assert_eq!(print.whole().is_some(), length < AHEAD_MAX_BYTES);
                assert_eq!(to_bytes(body, usize::MAX).await.unwrap(), text);
                assert_eq!(print.whole(), Some(*blake3::hash(&text).as_bytes()));
                assert_eq!(fingerprint(Body::from(text.clone())).await.unwrap(), *blake3::hash(&text).as_bytes());
            });
        }
    }
}
