//! `/v1/tokens` and `/v1/whoami`.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    TokenId,
    api::{NewToken, Page, Problem, Scope, TokenCreated, TokenView},
};

use super::{
    body::Small,
    caller::Caller,
    page::{Paging, Params},
    problem::Refusal,
    router::Segments,
};
use crate::app::{App, token_view};

/// The token that this request came with.
#[utoipa::path(get, path = "/v1/whoami", tag = "tokens",
    responses((status = 200, body = TokenView), (status = 401, body = Problem)))]
pub(crate) async fn who_am_i(caller: Caller) -> Json<TokenView> {
    Json(token_view(caller.0))
}

/// List tokens, oldest first.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<TokenView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<TokenView>>, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    let after = paging.after()?.unwrap_or_default();
    let rows = app.store().tokens(&after, paging.limit() + 1).await?;
    let views = rows.into_iter().map(token_view).collect();
    Ok(Json(paging.page(views, |view: &TokenView| view.id.to_string())))
}

/// Create a token; its secret is in this answer only.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = TokenCreated)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewToken>,
) -> Result<(StatusCode, Json<TokenCreated>), Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    Ok((StatusCode::CREATED, Json(app.create_token(new).await?)))
}

/// Revoke a token.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<TokenId>,
) -> Result<StatusCode, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    app.delete_token(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
