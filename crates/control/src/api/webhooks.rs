//! `/v1/webhooks`: servers that are told what happens.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    WebhookId,
    api::{DeliveryView, NewWebhook, Page, Problem, Verb, WebhookCreated, WebhookView},
};

use super::{
    body::Small,
    caller::Caller,
    conditional::{Edited, IfMatch},
    page::{Paged, Paging, Params},
    problem::Refusal,
    segments::Segments,
};
use crate::app::{App, webhook_view};

/// List webhooks, oldest first.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<WebhookView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Paged<WebhookView>, Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    let after = paging.after()?.unwrap_or_default();
    let rows = app.store().webhooks(&after, paging.limit() + 1).await?;
    let views = rows.into_iter().map(webhook_view).collect();
    Ok(paging.page(views, |view: &WebhookView| view.id.to_string()).into())
}

/// Make a webhook; its secret is in this answer only.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", request_body = NewWebhook,
    responses((status = 201, body = WebhookCreated),
        (status = 422, description = "`webhook_url`, `too_many`", body = Problem)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewWebhook>,
) -> Result<(StatusCode, Json<WebhookCreated>), Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    Ok((StatusCode::CREATED, Json(app.create_webhook(new).await?)))
}

/// Show a webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, body = WebhookView),
        (status = 404, description = "`webhook_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<WebhookId>,
) -> Result<Edited<Json<WebhookView>>, Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    let row = app.webhook(&id).await?;
    Ok(Edited(row.edits().to_owned(), Json(webhook_view(row))))
}

/// Remove a webhook.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 204), (status = 404, description = "`webhook_unknown`", body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<WebhookId>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    app.delete_webhook(&id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Turn a webhook on again; it is told what it missed, as far as that is kept.
#[utoipa::path(post, path = "/v1/webhooks/{id}/enable", tag = "webhooks",
    params(("id" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = WebhookView),
        (status = 404, description = "`webhook_unknown`", body = Problem)))]
pub(crate) async fn enable(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<WebhookId>,
    IfMatch(expected): IfMatch,
) -> Result<Json<WebhookView>, Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    Ok(Json(app.enable_webhook(&id, &expected).await?))
}

/// Send a `webhook_test` event to a webhook, now; says what came of it.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path)),
    responses((status = 200, body = DeliveryView),
        (status = 404, description = "`webhook_unknown`", body = Problem)))]
pub(crate) async fn test(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<WebhookId>,
) -> Result<Json<DeliveryView>, Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    Ok(Json(app.test_webhook(&id).await?))
}

/// List the last attempts to deliver, newest first.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path), ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<DeliveryView>),
        (status = 404, description = "`webhook_unknown`", body = Problem)))]
pub(crate) async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<WebhookId>,
    Params(paging): Params<Paging>,
) -> Result<Paged<DeliveryView>, Refusal> {
    caller.require_everywhere(Verb::WebhooksWrite)?;
    app.webhook(&id).await?;
    let before = match paging.after()? {
        Some(key) => key.parse().map_err(|_| {
            let why = "cursor is not one that this list gave; leave it out to begin again";
            Refusal::new(StatusCode::BAD_REQUEST, "cursor_invalid", why)
        })?,
        None => u64::MAX,
    };
    let rows = app.store().deliveries(&id, before, paging.limit() + 1).await?;
    Ok(paging.page(rows, |row| row.number.to_string()).into())
}
