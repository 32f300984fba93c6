//! `/v1/ca`: control's own CA.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    access::Verb,
    api::{CaView, Problem},
};

use super::{caller::Caller, problem::Refusal};
use crate::app::App;

/// Show which CAs are trusted, and how far a rotation is.
#[utoipa::path(get, path = "/v1/ca", tag = "ca", responses((status = 200, body = CaView)))]
pub(crate) async fn show(State(app): State<App>, caller: Caller) -> Result<Json<CaView>, Refusal> {
    caller.require_scope(Verb::MachinesRead)?;
    Ok(Json(app.ca_view().await?))
}

/// Replace control's CA. Nobody is cut off; it goes on in the background.
#[utoipa::path(post, path = "/v1/ca/rotate", tag = "ca",
    responses((status = 202, body = CaView), (status = 409, body = Problem)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    caller: Caller,
) -> Result<(StatusCode, Json<CaView>), Refusal> {
    caller.require_everywhere(Verb::MachinesWrite)?;
    app.rotate_ca().await?;
    Ok((StatusCode::ACCEPTED, Json(app.ca_view().await?)))
}

/// End the trust in every retired CA now: machines that were away since must join anew.
#[utoipa::path(post, path = "/v1/ca/retire", tag = "ca",
    responses((status = 200, body = CaView)))]
pub(crate) async fn retire(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<CaView>, Refusal> {
    caller.require_everywhere(Verb::MachinesWrite)?;
    app.retire_ca(true).await?;
    Ok(Json(app.ca_view().await?))
}
