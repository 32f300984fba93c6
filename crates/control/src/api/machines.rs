//! `/v1/machines` and `/v1/join-tokens`.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    MachineName,
    api::{JoinTokenCreated, MachineView, NewJoinToken, Page, Problem, Scope},
    report::MachineRole,
};
use serde::Deserialize;

use super::{body::Small, caller::Caller, page::Params, problem::Refusal, router::Segments};
use crate::app::{App, AppError};

/// `?role=`.
#[derive(Debug, Deserialize)]
pub(crate) struct RoleParams {
    #[serde(default)]
    role: Option<MachineRole>,
}

/// List machines by name.
#[utoipa::path(get, path = "/v1/machines", tag = "machines",
    params(("role" = Option<MachineRole>, Query)),
    responses((status = 200, body = Page<MachineView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(RoleParams { role }): Params<RoleParams>,
) -> Result<Json<Page<MachineView>>, Refusal> {
    caller.require_scope(Scope::Read)?;
    Ok(Json(Page { items: app.machine_views(role), next_cursor: None }))
}

/// Take a machine out of the answers while it goes on serving.
#[utoipa::path(post, path = "/v1/machines/{name}/drain", tag = "machines",
    params(("name" = String, Path)),
    responses((status = 200, body = MachineView), (status = 404, body = Problem)))]
pub(crate) async fn drain(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
) -> Result<Json<MachineView>, Refusal> {
    set_drained(&app, &caller, name, true).await
}

/// Take a machine back into the answers.
#[utoipa::path(post, path = "/v1/machines/{name}/undrain", tag = "machines",
    params(("name" = String, Path)),
    responses((status = 200, body = MachineView), (status = 404, body = Problem)))]
pub(crate) async fn undrain(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
) -> Result<Json<MachineView>, Refusal> {
    set_drained(&app, &caller, name, false).await
}

async fn set_drained(
    app: &App,
    caller: &Caller,
    name: MachineName,
    is_drained: bool,
) -> Result<Json<MachineView>, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    app.set_drained(&name, is_drained).await?;
    let view = app.machine_views(None).into_iter().find(|machine| machine.name == name);
    Ok(Json(view.ok_or(AppError::MachineUnknown(name))?))
}

/// Remove a machine from the fleet.
#[utoipa::path(delete, path = "/v1/machines/{name}", tag = "machines",
    params(("name" = String, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
) -> Result<StatusCode, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    app.delete_machine(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a token with which one machine may join, once.
#[utoipa::path(post, path = "/v1/join-tokens", tag = "machines", request_body = NewJoinToken,
    responses((status = 201, body = JoinTokenCreated)))]
pub(crate) async fn create_join_token(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewJoinToken>,
) -> Result<(StatusCode, Json<JoinTokenCreated>), Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    Ok((StatusCode::CREATED, Json(app.create_join_token(new).await?)))
}
