//! What does this edge answer to a request?
//!
//! Each step answers or hands on: the health page, the host, an authority's challenge, the way to HTTPS, the method, the
//! release.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use nigh_core::{
    http::BadPath,
    release::{By, Resolution, Served},
    rules::View,
};

use crate::{
    authority,
    body::AnswerBody,
    edge::{About, Answer, Edge, Visitor},
    load::Loaded,
    plain, respond,
    world::Serving,
};

/// Kept for nigh itself, on every host.
const HEALTH_PATH: &str = "/.well-known/nigh/health";
/// Where an authority looks before it signs a certificate (RFC 8555, section 8.3).
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
const NOINDEX: HeaderValue = HeaderValue::from_static("noindex");

/// Answers one request. Never fails: whatever is wrong is an answer too.
pub(crate) async fn answer(edge: &Edge, visitor: &Visitor, request: &Request<()>) -> Answer {
    let method = request.method();
    if request.uri().path() == HEALTH_PATH {
        return bare(health(edge, method));
    }
    let Ok(host) = authority::host(request) else {
        let words = "name one host in Host or :authority\n";
        return bare(plain::text(method, StatusCode::BAD_REQUEST, words));
    };
    if let Some(response) = challenge(edge, request, &host) {
        return bare(response);
    }
    let serving = edge.world.load().serving(&host).cloned();
    let Some(serving) = serving.filter(|_| is_covered(edge, visitor, &host)) else {
        return bare(unknown_host(edge, visitor, method, &host));
    };
    let about = About { serving: Some(Arc::clone(&serving)), ..About::default() };
    match redirect_to_https(edge, visitor, &serving, &host, request) {
        Some(response) => Answer { response, about },
        None => of_site(edge, visitor, &serving, host, request, about).await,
    }
}

fn bare(response: Response<AnswerBody>) -> Answer {
    Answer { response, about: About::default() }
}

fn health(edge: &Edge, method: &Method) -> Response<AnswerBody> {
    if edge.is_serving() {
        plain::text(method, StatusCode::OK, "ok\n")
    } else {
        plain::text(method, StatusCode::SERVICE_UNAVAILABLE, "not serving\n")
    }
}

/// The answer to an authority's challenge, whether or not the host is served here yet. Any other
/// token is a path like all others.
fn challenge(edge: &Edge, request: &Request<()>, host: &str) -> Option<Response<AnswerBody>> {
    let token = request.uri().path().strip_prefix(CHALLENGE_PATH)?;
    let method = request.method();
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let world = edge.world.load();
    Some(plain::challenge(method, world.challenge(host, token)?))
}

/// Whether the connection was opened for this host, or for one with the same certificate.
fn is_covered(edge: &Edge, visitor: &Visitor, host: &str) -> bool {
    match visitor.sni.as_deref() {
        None => true,
        Some(sni) => sni == host || edge.keyring.current().cover_both(sni, host),
    }
}

/// 421 asks the client to try again on a connection for the very host (RFC 9110, section 15.5.20).
fn unknown_host(
    edge: &Edge,
    visitor: &Visitor,
    method: &Method,
    host: &str,
) -> Response<AnswerBody> {
    if !edge.world.load().has_state {
        let words = "this edge has no state yet\n";
        return retry_later(plain::text(method, StatusCode::SERVICE_UNAVAILABLE, words));
    }
    match visitor.sni.as_deref() {
        Some(sni) if sni != host => {
            let words = "this connection is for another host\n";
            plain::text(method, StatusCode::MISDIRECTED_REQUEST, words)
        }
        _ => plain::text(method, StatusCode::NOT_FOUND, "no site has this host\n"),
    }
}

fn retry_later(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn redirect_to_https(
    edge: &Edge,
    visitor: &Visitor,
    serving: &Serving,
    host: &str,
    request: &Request<()>,
) -> Option<Response<AnswerBody>> {
    if visitor.is_https || !serving.https_redirect {
        return None;
    }
    let location = authority::https_location(host, edge.https_port?, request.uri())?;
    let mut response = plain::text(request.method(), StatusCode::PERMANENT_REDIRECT, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::LOCATION, location);
    let an_hour = HeaderValue::from_static("public, max-age=3600");
    headers.insert(header::CACHE_CONTROL, an_hour);
    Some(response)
}

async fn of_site(
    edge: &Edge,
    visitor: &Visitor,
    serving: &Serving,
    host: Cow<'_, str>,
    request: &Request<()>,
    mut about: About,
) -> Answer {
    let method = request.method();
    if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        let words = "only GET, HEAD and OPTIONS\n";
        let mut response = plain::text(method, StatusCode::METHOD_NOT_ALLOWED, words);
        response.headers_mut().insert(header::ALLOW, plain::ALLOW);
        return Answer { response, about };
    }
    if serving.is_expired(|| edge.now()) {
        let response = plain::text(method, StatusCode::NOT_FOUND, "this preview has expired\n");
        return Answer { response, about };
    }
    let Some(loaded) = &serving.release else {
        let words = "this site has no release here yet\n";
        let response = plain::text(method, StatusCode::SERVICE_UNAVAILABLE, words);
        return Answer { response: retry_later(response), about };
    };
    let view = View {
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        host: &host,
        is_https: visitor.is_https,
        country: None,
    };
    let mut response = resolved(edge, serving, loaded, request, &view, &mut about).await;
    let headers = response.headers_mut();
    if serving.preview.is_some() {
        headers.insert("x-robots-tag", NOINDEX);
    }
    if visitor.is_https
        && let Some(hsts) = loaded.release.hsts()
    {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    Answer { response, about }
}

async fn resolved(
    edge: &Edge,
    serving: &Serving,
    loaded: &Arc<Loaded>,
    request: &Request<()>,
    view: &View<'_>,
    about: &mut About,
) -> Response<AnswerBody> {
    let method = request.method();
    let resolution = loaded.release.resolve(view);
    about.rule = rule(&resolution);
    if *method == Method::OPTIONS {
        return options(&resolution);
    }
    if is_missing(&resolution)
        && let Some((older, served)) = from_grace(edge, serving, view)
    {
        about.rule = "grace";
        return send(edge, older, &served, request, about).await;
    }
    match resolution {
        Resolution::File(served) => send(edge, loaded, &served, request, about).await,
        Resolution::Redirect(moved) => {
            let status = StatusCode::from_u16(moved.status).unwrap_or(StatusCode::FOUND);
            let mut response = plain::with_fields(method, status, "", &moved.fields);
            response.headers_mut().remove(header::CONTENT_TYPE);
            response.headers_mut().insert(header::LOCATION, moved.location);
            response.headers_mut().insert("cache-status", edge.cache_status.miss());
            response
        }
        Resolution::Empty(empty) => {
            let (status, words) = match empty.status {
                410 => (StatusCode::GONE, "gone\n"),
                451 => (StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, "unavailable\n"),
                _ => (StatusCode::NOT_FOUND, "not found\n"),
            };
            let mut response = plain::with_fields(method, status, words, &empty.fields);
            response.headers_mut().insert("cache-status", edge.cache_status.miss());
            response
        }
        Resolution::Refused(BadPath::TooLong) => {
            plain::text(method, StatusCode::URI_TOO_LONG, "the path is too long\n")
        }
        Resolution::Refused(_) => {
            plain::text(method, StatusCode::BAD_REQUEST, "this path cannot be that of a file\n")
        }
    }
}

async fn send(
    edge: &Edge,
    loaded: &Loaded,
    served: &Served<'_>,
    request: &Request<()>,
    about: &mut About,
) -> Response<AnswerBody> {
    match respond::file(edge, loaded, served, request.method(), request.headers()).await {
        Ok(sent) => {
            about.cache = sent.cache;
            about.saved_bytes = sent.saved_bytes;
            about.encoding = sent.coding.map_or("", |coding| coding.token());
            sent.response
        }
        Err(_unavailable) => {
            about.error = "blob_unavailable";
            let words = "this file is being repaired; try again\n";
            let method = request.method();
            retry_later(plain::text(method, StatusCode::SERVICE_UNAVAILABLE, words))
        }
    }
}

/// 204 with what may be done, and the fields of the path: those answer a CORS preflight.
fn options(resolution: &Resolution<'_>) -> Response<AnswerBody> {
    let fields = match resolution {
        Resolution::File(served) => Some(&served.fields),
        Resolution::Redirect(moved) => Some(&moved.fields),
        Resolution::Empty(empty) => Some(&empty.fields),
        Resolution::Refused(_) => None,
    };
    let status = StatusCode::NO_CONTENT;
    let mut response = match fields {
        Some(fields) => plain::with_fields(&Method::OPTIONS, status, "", fields),
        None => plain::text(&Method::OPTIONS, status, ""),
    };
    response.headers_mut().insert(header::ALLOW, plain::ALLOW);
    response
}

fn rule(resolution: &Resolution<'_>) -> &'static str {
    match resolution {
        Resolution::File(served) => served.by.label(),
        Resolution::Redirect(moved) => moved.by.label(),
        Resolution::Empty(empty) => empty.by.label(),
        Resolution::Refused(_) => "refused",
    }
}

/// Whether the active release has nothing at this path, as opposed to a rule that says so.
fn is_missing(resolution: &Resolution<'_>) -> bool {
    match resolution {
        Resolution::File(served) => served.by == By::NotFoundPage,
        Resolution::Empty(empty) => empty.status == 404 && empty.by == By::Path,
        Resolution::Redirect(_) | Resolution::Refused(_) => false,
    }
}

/// The file as the newest earlier release had it, if pages of that release may still ask for it.
fn from_grace<'s>(
    edge: &Edge,
    serving: &'s Serving,
    view: &View<'_>,
) -> Option<(&'s Loaded, Served<'s>)> {
    if serving.grace.is_empty() {
        return None;
    }
    let now = edge.now();
    let mut living = serving.grace.iter().filter(|grace| grace.until > now);
    living.find_map(|grace| match grace.loaded.release.resolve(view) {
        Resolution::File(served)
            if served.status == 200 && served.by == By::Path && served.file.is_immutable() =>
        {
            Some((&*grace.loaded, served))
        }
        _ => None,
    })
}
