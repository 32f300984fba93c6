//! One request: read, answered, counted, logged.

use std::{convert::Infallible, sync::Arc, time::Instant};

use http::{HeaderValue, Request, Response, Version, header, request::Parts};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{
    access_log::{AccessLog, Entry, ms, text},
    answer,
    body::AnswerBody,
    edge::{About, Answer, Edge, Visitor},
    metrics::{Counted, Present},
};

/// Answers `request` of `visitor`.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    visitor: Arc<Visitor>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let started = Instant::now();
    let _present = Present::new(&edge.metrics.in_flight);
    let (parts, body) = request.into_parts();
    let is_drained = body.is_end_stream() || drain(body, edge.request_body_bytes_max).await;
    let request = Request::from_parts(parts, ());
    let Answer { mut response, about } = answer::answer(&edge, &visitor, &request).await;
    if !is_drained && request.version() < Version::HTTP_2 {
        // What is left of the body would be read as the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (parts, ()) = request.into_parts();
    count(&edge, &parts, &response, &about, started);
    if let Some(log) = &*edge.access_log.load() {
        let entry = entry(&edge, log, &visitor, &parts, &response, &about, started);
        let line = log.line(entry, started);
        response.body_mut().log(line);
    }
    Ok(response)
}

/// Reads a body that nobody needs, up to a bound; whether that was all of it.
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
    let host = request.uri.authority().map(|authority| authority.to_string());
    Entry {
        ts: edge.now(),
        edge: Arc::clone(&edge.name),
        site: serving.map(|serving| serving.site.to_string()).unwrap_or_default(),
        release: release.map(|loaded| loaded.release.id().to_string()).unwrap_or_default(),
        client_ip: log.address(visitor.ip),
        proto: if request.version >= Version::HTTP_2 { "h2" } else { "http/1.1" },
        tls: visitor.is_https,
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
