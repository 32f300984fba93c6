//! Who calls, and may they?

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use nigh_proto::{
    SiteName,
    access::{Scope, Verb, Verbs},
};

use super::problem::Refusal;
use crate::{
    app::{App, NoEntry},
    limits::Budget,
    request::{Actor, ActorKind, Request},
    store::TokenRow,
};

/// Whoever sent a valid token.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Arc<TokenRow>);

/// What a token must be able to do: a verb, or all that a scope stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need(Verbs);

impl From<Verb> for Need {
    fn from(verb: Verb) -> Self {
        Need(verb.into())
    }
}

impl From<Scope> for Need {
    fn from(scope: Scope) -> Self {
        Need(scope.into())
    }
}

impl Caller {
    /// May they do this to one site?
    pub(crate) fn require(&self, need: impl Into<Need>, site: &SiteName) -> Result<(), Refusal> {
        if !self.sees(site) {
            return Err(not_allowed(format!("this token is not for the site {site}")));
        }
        self.require_scope(need)
    }

    /// May they do this to the whole fleet? A token for some sites may not.
    pub(crate) fn require_everywhere(&self, need: impl Into<Need>) -> Result<(), Refusal> {
        if !self.0.sites.is_empty() {
            return Err(not_allowed("this token is for some sites only".to_owned()));
        }
        self.require_scope(need)
    }

    /// May they do this at all?
    pub(crate) fn require_scope(&self, need: impl Into<Need>) -> Result<(), Refusal> {
        let Need(needed) = need.into();
        let missing: Verbs = needed.iter().filter(|verb| !self.0.may(*verb)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(not_allowed(format!("this needs a token that may {missing}")))
    }

    pub(crate) fn sees(&self, site: &SiteName) -> bool {
        self.0.sees(site)
    }
}

fn not_allowed(detail: String) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "not_allowed", detail)
}

fn unauthorized(code: &'static str, detail: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, code, detail)
}

fn too_many(code: &'static str, why: &str, budget: &Budget) -> Refusal {
    let seconds = budget.reset.as_secs() + 1;
    let (quota, window) = (budget.rate.quota, budget.rate.window.as_secs());
    let why = format!("{why}: {quota} in {window} s are allowed; try again in {seconds} s");
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, code, why).retry_after(seconds)
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        if let Some(known) = parts.extensions.get::<Caller>() {
            return Ok(known.clone());
        }
        let caller = find(&parts.headers, app).await?;
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}

/// Who calls. Everything that is done from now on is done in their name.
pub(crate) async fn find(headers: &HeaderMap, app: &App) -> Result<Caller, Refusal> {
    let secret = bearer(headers).ok_or_else(|| {
        let detail = "send `Authorization: Bearer nigh_pat_…` with a token of this control";
        unauthorized("token_missing", detail)
    })?;
    let request = Request::current();
    let address = request.as_ref().and_then(|request| request.address);
    let within = |budget: &Budget| {
        if let Some(request) = &request {
            request.is_within(*budget);
        }
    };
    let (row, budget) = app.let_in(secret, address).await.map_err(|error| match error {
        NoEntry::Invalid => {
            unauthorized("token_invalid", "this token is unknown or was revoked; make a new one")
        }
        NoEntry::Expired => unauthorized("token_expired", "this token has expired; make a new one"),
        NoEntry::Failures(budget) => {
            within(&budget);
            too_many("too_many_failures", "too many wrong tokens came from there", &budget)
        }
        NoEntry::Requests(budget) => {
            within(&budget);
            too_many("too_many_requests", "this token asks too often", &budget)
        }
        NoEntry::Store(error) => error.into(),
    })?;
    within(&budget);
    if let Some(request) = &request {
        let (id, name) = (Some(row.id.to_string()), row.name.clone());
        request.is_by(Actor { kind: ActorKind::Token, id, name });
    }
    Ok(Caller(row))
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
