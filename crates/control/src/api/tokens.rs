//! `/v1/tokens` and `/v1/whoami`.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    TokenId,
    access::Verb,
    api::{NewToken, Page, Problem, TokenChange, TokenCreated, TokenView},
};

use super::{
    body::{Patch, Small},
    caller::Caller,
    conditional::{Edited, IfMatch, MustMatch},
    page::{NamedPaging, Paged, Params},
    problem::Refusal,
    segments::Segments,
};
use crate::app::App;

/// The token that this request came with.
#[utoipa::path(get, path = "/v1/whoami", tag = "tokens",
    responses((status = 200, body = TokenView), (status = 401, body = Problem)))]
pub(crate) async fn who_am_i(State(app): State<App>, caller: Caller) -> Json<TokenView> {
    Json(app.token_view((*caller.0).clone()))
}

/// List tokens, oldest first: those for the sites that the caller's is for.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("name" = Option<String>, Query, description = "how names begin")),
    responses((status = 200, body = Page<TokenView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<NamedPaging>,
) -> Result<Paged<TokenView>, Refusal> {
    caller.require_scope(Verb::TokensWrite)?;
    let (name, paging) = paging.split();
    let after = paging.after()?.unwrap_or_default();
    let rows = app.tokens_seen_by(&caller.0, &after, &name, paging.limit() + 1).await?;
    let views = rows.into_iter().map(|row| app.token_view(row)).collect();
    Ok(paging.page(views, |view: &TokenView| view.id.to_string()).into())
}

/// Show a token, without its secret.
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 200, body = TokenView),
        (status = 404, description = "`token_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<TokenId>,
) -> Result<Edited<Json<TokenView>>, Refusal> {
    if id != caller.0.id {
        caller.require_scope(Verb::TokensWrite)?;
    }
    let row = app.require_token(&id, &caller.0).await?;
    Ok(Edited(row.edits(), Json(app.token_view(row))))
}

/// Create a token that is not stronger than the caller's; its secret is in this answer only.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = TokenCreated),
        (status = 403, description = "`token_stronger`", body = Problem)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewToken>,
) -> Result<(StatusCode, Json<TokenCreated>), Refusal> {
    caller.require_scope(Verb::TokensWrite)?;
    Ok((StatusCode::CREATED, Json(app.create_token(new, &caller.0).await?)))
}

/// Change a token: its name, when it ends, and less that it may do. A JSON merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path), ("if-match" = String, Header)),
    request_body(content = TokenChange, content_type = "application/merge-patch+json"),
    responses((status = 200, body = TokenView),
        (status = 403, description = "`token_stronger`", body = Problem),
        (status = 404, description = "`token_unknown`", body = Problem),
        (status = 409, description = "`last_admin`", body = Problem),
        (status = 412, description = "`edited_meanwhile`", body = Problem),
        (status = 422, description = "`token_wider`, `token_powerless`", body = Problem),
        (status = 428, description = "`precondition_required`", body = Problem)))]
pub(crate) async fn change(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<TokenId>,
    MustMatch(expected): MustMatch,
    Patch(change): Patch<TokenChange>,
) -> Result<Edited<Json<TokenView>>, Refusal> {
    if id != caller.0.id {
        caller.require_scope(Verb::TokensWrite)?;
    }
    let row = app.change_token(&id, change, &caller.0, &expected).await?;
    Ok(Edited(row.edits(), Json(app.token_view(row))))
}

/// Revoke a token: one's own, or one that is not stronger.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 204), (status = 404, body = Problem),
        (status = 409, description = "`last_admin`", body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<TokenId>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    if id != caller.0.id {
        caller.require_scope(Verb::TokensWrite)?;
    }
    app.delete_token(&id, &caller.0, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}
