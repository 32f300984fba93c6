//! Who calls, and may they?

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use nigh_proto::{SiteName, api::Scope};

use super::problem::Refusal;
use crate::{
    app::{App, Secret},
    store::TokenRow,
};

/// Whoever sent a valid token.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) TokenRow);

impl Caller {
    /// May they do this to one site?
    pub(crate) fn require(&self, scope: Scope, site: &SiteName) -> Result<(), Refusal> {
        if !self.sees(site) {
            return Err(not_allowed(format!("this token is not for the site {site}")));
        }
        self.require_scope(scope)
    }

    /// May they do this to the whole fleet? A token for some sites may not.
    pub(crate) fn require_everywhere(&self, scope: Scope) -> Result<(), Refusal> {
        if !self.0.sites.is_empty() {
            return Err(not_allowed("this token is for some sites only".to_owned()));
        }
        self.require_scope(scope)
    }

    /// May they do this at all?
    pub(crate) fn require_scope(&self, scope: Scope) -> Result<(), Refusal> {
        if self.0.scope >= scope {
            return Ok(());
        }
        let needed = format!("{scope:?}").to_ascii_lowercase();
        Err(not_allowed(format!("this needs a token with the scope {needed}")))
    }

    pub(crate) fn sees(&self, site: &SiteName) -> bool {
        self.0.sites.is_empty() || self.0.sites.contains(site)
    }
}

fn not_allowed(detail: String) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "not_allowed", detail)
}

fn unauthorized(code: &'static str, detail: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, code, detail)
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let secret = bearer(&parts.headers).ok_or_else(|| {
            let detail = "send `Authorization: Bearer nigh_pat_…` with a token of this control";
            unauthorized("token_missing", detail)
        })?;
        let invalid = || {
            unauthorized("token_invalid", "this token is unknown or was revoked; make a new one")
        };
        let secret: Secret = secret.parse().map_err(|_| invalid())?;
        let row = app.store().token_by_hash(&secret.hash()).await?.ok_or_else(invalid)?;
        let now = app.now();
        if row.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(unauthorized("token_expired", "this token has expired; make a new one"));
        }
        app.touch_token(&row, now).await;
        Ok(Caller(row))
    }
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
