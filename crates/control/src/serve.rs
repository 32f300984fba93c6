//! How does a connection become requests?
//!
//! Accept, TLS, then HTTP/1.1 or HTTP/2 as the client chose, each with a bound on how many there
//! are and how long they may take. When control stops, requests in flight are finished.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::service::{Service as _, service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use nigh_daemon::Tasks;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    ca::{Port, Presented},
    machines::Peer,
    metered::Metered,
};

/// Where a request comes from, as its connection says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) IpAddr);

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may keep its place without a first request.
pub(crate) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
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
    pub(crate) tls: Arc<Port>,
    pub(crate) router: Router,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) first_request_timeout: Duration,
    /// Knows when what a client has shown is void: then its connection ends, whatever is on it.
    pub(crate) judge: Option<App>,
    /// Bytes that its connections sent.
    pub(crate) sent: Counter,
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
    let Ok(remote) = stream.peer_addr() else { return };
    let stream = Metered::new(stream, service.sent.clone());
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, service.tls.acceptor().accept(stream));
    let stream = match tasks.stopping().run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, "a TLS handshake with the {} listener failed", service.name);
            return;
        }
        Some(Err(_)) | None => return,
    };
    let presented = presented(&stream);
    let peer = Peer(presented.clone());
    let router = TowerToHyperService::new(
        service.router.layer(Extension(peer)).layer(Extension(Remote(remote.ip()))),
    );
    let asked = CancellationToken::new();
    let has_asked = asked.clone();
    let serve = service_fn(move |request| {
        has_asked.cancel();
        router.call(request)
    });
    let builder = http();
    let mut connection =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), serve));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopping().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = void(service.judge.as_ref(), presented.as_ref()) => {
            tracing::info!("a connection ends: the certificate that opened it is void");
            return;
        }
        () = silence(&asked, service.first_request_timeout) => {
            tracing::debug!("a client of the {} listener asked for nothing", service.name);
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection to the {} listener broke", service.name);
    }
}

/// Ends when nothing was asked for in time: until the first bytes nothing else bounds the wait.
async fn silence(asked: &CancellationToken, timeout: Duration) {
    if tokio::time::timeout(timeout, asked.cancelled()).await.is_ok() {
        std::future::pending().await
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

fn presented(stream: &TlsStream<Metered<TcpStream>>) -> Option<Presented> {
    let (_, session) = stream.get_ref();
    Presented::of(session.peer_certificates()?.first()?)
}

/// Ends when the client must go although it was let in.
async fn void(judge: Option<&App>, presented: Option<&Presented>) {
    match (judge, presented) {
        (Some(app), Some(presented)) => app.void(presented).await,
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::ca::{Authorities, Authority, api_config, certified};

    #[tokio::test]
    async fn a_client_that_asks_for_nothing_loses_its_place() {
        let now = std::time::SystemTime::now().into();
        let authority =
            Authorities::open(vec![Authority::generate(1, None, now).unwrap()]).unwrap();
        let own = authority.issue(&["localhost".to_owned()], now).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service {
            name: "api",
            tls: Port::new(api_config(certified(&own).unwrap()).unwrap()),
            router: Router::new(),
            places: Arc::new(Semaphore::new(1)),
            first_request_timeout: Duration::from_millis(50),
            judge: None,
            sent: Counter::default(),
        };
        let tasks = Tasks::new();
        tasks.spawn("api", accept(listener, service, tasks.clone()));

        let ca = CertificateDer::from_pem_slice(authority.bundle_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let connect = async || {
            let stream = TcpStream::connect(address).await.unwrap();
            connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
        };
        let _silent = connect().await;
        // The only place is free again in a moment, and whoever asks keeps it.
        let answered = async {
            let mut asking = connect().await;
            asking.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let mut answer = [0; 12];
            asking.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 404");
        };
        tokio::time::timeout(Duration::from_secs(5), answered).await.expect("a place is free");
    }
}
