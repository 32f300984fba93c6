//! A page on which people look at the API and try it.
//!
//! It asks nobody but this control, keeps nothing (no cookie, no storage) and needs no login to
//! look; a token that is typed in stays in the page's memory. The policy lets only this very
//! script run.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::{
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
};

use crate::webhooks::base64;

const PAGE: &str = include_str!("browse.html");

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; connect-src 'self'; img-src data:; script-src '{}'; style-src '{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    HeaderValue::from_str(&policy).expect("a policy is plain ASCII")
});

/// What the page holds between these tags, as a policy names it.
fn hash(tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inner = PAGE.split(&open).nth(1).and_then(|rest| rest.split(&close).next());
    let hash = digest::digest(&digest::SHA256, inner.unwrap_or_default().as_bytes());
    format!("sha256-{}", base64(hash.as_ref()))
}

pub(crate) async fn page() -> impl IntoResponse {
    const REFERRER_POLICY: HeaderName = header::REFERRER_POLICY;
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (fields, PAGE)
}
