//! `/v1/sites` and their hosts.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    Host, SiteName,
    api::{HostView, NewHost, NewSite, Page, Problem, Scope, SiteView},
};

use super::{
    body::Small,
    caller::Caller,
    page::{Paging, Params},
    problem::Refusal,
    router::Segments,
};
use crate::app::App;

/// Create a site.
#[utoipa::path(post, path = "/v1/sites", tag = "sites", request_body = NewSite, responses(
    (status = 201, body = SiteView), (status = 409, description = "`site_taken`, `host_taken`", body = Problem)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewSite>,
) -> Result<(StatusCode, Json<SiteView>), Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    Ok((StatusCode::CREATED, Json(app.create_site(new).await?)))
}

/// List sites by name.
#[utoipa::path(get, path = "/v1/sites", tag = "sites",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<SiteView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<SiteView>>, Refusal> {
    caller.require_scope(Scope::Read)?;
    let after = paging.after()?.unwrap_or_default();
    let rows = app.store().sites(&after, paging.limit() + 1).await?;
    let page = paging.page(rows, |row| row.name.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items.iter().filter(|row| caller.sees(&row.name)) {
        items.push(app.site_view(&row.name).await?);
    }
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// Show a site.
#[utoipa::path(get, path = "/v1/sites/{site}", tag = "sites", params(("site" = String, Path)),
    responses((status = 200, body = SiteView), (status = 404, description = "`site_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
) -> Result<Json<SiteView>, Refusal> {
    caller.require(Scope::Read, &site)?;
    Ok(Json(app.site_view(&site).await?))
}

/// Delete a site with all of its releases.
#[utoipa::path(delete, path = "/v1/sites/{site}", tag = "sites", params(("site" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
) -> Result<StatusCode, Refusal> {
    caller.require(Scope::Admin, &site)?;
    app.delete_site(&site).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the hosts of a site, the default one first.
#[utoipa::path(get, path = "/v1/sites/{site}/hosts", tag = "sites",
    params(("site" = String, Path)), responses((status = 200, body = Page<HostView>)))]
pub(crate) async fn list_hosts(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
) -> Result<Json<Page<HostView>>, Refusal> {
    caller.require(Scope::Read, &site)?;
    Ok(Json(Page { items: app.hosts(&site).await?, next_cursor: None }))
}

/// Let a site answer to one more host.
#[utoipa::path(post, path = "/v1/sites/{site}/hosts", tag = "sites", request_body = NewHost,
    params(("site" = String, Path)),
    responses((status = 201, body = HostView), (status = 409, description = "`host_taken`", body = Problem)))]
pub(crate) async fn create_host(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    Small(new): Small<NewHost>,
) -> Result<(StatusCode, Json<HostView>), Refusal> {
    caller.require(Scope::Push, &site)?;
    Ok((StatusCode::CREATED, Json(app.create_host(&site, new.host).await?)))
}

/// Let a site answer to a host no longer.
#[utoipa::path(delete, path = "/v1/sites/{site}/hosts/{host}", tag = "sites",
    params(("site" = String, Path), ("host" = String, Path)),
    responses((status = 204), (status = 404, description = "`host_unknown`", body = Problem)))]
pub(crate) async fn delete_host(
    State(app): State<App>,
    caller: Caller,
    Segments((site, host)): Segments<(SiteName, Host)>,
) -> Result<StatusCode, Refusal> {
    caller.require(Scope::Push, &site)?;
    app.delete_host(&site, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}
