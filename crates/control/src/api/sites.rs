//! `/v1/sites` and their hosts.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    Host, SiteName,
    access::Verb,
    api::{HostView, NewHost, NewSite, Page, Problem, SiteChange, SiteView},
};

use super::{
    body::{Patch, Small},
    caller::Caller,
    conditional::{Edited, IfMatch, MustMatch},
    page::{NamedPaging, Paged, Params},
    problem::Refusal,
    segments::Segments,
};
use crate::app::{App, AppError};

/// A host is added and removed, and never edited.
const HOST_EDITS: &str = "host";

/// Says in which field a host is that cannot be had.
fn of_host(error: AppError, pointer: &str) -> Refusal {
    let refusal = Refusal::from(error);
    if refusal.code.starts_with("host") { refusal.at(pointer) } else { refusal }
}

/// Create a site.
#[utoipa::path(post, path = "/v1/sites", tag = "sites", request_body = NewSite, responses(
    (status = 201, body = SiteView), (status = 409, description = "`site_taken`, `host_taken`", body = Problem)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Small(new): Small<NewSite>,
) -> Result<(StatusCode, Json<SiteView>), Refusal> {
    caller.require_everywhere(Verb::SitesWrite)?;
    let made = app.create_site(new).await.map_err(|error| of_host(error, "/hosts"))?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// List the sites that the token is for, by name.
#[utoipa::path(get, path = "/v1/sites", tag = "sites",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("name" = Option<String>, Query, description = "how names begin")),
    responses((status = 200, body = Page<SiteView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<NamedPaging>,
) -> Result<Paged<SiteView>, Refusal> {
    caller.require_scope(Verb::SitesRead)?;
    let (name, paging) = paging.split();
    let after = paging.after()?.unwrap_or_default();
    let among = &caller.0.sites;
    let rows = app.store().sites(&after, &name, among, paging.limit() + 1).await?;
    let page = paging.page(rows, |site| site.row.name.to_string());
    let items = page.items.into_iter().map(|site| app.site_view_of(site)).collect();
    Ok(Page { items, next_cursor: page.next_cursor }.into())
}

/// Show a site.
#[utoipa::path(get, path = "/v1/sites/{site}", tag = "sites", params(("site" = String, Path)),
    responses((status = 200, body = SiteView), (status = 404, description = "`site_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
) -> Result<Edited<Json<SiteView>>, Refusal> {
    caller.require(Verb::SitesRead, &site)?;
    let (edits, view) = app.show_site(&site).await?;
    Ok(Edited(edits, Json(view)))
}

/// Change a site's settings: a JSON merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/sites/{site}", tag = "sites",
    params(("site" = String, Path), ("if-match" = String, Header)),
    request_body(content = SiteChange, content_type = "application/merge-patch+json"),
    responses((status = 200, body = SiteView),
        (status = 404, description = "`site_unknown`", body = Problem),
        (status = 412, description = "`edited_meanwhile`", body = Problem),
        (status = 422, description = "`quota_invalid`", body = Problem),
        (status = 428, description = "`precondition_required`", body = Problem)))]
pub(crate) async fn change(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    MustMatch(expected): MustMatch,
    Patch(change): Patch<SiteChange>,
) -> Result<Edited<Json<SiteView>>, Refusal> {
    // Whoever has one site only does not say how large it may become.
    caller.require_everywhere(Verb::SitesWrite)?;
    app.change_site(&site, change, &expected).await?;
    let (edits, view) = app.show_site(&site).await?;
    Ok(Edited(edits, Json(view)))
}

/// Delete a site with all of its releases.
#[utoipa::path(delete, path = "/v1/sites/{site}", tag = "sites",
    params(("site" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    caller.require(Verb::SitesWrite, &site)?;
    app.delete_site(&site, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the hosts of a site, the default one first.
#[utoipa::path(get, path = "/v1/sites/{site}/hosts", tag = "sites",
    params(("site" = String, Path), ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query),
        ("name" = Option<String>, Query, description = "how hosts begin")),
    responses((status = 200, body = Page<HostView>)))]
pub(crate) async fn list_hosts(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    Params(paging): Params<NamedPaging>,
) -> Result<Paged<HostView>, Refusal> {
    caller.require(Verb::SitesRead, &site)?;
    let (name, paging) = paging.split();
    let mut hosts = app.hosts(&site).await?;
    if let Some(after) = paging.after()? {
        let at = hosts.iter().position(|view| view.host.as_str() == after);
        hosts.drain(..at.map_or(0, |at| at + 1));
    }
    hosts.retain(|view| view.host.as_str().starts_with(&name));
    hosts.truncate(paging.limit() as usize + 1);
    Ok(paging.page(hosts, |view| view.host.to_string()).into())
}

/// Show a host of a site.
#[utoipa::path(get, path = "/v1/sites/{site}/hosts/{host}", tag = "sites",
    params(("site" = String, Path), ("host" = String, Path)),
    responses((status = 200, body = HostView),
        (status = 404, description = "`host_unknown`", body = Problem)))]
pub(crate) async fn show_host(
    State(app): State<App>,
    caller: Caller,
    Segments((site, host)): Segments<(SiteName, Host)>,
) -> Result<Edited<Json<HostView>>, Refusal> {
    caller.require(Verb::SitesRead, &site)?;
    let view = app.hosts(&site).await?.into_iter().find(|view| view.host == host);
    let view = view.ok_or(AppError::HostUnknown(host))?;
    Ok(Edited(HOST_EDITS.to_owned(), Json(view)))
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
    caller.require(Verb::HostsWrite, &site)?;
    // Else whoever may push one site could take the place of another that is still to be made.
    if app.is_of_another_site(&new.host, &site) {
        caller.require_everywhere(Verb::SitesWrite)?;
    }
    let made = app.create_host(&site, new.host).await.map_err(|error| of_host(error, "/host"))?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Let a site answer to a host no longer.
#[utoipa::path(delete, path = "/v1/sites/{site}/hosts/{host}", tag = "sites",
    params(("site" = String, Path), ("host" = String, Path),
        ("if-match" = Option<String>, Header)),
    responses((status = 204), (status = 404, description = "`host_unknown`", body = Problem)))]
pub(crate) async fn delete_host(
    State(app): State<App>,
    caller: Caller,
    Segments((site, host)): Segments<(SiteName, Host)>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    caller.require(Verb::HostsWrite, &site)?;
    expected.allow(HOST_EDITS)?;
    app.delete_host(&site, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}
