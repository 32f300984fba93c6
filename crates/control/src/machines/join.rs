//! `POST /machine/v1/join`.

use axum::{Json, extract::State};
use nigh_proto::report::{JoinRequest, JoinResponse};

use crate::{
    api::{OfMachine, problem::Refusal},
    app::App,
};

/// The longest request: anyone may send one, and a certificate request has about a kilobyte.
const REQUEST_MAX_BYTES: usize = 16 << 10;

/// Takes a machine into the fleet; its join token is the authority.
pub(crate) async fn join(
    State(app): State<App>,
    OfMachine(request): OfMachine<JoinRequest, REQUEST_MAX_BYTES>,
) -> Result<Json<JoinResponse>, Refusal> {
    let joined = app.join(&request).await;
    Ok(Json(joined.inspect_err(|error| app.turn_away(&request.about.name, error))?))
}
