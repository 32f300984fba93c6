//! Answers that are not files: refusals, redirects and the health page.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use nigh_core::rules::FieldSet;

use crate::body::AnswerBody;

/// The value of `Server`.
pub(crate) const SERVER: HeaderValue = HeaderValue::from_static("nigh");
/// What files can be asked with.
pub(crate) const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A few words that nobody keeps.
pub(crate) fn text(
    method: &Method,
    status: StatusCode,
    words: &'static str,
) -> Response<AnswerBody> {
    let mut response = with_body(method, status, words);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// An answer to an authority that asks whether this edge is the host's (RFC 8555, section 8.3).
pub(crate) fn challenge(method: &Method, words: &str) -> Response<AnswerBody> {
    let mut response = with_body(method, StatusCode::OK, words.to_owned());
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// A few words with the fields that the site's rules ask for.
pub(crate) fn with_fields(
    method: &Method,
    status: StatusCode,
    words: &'static str,
    fields: &FieldSet,
) -> Response<AnswerBody> {
    let mut response = with_body(method, status, words);
    append(response.headers_mut(), fields);
    response
}

/// Adds the fields of rules.
pub(crate) fn append(headers: &mut HeaderMap, fields: &FieldSet) {
    for (name, value) in fields.iter() {
        headers.append(name, value.clone());
    }
}

fn with_body(method: &Method, status: StatusCode, words: impl Into<Bytes>) -> Response<AnswerBody> {
    let words = words.into();
    let length = words.len();
    let mut response = Response::new(match *method {
        Method::HEAD => AnswerBody::empty(),
        _ => AnswerBody::bytes(words),
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, SERVER);
    // 204 has no body and no length (RFC 9110, section 8.6).
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, TEXT);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
