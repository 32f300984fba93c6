//! What does this process show to operators and their tools?
//!
//! `/healthz` says that it is alive, `/readyz` whether it can do its work and what is missing,
//! `/metrics` its numbers, `/version` what it is. The pages are for a private address: they need
//! no login. They stay up while the role drains, so that the drain can be watched.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    listen::{BindError, TcpListen, bind_tcp},
    metrics::Metrics,
    readiness::Readiness,
    tasks::Tasks,
};

/// How much of the process the pages may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Served at once; more wait in the kernel's queue.
    connections: usize,
    /// A client has this long to send the head of a request.
    header_timeout: Duration,
    /// No connection lasts longer, so clients that read slowly cannot lock others out.
    connection_timeout: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 64,
    header_timeout: Duration::from_secs(5),
    connection_timeout: Duration::from_secs(60),
};
/// The largest request head.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// How long a page under way may take when the listener stops.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Pages {
    pub role: &'static str,
    pub version: &'static str,
    pub metrics: Metrics,
    pub readiness: Readiness,
}

/// The operations listener as it runs. Dropping it tells it to end; [`stop`](Self::stop) waits too.
#[derive(Debug)]
pub struct Ops {
    addr: SocketAddr,
    tasks: Tasks,
}

impl Ops {
    /// Binds the listener before it returns, so a taken port is an error here.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(listen: &TcpListen, pages: Pages) -> Result<Self, BindError> {
        Self::start_within(BOUNDS, listen, pages)
    }

    fn start_within(bounds: Bounds, listen: &TcpListen, pages: Pages) -> Result<Self, BindError> {
        let listener = bind_tcp("ops", listen)?;
        let addr = listener.local_addr().map_err(|source| BindError::Other {
            what: "ops".to_owned(),
            address: listen.address,
            source,
        })?;
        let tasks = Tasks::new();
        tasks.spawn("ops", accept(listener, bounds, Arc::new(pages), tasks.clone()));
        Ok(Self { addr, tasks })
    }

    /// The address that was bound; tests ask for port 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting and waits a moment for pages under way.
    pub async fn stop(self) {
        self.tasks.stop(STOP_GRACE).await;
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

async fn accept(listener: TcpListener, bounds: Bounds, pages: Arc<Pages>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let stopping = tasks.stopping().clone();
    while let Some((stream, place)) = stopping.run_until_cancelled(next(&listener, &places)).await {
        let connection = serve(stream, bounds, Arc::clone(&pages), tasks.clone());
        tasks.spawn("ops connection", async move {
            connection.await;
            drop(place);
        });
    }
}

/// Waits for a free place first, so that what cannot be served is not accepted either.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "the operations listener could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, bounds: Bounds, pages: Arc<Pages>, tasks: Tasks) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &pages);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header_timeout)
            .max_header_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopping().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = tokio::time::sleep(bounds.connection_timeout) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the operations pages broke");
    }
}

/// The page for a request. Pure apart from reading the metrics; hyper drops the body for HEAD.
fn answer(method: &Method, path: &str, pages: &Pages) -> Response<Full<Bytes>> {
    let page: fn(&Pages) -> Response<Full<Bytes>> = match path {
        "/healthz" => |_| text(StatusCode::OK, "ok\n"),
        "/readyz" => readyz,
        "/metrics" => metrics,
        "/version" => version,
        _ => return text(StatusCode::NOT_FOUND, "try /healthz, /readyz, /metrics or /version\n"),
    };
    if matches!(*method, Method::GET | Method::HEAD) {
        return page(pages);
    }
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

fn readyz(pages: &Pages) -> Response<Full<Bytes>> {
    let report = pages.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &report)
}

fn metrics(pages: &Pages) -> Response<Full<Bytes>> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match pages.metrics.encode() {
        Ok(page) => respond(StatusCode::OK, OPEN_METRICS, page),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written\n"),
    }
}

fn version(pages: &Pages) -> Response<Full<Bytes>> {
    let Pages { role, version, .. } = pages;
    json(StatusCode::OK, &serde_json::json!({"role": role, "version": version}))
}

fn json(status: StatusCode, page: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_string(page).expect("these pages hold only text and booleans");
    text.push('\n');
    respond(status, "application/json", text)
}

fn text(status: StatusCode, page: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", page)
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    page: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(page.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
