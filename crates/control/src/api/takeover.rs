//! `/v1/takeover`: what machines hold of a fleet whose control is lost.

use axum::{Json, extract::State};
use nigh_proto::{
    access::{Scope, Verb},
    api::{NewTakeover, Problem, TakenOver, TakeoverView},
};

use super::{body::Small, caller::Caller, problem::Refusal};
use crate::app::App;

/// Show which machines hold sites that this control does not know, and what could be taken over.
#[utoipa::path(get, path = "/v1/takeover", tag = "fleet",
    responses((status = 200, body = TakeoverView)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<TakeoverView>, Refusal> {
    caller.require_everywhere(Verb::MachinesRead)?;
    Ok(Json(app.takeover_view()))
}

/// Take over what the newest states of those machines say. Twice is a success.
#[utoipa::path(post, path = "/v1/takeover", tag = "fleet", request_body = NewTakeover,
    responses((status = 200, body = TakenOver),
        (status = 409, description = "`takeover_early`, `zones_missing`", body = Problem)))]
pub(crate) async fn take(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewTakeover>,
) -> Result<Json<TakenOver>, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    Ok(Json(app.take_over(&new).await?))
}

/// Say that what those machines hold is to be dropped: they are told this control's state.
#[utoipa::path(delete, path = "/v1/takeover", tag = "fleet",
    responses((status = 200, body = TakeoverView)))]
pub(crate) async fn drop(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<TakeoverView>, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    let machines = app.drop_held().await?;
    Ok(Json(TakeoverView { machines, ..app.takeover_view() }))
}
