//! What do the variable segments of a path say?

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{StatusCode, request::Parts},
};
use nigh_proto::{Digest, MachineName, OperationId, SiteName, TokenId, WebhookId};

use super::problem::Refusal;

/// The id of a certificate, as a segment of a path.
#[derive(Clone, Debug)]
pub(crate) struct CertificateId(pub(crate) String);

impl FromStr for CertificateId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_id = (1..=300).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if is_id {
            Ok(Self(text.to_owned()))
        } else {
            Err("this is no certificate's id".to_owned())
        }
    }
}

/// The variable segments of a path, each parsed; one that is not what it should be is a 404, since
/// nothing can be there.
pub(crate) struct Segments<T>(pub(crate) T);

/// What [`Segments`] can hold.
pub(crate) trait FromSegments: Sized {
    fn from_segments(segments: &[&str]) -> Result<Self, String>;
}

impl<T: FromSegments, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, "path_invalid", error.body_text())
        })?;
        let segments: Vec<&str> = params.iter().map(|(_, segment)| segment).collect();
        T::from_segments(&segments)
            .map(Segments)
            .map_err(|why| Refusal::new(StatusCode::NOT_FOUND, "name_invalid", why))
    }
}

fn parse<T: FromStr<Err: ToString>>(segment: Option<&&str>) -> Result<T, String> {
    segment.copied().unwrap_or_default().parse().map_err(|error: T::Err| error.to_string())
}

macro_rules! single_segment {
    ($($name:ty),*) => {$(
        impl FromSegments for $name {
            fn from_segments(segments: &[&str]) -> Result<Self, String> {
                parse(segments.first())
            }
        }
    )*};
}

single_segment!(CertificateId, SiteName, MachineName, OperationId, TokenId, WebhookId, Digest, u64);

impl<A: FromStr<Err: ToString>, B: FromStr<Err: ToString>> FromSegments for (A, B) {
    fn from_segments(segments: &[&str]) -> Result<Self, String> {
        Ok((parse(segments.first())?, parse(segments.get(1))?))
    }
}
