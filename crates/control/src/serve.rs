//! How does a connection become requests?
//!
//! Accept, TLS, then HTTP/1.1 or HTTP/2 as the client chose, each with a bound on how many there
//! are and how long they may take. When control stops, requests in flight are finished.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use nigh_daemon::Tasks;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{ca::Identity, machines::Peer};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2: a quiet client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2: requests of one connection at once.
const STREAMS_MAX: u32 = 64;
/// HTTP/2: what one connection may send ahead; large enough that a push is not slowed down.
const WINDOW_BYTES: u32 = 4 << 20;
const HEADERS_MAX_BYTES: u32 = 64 << 10;
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What serves one kind of client.
#[derive(Clone)]
pub(crate) struct Service {
    /// In logs and among tasks.
    pub(crate) name: &'static str,
    pub(crate) tls: TlsAcceptor,
    pub(crate) router: Router,
    pub(crate) places: Arc<Semaphore>,
}

/// Accepts until the tasks are told to stop.
pub(crate) async fn accept(listener: TcpListener, service: Service, tasks: Tasks) {
    let stopping = tasks.stopping().clone();
    while let Some((stream, place)) = stopping.run_until_cancelled(next(&listener, &service)).await
    {
        tasks.spawn(service.name, connection(stream, place, service.clone(), tasks.clone()));
    }
}

/// Waits for a free place first, so that what cannot be served is not accepted either.
async fn next(listener: &TcpListener, service: &Service) -> (TcpStream, OwnedSemaphorePermit) {
    let places = Arc::clone(&service.places);
    let place = places.acquire_owned().await.expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "the {} listener could not accept", service.name);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    service: Service,
    tasks: Tasks,
) {
    // Without it small frames wait for acknowledgements: an activation would be told late.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, service.tls.accept(stream));
    let stream = match tasks.stopping().run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, "a TLS handshake with the {} listener failed", service.name);
            return;
        }
        Some(Err(_)) | None => return,
    };
    let peer = Peer(identity(&stream));
    let serve = TowerToHyperService::new(service.router.layer(Extension(peer)));
    let builder = http();
    let mut connection =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), serve));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopping().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection to the {} listener broke", service.name);
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADERS_MAX_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_header_list_size(HEADERS_MAX_BYTES);
    builder
}

fn identity(stream: &TlsStream<TcpStream>) -> Option<Identity> {
    let (_, session) = stream.get_ref();
    Identity::of(session.peer_certificates()?.first()?)
}
