//! `POST /machine/v1/report`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use nigh_proto::report::{CONTROL_TIME, REPORT_MAX_BYTES, REPORT_NUMBER, Report};

use super::Machine;
use crate::{
    api::{OfMachine, problem::Refusal},
    app::App,
};

/// Hears a machine. It may say only what it is itself, and is told what time it is.
pub(crate) async fn report(
    State(app): State<App>,
    Machine(machine): Machine,
    OfMachine(report): OfMachine<Report, REPORT_MAX_BYTES>,
) -> Result<Response, Refusal> {
    if report.about.name != machine.name || report.about.role != machine.role {
        let why = format!("the certificate is that of {} {}", machine.role.label(), machine.name);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "not_yourself", why));
    }
    let number = app.take_report(&machine, report).await?;
    let answer = app.answer(&machine);
    let time = [(CONTROL_TIME, app.now().to_string())];
    let mut response = match answer.is_empty() {
        true => (StatusCode::NO_CONTENT, time).into_response(),
        false => (time, Json(answer)).into_response(),
    };
    if let Some(number) = number {
        response.headers_mut().insert(REPORT_NUMBER, number.into());
    }
    Ok(response)
}
