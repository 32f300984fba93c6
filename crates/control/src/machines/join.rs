//! `POST /machine/v1/join`.

use axum::{Json, extract::State};
use nigh_proto::report::{JoinRequest, JoinResponse};

use crate::{
    api::{Small, problem::Refusal},
    app::App,
};

/// Takes a machine into the fleet; its join token is the authority.
pub(crate) async fn join(
    State(app): State<App>,
    Small(request): Small<JoinRequest>,
) -> Result<Json<JoinResponse>, Refusal> {
    Ok(Json(app.join(&request).await?))
}
