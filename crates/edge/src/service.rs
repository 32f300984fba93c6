//! One request: read, answered, counted, logged.

use std::{convert::Infallible, sync::Arc, time::Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{
    access_log::{AccessLog, Entry, ms, text},
    answer,
    body::AnswerBody,
    edge::{About, Answer, Edge, InFlight, Visitor},
    metrics::Counted,
    plain,
};

/// Answers `request` of `visitor`.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    visitor: Arc<Visitor>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let started = Instant::now();
    let in_flight = InFlight::new(edge, visitor);
    let InFlight { edge, visitor } = &in_flight;
    let (parts, body) = request.into_parts();
    let may_go_on = take_body(edge, visitor, &parts, body).await;
    let request = Request::from_parts(parts, ());
    let Answer { mut response, about } = match may_go_on {
        Ok(_) => answer::answer(edge, visitor, &request).await,
        Err(words) => refuse(request.method(), words),
    };
    if may_go_on != Ok(true) && request.version() < Version::HTTP_2 {
        // What comes next might be no request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (parts, ()) = request.into_parts();
    count(edge, &parts, &response, &about, started);
    if let Some(log) = &*edge.access_log.load() {
        let entry = entry(edge, log, visitor, &parts, &response, &about, started);
        let line = log.line(entry, started);
        response.body_mut().log(line);
    }
    response.body_mut().hold(in_flight);
    Ok(response)
}

/// Reads the body, which nobody needs, up to a bound; whether that was all of it. An error when
/// there might be two views of what this request is.
async fn take_body(
    edge: &Edge,
    visitor: &Visitor,
    request: &Parts,
    body: Incoming,
) -> Result<bool, &'static str> {
    if request.version < Version::HTTP_2 && visitor.conduct.has_bare_lf() {
        return Err("end lines with CR LF\n");
    }
    if body.is_end_stream() {
        return Ok(true);
    }
    // hyper hides a Content-Length beside it, which smuggles (RFC 9112, section 6.1). As no body is
    // of use here, neither is one of unknown length.
    if request.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err("send no body, or say its length in Content-Length alone\n");
    }
    let drained = drain(body, edge.request_body_bytes_max);
    Ok(timeout(edge.request_body_timeout, drained).await.unwrap_or(false))
}

/// Whether all of the body was read.
async fn drain(mut body: Incoming, max_bytes: usize) -> bool {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        if bytes > max_bytes {
            return false;
        }
    }
    true
}

fn refuse(method: &Method, words: &'static str) -> Answer {
    let response = plain::text(method, StatusCode::BAD_REQUEST, words);
    Answer { response, about: About { error: "malformed", ..About::default() } }
}

fn count(
    edge: &Edge,
    request: &Parts,
    response: &Response<AnswerBody>,
    about: &About,
    started: Instant,
) {
    let counters = about.serving.as_ref().map_or(&edge.no_site, |serving| &*serving.counters);
    let counted = Counted {
        status: response.status().as_u16(),
        is_http2: request.version >= Version::HTTP_2,
        bytes: response.body().size_hint().exact().unwrap_or_default(),
        saved_bytes: about.saved_bytes,
        cache: about.cache,
        duration: started.elapsed(),
    };
    counters.count(&request.method, &counted);
}

fn entry(
    edge: &Edge,
    log: &AccessLog,
    visitor: &Visitor,
    request: &Parts,
    response: &Response<AnswerBody>,
    about: &About,
    started: Instant,
) -> Entry {
    let serving = about.serving.as_deref();
    let release = serving.and_then(|serving| serving.release.as_ref());
    let req_id = log.request_id();
    let host = request.uri.authority().map(|authority| authority.to_string());
    Entry {
        ts: edge.now(),
        edge: Arc::clone(&edge.name),
        site: serving.map(|serving| serving.site.to_string()).unwrap_or_default(),
        release: release.map(|loaded| loaded.release.id().to_string()).unwrap_or_default(),
        req_id,
        client_ip: log.address(visitor.ip),
        proto: if request.version >= Version::HTTP_2 { "h2" } else { "http/1.1" },
        tls: visitor.tls,
        method: request.method.to_string(),
        host: host.unwrap_or_else(|| text(request.headers.get(header::HOST))),
        path: request.uri.path_and_query().map(|path| cut(path.as_str())).unwrap_or_default(),
        status: response.status().as_u16(),
        bytes: 0,
        dur_ms: 0.0,
        ttfb_ms: ms(started.elapsed()),
        cache: about.cache.label(),
        enc: about.encoding,
        range: text(request.headers.get(header::RANGE)),
        rule: about.rule,
        ua: text(request.headers.get(header::USER_AGENT)),
        referrer: text(request.headers.get(header::REFERER)),
        err: about.error,
    }
}

fn cut(path: &str) -> String {
    path.chars().take(2048).collect()
}
