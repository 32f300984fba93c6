//! `/v1/certificates` and the certificate that an operator brings for a site.

use axum::{Json, extract::State, http::StatusCode};
use nigh_proto::{
    SiteName,
    api::{CertificateView, NewCertificate, NewRevocation, Page, Problem, Verb},
    zone::DnsName,
};

use super::{
    body::Small,
    caller::Caller,
    page::{Paged, Paging, Params},
    problem::Refusal,
    segments::{CertificateId, Segments},
};
use crate::{app::App, certificates::covers};

/// Whether the caller may see a certificate: one for some sites sees those of its hosts.
fn sees(app: &App, caller: &Caller, view: &CertificateView) -> bool {
    let world = app.world();
    let hosts =
        world.sites.iter().filter(|site| caller.sees(&site.name)).flat_map(|site| &site.hosts);
    caller.0.sites.is_empty()
        || hosts
            .cloned()
            .map(DnsName::from)
            .any(|host| view.names.iter().any(|name| covers(name, &host)))
}

/// List certificates by id: those served, those that come, and those that cannot be had.
#[utoipa::path(get, path = "/v1/certificates", tag = "certificates",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<CertificateView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Paged<CertificateView>, Refusal> {
    caller.require_scope(Verb::SitesRead)?;
    let after = paging.after()?.unwrap_or_default();
    let mut items = app.certificate_views().await?;
    // One that is served and the one to come have the same id.
    let key = |view: &CertificateView| format!("{} {:?}", view.id, view.state);
    items.retain(|view| key(view) > after && sees(&app, &caller, view));
    items.sort_by_cached_key(key);
    items.truncate(paging.limit() as usize + 1);
    Ok(paging.page(items, key).into())
}

/// Show a certificate.
#[utoipa::path(get, path = "/v1/certificates/{id}", tag = "certificates",
    params(("id" = String, Path)), responses((status = 200, body = CertificateView),
        (status = 404, description = "`certificate_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(CertificateId(id)): Segments<CertificateId>,
) -> Result<Json<CertificateView>, Refusal> {
    caller.require_scope(Verb::SitesRead)?;
    let view = app.certificate_view(&id).await?;
    if !sees(&app, &caller, &view) {
        return Err(crate::app::AppError::CertificateUnknown(id).into());
    }
    Ok(Json(view))
}

/// Have a certificate of a public CA renewed now.
#[utoipa::path(post, path = "/v1/certificates/{id}/renew", tag = "certificates",
    params(("id" = String, Path)), responses((status = 202, body = CertificateView),
        (status = 404, description = "`certificate_unknown`", body = Problem),
        (status = 409, description = "`certificate_kind`", body = Problem)))]
pub(crate) async fn renew(
    State(app): State<App>,
    caller: Caller,
    Segments(CertificateId(id)): Segments<CertificateId>,
) -> Result<(StatusCode, Json<CertificateView>), Refusal> {
    caller.require_everywhere(Verb::CertificatesWrite)?;
    Ok((StatusCode::ACCEPTED, Json(app.renew_certificate(&id).await?)))
}

/// Have the CA revoke a certificate; the next one is asked for at once.
#[utoipa::path(post, path = "/v1/certificates/{id}/revoke", tag = "certificates",
    request_body = NewRevocation, params(("id" = String, Path)),
    responses((status = 202, body = CertificateView),
        (status = 404, description = "`certificate_unknown`", body = Problem),
        (status = 409, description = "`certificate_kind`", body = Problem),
        (status = 502, description = "`ca_failed`", body = Problem)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Segments(CertificateId(id)): Segments<CertificateId>,
    Small(revocation): Small<NewRevocation>,
) -> Result<(StatusCode, Json<CertificateView>), Refusal> {
    caller.require_everywhere(Verb::CertificatesWrite)?;
    let view = app.revoke_certificate(&id, revocation.reason).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// Bring a certificate for a site; it is preferred to others once an edge has proven it.
#[utoipa::path(put, path = "/v1/sites/{site}/certificate", tag = "certificates",
    request_body = NewCertificate, params(("site" = String, Path)),
    responses((status = 202, body = CertificateView),
        (status = 404, description = "`site_unknown`", body = Problem),
        (status = 422, description = "`certificate_invalid`", body = Problem)))]
pub(crate) async fn import(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
    Small(new): Small<NewCertificate>,
) -> Result<(StatusCode, Json<CertificateView>), Refusal> {
    caller.require(Verb::CertificatesWrite, &site)?;
    Ok((StatusCode::ACCEPTED, Json(app.import_certificate(&site, &new).await?)))
}

/// Remove the certificate that was brought for a site.
#[utoipa::path(delete, path = "/v1/sites/{site}/certificate", tag = "certificates",
    params(("site" = String, Path)), responses((status = 204),
        (status = 404, description = "`certificate_unknown`", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Segments(site): Segments<SiteName>,
) -> Result<StatusCode, Refusal> {
    caller.require(Verb::CertificatesWrite, &site)?;
    app.remove_import(&site).await?;
    Ok(StatusCode::NO_CONTENT)
}
