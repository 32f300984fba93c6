//! `PUT /machine/v1/state`: a machine tells what another control told it.
//!
//! Only a machine that was asked is heard: control asks a few of those that it holds back.

use axum::{
    extract::{FromRequest as _, Request, State},
    http::StatusCode,
};
use nigh_proto::state::MachineState;

use super::Machine;
use crate::{
    api::{Large, problem::Refusal},
    app::App,
};

/// Takes in the state of this machine.
pub(crate) async fn state(
    State(app): State<App>,
    Machine(machine): Machine,
    request: Request,
) -> Result<StatusCode, Refusal> {
    if !app.is_asked_for_state(&machine) {
        let why = "control has not asked for this state";
        return Err(Refusal::new(StatusCode::CONFLICT, "not_wanted", why));
    }
    let Large(state) = Large::<MachineState>::from_request(request, &app).await?;
    app.take_state(&machine, state)?;
    Ok(StatusCode::NO_CONTENT)
}
