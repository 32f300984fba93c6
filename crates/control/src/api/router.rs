//! Which routes are there?
//!
//! One flat list, which is also where the OpenAPI document comes from. Around it: a request id,
//! a count, and an answer even when a handler panics.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{MatchedPath, Request as HttpRequest, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audit, backup, blobs, browse, ca, certificates,
    conditional::tagged,
    description::describe,
    events,
    idempotency::idempotent,
    leftover::Leftover,
    machines, operations,
    parameters::{Parameters, as_described},
    problem::{Refusal, RefusalCode},
    releases, sites, status, takeover, tokens, webhooks,
};
use crate::{app::App, limits::Budget, random::random, request::Request, serve::Remote};

#[derive(OpenApi)]
#[openapi(info(
    title = "nigh control",
    description = "Push sites to a fleet of edges, and run the fleet. A `POST` with an `Idempotency-Key` is done once. Errors are RFC 9457 problems with a stable `code`; docs/reference/api.md says more."
))]
struct Document;

/// Every route of `/v1` with its description.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::status))
        .routes(routes!(tokens::who_am_i))
        .routes(routes!(backup::read))
        .routes(routes!(takeover::show, takeover::take, takeover::drop))
        .routes(routes!(sites::create, sites::list))
        .routes(routes!(sites::show, sites::change, sites::delete))
        .routes(routes!(sites::create_host, sites::list_hosts))
        .routes(routes!(sites::show_host, sites::delete_host))
        .routes(routes!(releases::begin, releases::list))
        .routes(routes!(releases::prune))
        .routes(routes!(releases::show, releases::delete))
        .routes(routes!(releases::finalize))
        .routes(routes!(releases::activate))
        .routes(routes!(releases::manifest))
        .routes(routes!(releases::roll_back))
        .routes(routes!(blobs::head, blobs::put))
        .routes(routes!(blobs::post_pack))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::show))
        .routes(routes!(certificates::renew))
        .routes(routes!(certificates::revoke))
        .routes(routes!(certificates::import, certificates::remove))
        .routes(routes!(machines::list))
        .routes(routes!(machines::drain))
        .routes(routes!(machines::undrain))
        .routes(routes!(machines::revoke))
        .routes(routes!(machines::show, machines::delete))
        .routes(routes!(machines::create_join_token))
        .routes(routes!(operations::list))
        .routes(routes!(operations::show))
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::delete))
        .routes(routes!(webhooks::enable))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(ca::show))
        .routes(routes!(ca::rotate))
        .routes(routes!(ca::retire))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::show, tokens::change, tokens::delete))
        .routes(routes!(audit::list))
        .routes(routes!(audit::chain))
}

/// The description of the API, for programs.
pub(crate) fn description(version: &str) -> Value {
    describe(described().get_openapi(), version)
}

/// Every route of `/v1`, its description, and the page that shows it.
pub(crate) fn router(app: App) -> Router {
    let routes: Router<App> = described().into();
    let document = description(app.version());
    let parameters = Arc::new(Parameters::of(&document));
    let document: Bytes = document.to_string().into();
    let routes = routes
        .route(
            "/v1/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) }),
        )
        .route("/", get(browse::page))
        .route("/docs", get(browse::page))
        .with_state(app.clone())
        .layer(middleware::from_fn_with_state(app.clone(), idempotent))
        .layer(middleware::from_fn_with_state((app.clone(), parameters), as_described));
    guard(routes, app)
}

/// What every router of control has around it.
pub(crate) fn guard(routes: Router, app: App) -> Router {
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app, around))
}

async fn unknown(request: HttpRequest) -> Refusal {
    let why =
        format!("there is nothing at {}; /v1/openapi.json lists every route", shown(&request));
    Refusal::new(StatusCode::NOT_FOUND, "route_unknown", why)
}

async fn wrong_method(request: HttpRequest) -> Refusal {
    let why = format!("{} does not take {}", shown(&request), request.method());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
}

fn shown(request: &HttpRequest) -> String {
    request.uri().path().chars().take(200).collect()
}

/// The panic itself is in the log, by the process's panic hook.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    let why = "control made a mistake here; its log says more";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why).into_response()
}

/// A change that has begun is carried through even when whoever asked for it goes away: what was
/// committed has to be published as well.
async fn around(State(app): State<App>, request: HttpRequest, next: Next) -> Response {
    let id = random::<8>().iter().fold(String::from("req_"), |mut id, byte| {
        id.push_str(&format!("{byte:02x}"));
        id
    });
    let (method, path) = (request.method().clone(), shown(&request));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let address = request.extensions().get::<Remote>().map(|remote| remote.0);
    let uri = request.uri().clone();
    let asked_headers = request.headers().clone();
    let request = Leftover::of(request);
    let asked = Arc::new(Request::new(id.clone(), method.clone(), uri, route, address, app.now()));
    let mut response = if method.is_safe() {
        asked.answer(next.run(request)).await
    } else {
        let (asked, app) = (Arc::clone(&asked), app.clone());
        let answer = async move {
            let response = asked.answer(next.run(request)).await;
            let refusal = response.extensions().get::<RefusalCode>().copied();
            if let Some(RefusalCode(code)) = refusal
                && response.status() == StatusCode::FORBIDDEN
            {
                asked.answer(app.record_refusal(&asked, code)).await;
            }
            response
        };
        tokio::spawn(answer).await.unwrap_or_else(|_| panicked(Box::new(())))
    };
    if method.is_safe() {
        response = tagged(&method, &asked_headers, response).await;
    }
    let status = response.status().as_u16();
    app.metrics().request(method.as_str(), status);
    tracing::debug!(%method, path, status, request_id = id, "{method} {path} {status}");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    if let Some(budget) = asked.budget() {
        budget_fields(response.headers_mut(), budget);
    }
    response
}

/// What the caller may still ask for (draft-ietf-httpapi-ratelimit-headers).
fn budget_fields(headers: &mut HeaderMap, budget: &Budget) {
    let Budget { policy, rate, remaining, reset } = budget;
    let allowed = format!("\"{policy}\";q={};w={}", rate.quota, rate.window.as_secs());
    let left = format!("\"{policy}\";r={remaining};t={}", reset.as_secs_f64().ceil());
    for (name, value) in [("ratelimit-policy", allowed), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}
