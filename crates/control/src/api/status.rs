//! `/v1/status` and `/v1/openapi.json`.

use axum::{Json, extract::State};
use nigh_proto::{access::Verb, api::StatusView};

use super::{caller::Caller, problem::Refusal};
use crate::app::App;

/// The fleet at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "fleet",
    responses((status = 200, body = StatusView)))]
pub(crate) async fn status(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<StatusView>, Refusal> {
    caller.require_scope(Verb::MachinesRead)?;
    Ok(Json(app.status(&caller.0.sites).await?))
}
