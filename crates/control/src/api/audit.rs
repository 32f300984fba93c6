//! `/v1/audit`: who changed what.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    SiteName, Timestamp,
    access::Verb,
    api::{Page, Problem},
    audit::{AuditChain, AuditEntry},
};
use serde::Deserialize;

use super::{
    caller::Caller,
    page::{Paged, Paging, Params},
    problem::Refusal,
};
use crate::{app::App, store::AuditFilter};

/// What is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct AuditParams {
    limit: Option<u32>,
    cursor: Option<String>,
    site: Option<SiteName>,
    /// The id of a token or machine.
    actor: Option<String>,
    verb: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    #[serde(default)]
    order: Order,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// List changes. A token for some sites sees what was done to those.
#[utoipa::path(get, path = "/v1/audit", tag = "audit",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("site" = Option<String>, Query), ("actor" = Option<String>, Query),
        ("verb" = Option<String>, Query), ("since" = Option<String>, Query),
        ("until" = Option<String>, Query), ("order" = inline(Option<Order>), Query)),
    responses((status = 200, body = Page<AuditEntry>), (status = 403, body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(asked): Params<AuditParams>,
) -> Result<Paged<AuditEntry>, Refusal> {
    match &asked.site {
        Some(site) => caller.require(Verb::AuditRead, site)?,
        None => caller.require_scope(Verb::AuditRead)?,
    }
    let paging = Paging::new(asked.limit, asked.cursor);
    let own = Some(caller.0.sites.clone()).filter(|sites| !sites.is_empty());
    let filter = AuditFilter {
        sites: asked.site.map(|site| vec![site]).or(own),
        actor: asked.actor,
        verb: asked.verb,
        since: asked.since,
        until: asked.until,
        after: after(&paging)?,
        is_oldest_first: asked.order == Order::OldestFirst,
    };
    let entries = app.store().audit(&filter, paging.limit() + 1).await?;
    Ok(paging.page(entries, |entry| entry.seq.to_string()).into())
}

fn after(paging: &Paging) -> Result<Option<u64>, Refusal> {
    let Some(text) = paging.after()? else { return Ok(None) };
    match text.parse() {
        Ok(seq) => Ok(Some(seq)),
        Err(_) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "cursor_invalid",
            "cursor is not one that this list gave; leave it out to begin again",
        )),
    }
}

/// Where the chain of changes begins and ends.
#[utoipa::path(get, path = "/v1/audit/chain", tag = "audit",
    responses((status = 200, body = AuditChain), (status = 403, body = Problem)))]
pub(crate) async fn chain(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<AuditChain>, Refusal> {
    caller.require_everywhere(Verb::AuditRead)?;
    Ok(Json(app.store().audit_chain().await?))
}
