//! What becomes of a request before the server sees it?

use std::{io, sync::Arc};

use http::Method;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::Body;
use tokio::net::TcpListener;

use super::{
    backend::Backend,
    fault::{Fault, Purpose, State},
};

/// Answers whoever connects, until this is dropped.
pub(super) async fn accept(listener: TcpListener, backend: Backend, state: Arc<State>) {
    // Connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (backend, state) = (backend.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let serve =
                service_fn(move |request| answer(request, backend.clone(), Arc::clone(&state)));
            let connection = auto::Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(stream), serve).await;
        });
    }
}

async fn answer(
    request: http::Request<Incoming>,
    backend: Backend,
    state: Arc<State>,
) -> io::Result<http::Response<Body>> {
    let query = request.uri().query().unwrap_or_default();
    let is_url = query.contains("X-Amz-Signature=");
    let is_put = request.method() == Method::PUT;
    let is_get = request.method() == Method::GET;
    let is_part = is_put && query.contains("partNumber=");
    match state.meet(Purpose { is_put, is_get, is_part }) {
        (Fault::None, _) => {}
        (Fault::NoUrls, _) if !is_url => {}
        (Fault::NoPuts, _) if !is_put => {}
        (Fault::HeldParts(max), before) if !is_part || before < max => {}
        (Fault::SlowDown, _) => return refuse(503, "SlowDown"),
        (Fault::Internal | Fault::NoPuts, _) => return refuse(500, "InternalError"),
        (Fault::Denied | Fault::NoUrls, _) => return refuse(403, "AccessDenied"),
        (Fault::Clock, _) => return refuse(403, "RequestTimeTooSkewed"),
        (Fault::Gone, _) => return Err(io::ErrorKind::ConnectionReset.into()),
        (Fault::Slow(wait), _) => tokio::time::sleep(wait).await,
        (held @ Fault::HeldParts(_), _) => {
            state.is_over(held).await;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
    backend.answer(request).await
}

fn refuse(status: u16, code: &str) -> io::Result<http::Response<Body>> {
    let text = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
    );
    let response = http::Response::builder().status(status);
    response.body(Body::from(text)).map_err(io::Error::other)
}
