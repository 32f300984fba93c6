//! `/v1/operations`: work that goes on after a call was answered.
//!
//! There is no second truth: an operation is a release on its way, seen from the side of whoever
//! waits for it.

use std::time::Duration;

use axum::{Json, extract::State};
use nigh_proto::{
    OperationId,
    access::Verb,
    api::{OperationState, OperationView, Page, Problem},
};
use serde::Deserialize;

use super::{
    caller::Caller,
    page::{Natural, Paged, Paging, Params},
    problem::Refusal,
    releases::WAIT_MAX_MS,
    segments::Segments,
};
use crate::{
    app::{App, AppError},
    store::ReleaseFilter,
};

/// `?state=` beside a page.
#[derive(Debug, Deserialize)]
pub(crate) struct OperationParams {
    state: Option<OperationState>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List operations, newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "operations",
    params(("state" = Option<OperationState>, Query), ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<OperationView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(OperationParams { state, limit, cursor }): Params<OperationParams>,
) -> Result<Paged<OperationView>, Refusal> {
    caller.require_scope(Verb::SitesRead)?;
    let paging = Paging::new(limit, cursor);
    let (before, limit) = (paging.after()?, paging.limit() + 1);
    let rows = if caller.0.sites.is_empty() {
        app.store().newest_releases(before.as_deref(), limit).await?
    } else {
        // Page by page of what this token may see: a cursor tells of nothing else.
        let filter = ReleaseFilter { state: None, before };
        let mut rows = Vec::new();
        for site in &caller.0.sites {
            rows.extend(app.store().releases(site, &filter, limit).await?);
        }
        rows.sort_by(|a, b| b.id.cmp(&a.id));
        rows.truncate(limit as usize);
        rows
    };
    let page = paging.page(rows, |row| row.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for row in &page.items {
        let operation = OperationView::of(&app.release_view(row).await?);
        if state.is_none_or(|state| state == operation.state) {
            items.push(operation);
        }
    }
    Ok(Page { items, next_cursor: page.next_cursor }.into())
}

/// `?after=&wait_ms=`.
#[derive(Debug, Deserialize)]
pub(crate) struct WaitParams {
    after: Option<Natural>,
    #[serde(default)]
    wait_ms: Natural,
}

/// Show an operation, or wait for it to come further than `after`.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations",
    params(("id" = String, Path), ("after" = Option<u64>, Query),
        ("wait_ms" = Option<u64>, Query)),
    responses((status = 200, body = OperationView),
        (status = 404, description = "`operation_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<OperationId>,
    Params(WaitParams { after, wait_ms }): Params<WaitParams>,
) -> Result<Json<OperationView>, Refusal> {
    caller.require_scope(Verb::SitesRead)?;
    let row = app.store().release(&id.release()).await?;
    // Whoever may not see the site is not told that there is something.
    let row = row.filter(|row| caller.sees(&row.site)).ok_or(AppError::OperationUnknown)?;
    let view = match after {
        None => app.release_view(&row).await?,
        Some(Natural(after)) => {
            let wait = Duration::from_millis(wait_ms.0.min(WAIT_MAX_MS));
            app.await_release(&row.site, &row.id, after, wait).await?
        }
    };
    Ok(Json(OperationView::of(&view)))
}
