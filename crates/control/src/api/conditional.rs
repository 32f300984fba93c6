//! Does the client have this already, and has it seen what it changes (RFC 9110, section 13)?

use std::convert::Infallible;

use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use nigh_proto::Digest;

use super::problem::Refusal;
use crate::app::Expected;

/// Longer answers have no entity tag.
const TAGGED_MAX_BYTES: u64 = 4 << 20;
/// Entity tags of one field that are looked at.
const TAGS_MAX: usize = 64;

/// Counts the edits of what an answer shows: the first part of its entity tag.
#[derive(Clone, Debug)]
pub(crate) struct Edits(pub(crate) String);

/// An answer together with the edits of what it shows.
#[derive(Debug)]
pub(crate) struct Edited<T>(pub(crate) String, pub(crate) T);

impl<T: IntoResponse> IntoResponse for Edited<T> {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        response.extensions_mut().insert(Edits(self.0));
        response
    }
}

/// `If-Match` of a change that may be blind.
pub(crate) struct IfMatch(pub(crate) Expected);

/// `If-Match` of a change that may not.
pub(crate) struct MustMatch(pub(crate) Expected);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(IfMatch(expected(&parts.headers)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MustMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match expected(&parts.headers) {
            Expected::Anything => {
                let why = "send If-Match with the entity tag of what is to be changed, or * to \
                           change it whatever it is now";
                let status = StatusCode::PRECONDITION_REQUIRED;
                Err(Refusal::new(status, "precondition_required", why))
            }
            expected => Ok(MustMatch(expected)),
        }
    }
}

fn expected(headers: &HeaderMap) -> Expected {
    match tags(headers, header::IF_MATCH) {
        None => Expected::Anything,
        Some(Tags::Any) => Expected::Something,
        Some(Tags::List(tags)) => {
            // Weak tags never match here (RFC 9110, section 13.1.1).
            Expected::Tags(tags.into_iter().filter_map(|tag| tag.strong()).collect())
        }
    }
}

enum Tags {
    Any,
    List(Vec<Tag>),
}

struct Tag {
    is_weak: bool,
    text: String,
}

impl Tag {
    fn strong(self) -> Option<String> {
        (!self.is_weak).then_some(self.text)
    }
}

/// The entity tags of a field; what is none counts as one that matches nothing.
fn tags(headers: &HeaderMap, name: header::HeaderName) -> Option<Tags> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let lines = values.filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    if all == ["*"] {
        return Some(Tags::Any);
    }
    let tag = |text: &str| {
        let (is_weak, quoted) = match text.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let text = quoted.strip_prefix('"')?.strip_suffix('"')?.to_owned();
        Some(Tag { is_weak, text })
    };
    Some(Tags::List(all.into_iter().take(TAGS_MAX).filter_map(tag).collect()))
}

/// Gives an answer its entity tag, and answers 304 to who has it already.
pub(crate) async fn tagged(method: &Method, asked: &HeaderMap, response: Response) -> Response {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("application/json")));
    let size = response.body().size_hint().exact();
    let is_short = size.is_some_and(|size| size <= TAGGED_MAX_BYTES);
    if method != Method::GET || response.status() != StatusCode::OK || !is_json || !is_short {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, TAGGED_MAX_BYTES as usize).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let hash = Digest::of(&body).to_string();
    let tag = match head.extensions.get::<Edits>() {
        Some(Edits(edits)) => format!("{edits}-{}", &hash[..16]),
        None => hash[..16].to_owned(),
    };
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        head.headers.insert(header::ETAG, value);
    }
    let kept = HeaderValue::from_static("private, no-cache");
    head.headers.entry(header::CACHE_CONTROL).or_insert(kept);
    let has_it = match tags(asked, header::IF_NONE_MATCH) {
        Some(Tags::Any) => true,
        Some(Tags::List(tags)) => tags.iter().any(|known| known.text == tag),
        None => false,
    };
    if !has_it {
        return Response::from_parts(head, Body::from(body));
    }
    head.status = StatusCode::NOT_MODIFIED;
    head.headers.remove(header::CONTENT_TYPE);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::empty())
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    async fn answer(asked: &HeaderMap) -> Response {
        tagged(&Method::GET, asked, Edited("a1".to_owned(), Json("x")).into_response()).await
    }

    #[tokio::test]
    async fn who_has_it_is_not_sent_it_again() {
        let first = answer(&HeaderMap::new()).await;
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with("\"a1-"));
        for (value, status) in [
            (tag.clone(), 304),
            (format!("\"other\", W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            ("other".to_owned(), 200),
        ] {
            let again = answer(&headers(header::IF_NONE_MATCH, &value)).await;
            assert_eq!(again.status().as_u16(), status, "{value}");
            assert_eq!(again.headers()[header::ETAG], tag);
        }
    }

    proptest! {
        #[test]
        fn any_field_is_read(value in "[ -~]{0,80}") {
            let _ = expected(&headers(header::IF_MATCH, &value));
        }

        #[test]
        fn a_weak_tag_never_matches(tag in "[a-z0-9]{1,20}") {
            let weak = expected(&headers(header::IF_MATCH, &format!("W/\"{tag}\"")));
            prop_assert_eq!(weak, Expected::Tags(Vec::new()));
            let strong = expected(&headers(header::IF_MATCH, &format!("\"{tag}\"")));
            prop_assert_eq!(strong, Expected::Tags(vec![tag]));
        }
    }
}
