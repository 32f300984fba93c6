//! `/v1/machines` and `/v1/join-tokens`.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    MachineName,
    access::Verb,
    api::{JoinTokenCreated, MachineView, NewJoinToken, Page, Problem},
    report::MachineRole,
};
use serde::Deserialize;

use super::{
    body::Small,
    caller::Caller,
    conditional::{Edited, IfMatch},
    page::{Paged, Paging, Params},
    problem::Refusal,
    segments::Segments,
};
use crate::app::{App, Expected};

/// `?role=` beside a page.
#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    role: Option<MachineRole>,
    name: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List machines by name.
#[utoipa::path(get, path = "/v1/machines", tag = "machines",
    params(("role" = Option<MachineRole>, Query), ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query),
        ("name" = Option<String>, Query, description = "how names begin")),
    responses((status = 200, body = Page<MachineView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(ListParams { role, name, limit, cursor }): Params<ListParams>,
) -> Result<Paged<MachineView>, Refusal> {
    caller.require_scope(Verb::MachinesRead)?;
    let paging = Paging::new(limit, cursor);
    let (after, name) = (paging.after()?.unwrap_or_default(), name.unwrap_or_default());
    let mut machines = app.machine_views(role);
    machines.retain(|machine| {
        machine.name.as_str() > after.as_str() && machine.name.as_str().starts_with(&name)
    });
    machines.truncate(paging.limit() as usize + 1);
    Ok(paging.page(machines, |machine| machine.name.to_string()).into())
}

/// Show a machine.
#[utoipa::path(get, path = "/v1/machines/{name}", tag = "machines",
    params(("name" = String, Path)),
    responses((status = 200, body = MachineView),
        (status = 404, description = "`machine_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
) -> Result<Edited<Json<MachineView>>, Refusal> {
    caller.require_scope(Verb::MachinesRead)?;
    let (edits, view) = app.show_machine(&name)?;
    Ok(Edited(edits, Json(view)))
}

/// Take a machine out of the answers while it goes on serving.
#[utoipa::path(post, path = "/v1/machines/{name}/drain", tag = "machines",
    params(("name" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = MachineView), (status = 404, body = Problem)))]
pub(crate) async fn drain(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
    IfMatch(expected): IfMatch,
) -> Result<Json<MachineView>, Refusal> {
    set_drained(&app, &caller, name, true, &expected).await
}

/// Take a machine back into the answers.
#[utoipa::path(post, path = "/v1/machines/{name}/undrain", tag = "machines",
    params(("name" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = MachineView), (status = 404, body = Problem)))]
pub(crate) async fn undrain(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
    IfMatch(expected): IfMatch,
) -> Result<Json<MachineView>, Refusal> {
    set_drained(&app, &caller, name, false, &expected).await
}

async fn set_drained(
    app: &App,
    caller: &Caller,
    name: MachineName,
    is_drained: bool,
    expected: &Expected,
) -> Result<Json<MachineView>, Refusal> {
    caller.require_everywhere(Verb::MachinesWrite)?;
    app.set_drained(&name, is_drained, expected).await?;
    Ok(Json(app.show_machine(&name)?.1))
}

/// Void every certificate of a machine: it is cut off at once and must join again.
#[utoipa::path(post, path = "/v1/machines/{name}/revoke", tag = "machines",
    params(("name" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = MachineView), (status = 404, body = Problem)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
    IfMatch(expected): IfMatch,
) -> Result<Json<MachineView>, Refusal> {
    caller.require_everywhere(Verb::MachinesWrite)?;
    app.revoke_machine(&name, &expected).await?;
    Ok(Json(app.show_machine(&name)?.1))
}

/// Remove a machine from the fleet.
#[utoipa::path(delete, path = "/v1/machines/{name}", tag = "machines",
    params(("name" = String, Path),
        ("if-match" = Option<String>, Header)), responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<MachineName>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    caller.require_everywhere(Verb::MachinesWrite)?;
    app.delete_machine(&name, &expected).await?;
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
    caller.require_everywhere(Verb::MachinesWrite)?;
    Ok((StatusCode::CREATED, Json(app.create_join_token(new).await?)))
}
