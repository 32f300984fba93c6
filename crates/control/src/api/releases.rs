//! `/v1/sites/{site}/releases`: pushing, activating, rolling back.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{FromRequest as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use nigh_core::blob::ReadError;
use nigh_proto::{
    OperationId, SiteName,
    access::Verb,
    api::{
        Finalize, NewRelease, Page, Problem, Prune, Pruned, ReleaseBegun, ReleaseState,
        ReleaseView, Rollback,
    },
};
use serde::Deserialize;

use super::{
    body::{Large, Small},
    caller::Caller,
    conditional::{Edited, IfMatch},
    page::{Natural, Paged, Paging, Params},
    problem::Refusal,
    segments::Segments,
};
use crate::{
    app::{App, Begun},
    blobs::blocking,
    store::ReleaseFilter,
};

/// The longest wait of one request.
pub(super) const WAIT_MAX_MS: u64 = 30_000;
const MANIFEST_MAX_BYTES: u64 = 1 << 30;

/// Begin a release: says which blobs to upload.
#[utoipa::path(post, path = "/v1/sites/{site}/releases", tag = "releases",
    request_body = NewRelease, params(("site" = String, Path)), responses(
    (status = 201, body = ReleaseBegun),
    (status = 200, description = "these very files and rules are active already", body = ReleaseBegun),
    (status = 413, body = Problem),
    (status = 422, description = "`manifest_invalid`, `rules_invalid`", body = Problem)))]
pub(crate) async fn begin(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    request: Request,
) -> Result<(StatusCode, Json<ReleaseBegun>), Refusal> {
    caller.require(Verb::ReleasesPush, &site)?;
    // Hundreds of megabytes are read only for those who may send them.
    let Large(new) = Large::<NewRelease>::from_request(request, &app).await?;
    Ok(match app.begin_release(&site, new, &caller.0.name).await? {
        Begun::New(begun) => (StatusCode::CREATED, Json(begun)),
        Begun::Unchanged(begun) => (StatusCode::OK, Json(begun)),
    })
}

/// `?state=` beside a page.
#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    #[serde(default)]
    state: Option<ReleaseState>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
}

/// List releases, newest first.
#[utoipa::path(get, path = "/v1/sites/{site}/releases", tag = "releases",
    params(("site" = String, Path), ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query), ("state" = Option<ReleaseState>, Query)),
    responses((status = 200, body = Page<ReleaseView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    Params(ListParams { state, limit, cursor }): Params<ListParams>,
) -> Result<Paged<ReleaseView>, Refusal> {
    caller.require(Verb::SitesRead, &site)?;
    let paging = Paging::new(limit, cursor);
    let filter = ReleaseFilter { state, before: paging.after()? };
    let views = app.list_releases(&site, &filter, paging.limit() + 1).await?;
    Ok(paging.page(views, |view| view.id.to_string()).into())
}

/// `?after=&wait_ms=`.
#[derive(Debug, Deserialize)]
pub(crate) struct WaitParams {
    #[serde(default)]
    after: Option<Natural>,
    #[serde(default)]
    wait_ms: Natural,
}

/// Show a release, or wait for it to come further than `after`.
#[utoipa::path(get, path = "/v1/sites/{site}/releases/{release}", tag = "releases",
    params(("site" = String, Path), ("release" = String, Path),
        ("after" = Option<u64>, Query), ("wait_ms" = Option<u64>, Query)),
    responses((status = 200, body = ReleaseView), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments((site, release)): Segments<(SiteName, String)>,
    Params(WaitParams { after, wait_ms }): Params<WaitParams>,
) -> Result<Edited<Json<ReleaseView>>, Refusal> {
    caller.require(Verb::SitesRead, &site)?;
    let row = app.require_release(&site, &release).await?;
    let view = match after {
        None => app.release_view(&row).await?,
        Some(Natural(after)) => {
            let wait = Duration::from_millis(wait_ms.0.min(WAIT_MAX_MS));
            app.await_release(&site, &row.id, after, wait).await?
        }
    };
    // Its state is all that is ever edited of a release.
    Ok(Edited(view.state.label().to_owned(), Json(view)))
}

/// Everything is uploaded: edges fetch it.
#[utoipa::path(post, path = "/v1/sites/{site}/releases/{release}/finalize", tag = "releases",
    request_body = Finalize, params(("site" = String, Path), ("release" = String, Path),
        ("if-match" = Option<String>, Header)),
    responses((status = 202, body = ReleaseView, description = "edges fetch it; `location` is the operation to follow"),
        (status = 409, description = "`release_incomplete`", body = Problem),
        (status = 412, description = "`edited_meanwhile`", body = Problem),
        (status = 422, description = "`size_mismatch`", body = Problem)))]
pub(crate) async fn finalize(
    State(app): State<App>,
    caller: Caller,
    Segments((site, release)): Segments<(SiteName, String)>,
    IfMatch(expected): IfMatch,
    Small(Finalize { activate }): Small<Finalize>,
) -> Result<OnItsWay, Refusal> {
    caller.require(Verb::ReleasesPush, &site)?;
    let row = app.require_release(&site, &release).await?;
    if activate && row.preview_host.is_none() {
        caller.require(Verb::ReleasesActivate, &site)?;
    }
    let (_, field, view) = on_its_way(app.finalize(&site, &row, activate, &expected).await?);
    Ok((StatusCode::ACCEPTED, field, view))
}

/// Make a release the one that every edge serves.
#[utoipa::path(post, path = "/v1/sites/{site}/releases/{release}/activate", tag = "releases",
    params(("site" = String, Path), ("release" = String, Path),
        ("if-match" = Option<String>, Header)),
    responses((status = 200, body = ReleaseView),
        (status = 202, body = ReleaseView, description = "not every edge has it yet; `location` is the operation to follow"),
        (status = 409, description = "`release_state`", body = Problem),
        (status = 412, description = "`edited_meanwhile`", body = Problem)))]
pub(crate) async fn activate(
    State(app): State<App>,
    caller: Caller,
    Segments((site, release)): Segments<(SiteName, String)>,
    IfMatch(expected): IfMatch,
) -> Result<OnItsWay, Refusal> {
    caller.require(Verb::ReleasesActivate, &site)?;
    let row = app.require_release(&site, &release).await?;
    Ok(on_its_way(app.activate(&site, &row.id, &expected).await?))
}

/// Go back to the release that was active before, or to a given one.
#[utoipa::path(post, path = "/v1/sites/{site}/rollback", tag = "releases",
    request_body = Rollback, params(("site" = String, Path),
        ("if-match" = Option<String>, Header,
            description = "of the site: also fails when another release went live")),
    responses((status = 200, body = ReleaseView),
        (status = 202, body = ReleaseView, description = "not every edge has it yet; `location` is the operation to follow"),
        (status = 409, description = "`nothing_to_roll_back`", body = Problem),
        (status = 412, description = "`edited_meanwhile`", body = Problem)))]
pub(crate) async fn roll_back(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    IfMatch(expected): IfMatch,
    Small(Rollback { release }): Small<Rollback>,
) -> Result<OnItsWay, Refusal> {
    caller.require(Verb::ReleasesActivate, &site)?;
    Ok(on_its_way(app.roll_back(&site, release, &expected).await?))
}

/// A release and, while edges are still fetching it, where to follow that.
type OnItsWay = (StatusCode, Option<[(header::HeaderName, String); 1]>, Json<ReleaseView>);

fn on_its_way(view: ReleaseView) -> OnItsWay {
    let goes_on = view.state == ReleaseState::Staging;
    let status = if goes_on { StatusCode::ACCEPTED } else { StatusCode::OK };
    let location = goes_on.then(|| format!("/v1/operations/{}", OperationId::of(&view.id)));
    (status, location.map(|location| [(header::LOCATION, location)]), Json(view))
}

/// Delete a release that is not active.
#[utoipa::path(delete, path = "/v1/sites/{site}/releases/{release}", tag = "releases",
    params(("site" = String, Path), ("release" = String, Path),
        ("if-match" = Option<String>, Header)),
    responses((status = 204), (status = 409, description = "`release_active`", body = Problem)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((site, release)): Segments<(SiteName, String)>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    caller.require(Verb::ReleasesDelete, &site)?;
    let row = app.require_release(&site, &release).await?;
    app.delete_release(&row, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete all but the newest releases.
#[utoipa::path(post, path = "/v1/sites/{site}/releases/prune", tag = "releases",
    request_body = Prune, params(("site" = String, Path)),
    responses((status = 200, body = Pruned)))]
pub(crate) async fn prune(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    Small(Prune { keep }): Small<Prune>,
) -> Result<Json<Pruned>, Refusal> {
    caller.require(Verb::ReleasesDelete, &site)?;
    Ok(Json(Pruned { releases: app.prune(&site, keep).await? }))
}

/// The text of a release's manifest; `active` stands for the active release.
#[utoipa::path(get, path = "/v1/sites/{site}/releases/{release}/manifest", tag = "releases",
    params(("site" = String, Path), ("release" = String, Path)),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = Problem)))]
pub(crate) async fn manifest(
    State(app): State<App>,
    caller: Caller,
    Segments((site, release)): Segments<(SiteName, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    caller.require(Verb::SitesRead, &site)?;
    let row = if release == "active" {
        app.require_active(&site).await?
    } else {
        app.require_release(&site, &release).await?
    };
    let accepts_zstd = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim() == "zstd");
    app.blobs().fetch(&[row.manifest]).await?;
    let store = app.blobs().store().clone();
    let text = blocking(move || -> Result<Vec<u8>, ReadError> {
        let text = store.read_up_to(&row.manifest, MANIFEST_MAX_BYTES)?;
        let encoded = accepts_zstd.then(|| zstd::bulk::compress(&text, 3).ok()).flatten();
        Ok(encoded.unwrap_or(text))
    })
    .await?;
    // What zstd makes begins with its magic number, and no manifest does.
    let is_encoded = text.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut response = Body::from(text).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_encoded {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    Ok(response)
}
