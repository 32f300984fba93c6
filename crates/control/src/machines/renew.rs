//! `POST /machine/v1/renew`.

use axum::{Json, extract::State};
use nigh_proto::report::{JoinResponse, RenewRequest};

use super::Machine;
use crate::{
    api::{OfMachine, problem::Refusal},
    app::App,
};

/// The longest request: a certificate request has about a kilobyte.
const REQUEST_MAX_BYTES: usize = 16 << 10;

/// Gives a machine its next certificate; the one that it presents is the authority.
pub(crate) async fn renew(
    State(app): State<App>,
    Machine(machine): Machine,
    OfMachine(request): OfMachine<RenewRequest, REQUEST_MAX_BYTES>,
) -> Result<Json<JoinResponse>, Refusal> {
    Ok(Json(app.renew(&machine, &request).await?))
}
