//! How does a connection begin, live within its limits, and end?

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::LimitsConfig,
    edge::{Edge, Visitor},
    metrics::Present,
    service,
    stall::Stall,
};

/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What one HTTP/2 stream may have waiting to be sent.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// A listener and what its connections need.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) edge: Arc<Edge>,
    pub(crate) tasks: nigh_daemon::Tasks,
    pub(crate) limits: Arc<LimitsConfig>,
    /// Places for connections, shared by all listeners.
    pub(crate) places: Arc<Semaphore>,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Port {
    /// Accepts until the edge stops.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let stopping = self.tasks.stopping().clone();
        while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, from)) => self.admit(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives the connection a place, or closes it: one that waits would only look open.
    fn admit(&self, stream: TcpStream, from: SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.edge.metrics.connections_refused.inc();
            return;
        };
        let port = self.clone();
        self.tasks.spawn("connection", async move {
            let _present = Present::new(&port.edge.metrics.connections);
            port.begin(stream, from).await;
            drop(place);
        });
    }

    async fn begin(&self, stream: TcpStream, from: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the connection was gone already");
            return;
        }
        let stream = Stall::new(stream, self.limits.idle_timeout());
        let ip = from.ip();
        match &self.tls {
            None => self.live(stream, Visitor { ip, is_https: false, sni: None }).await,
            Some(tls) => {
                let handshake = tls.accept(stream);
                match tokio::time::timeout(self.limits.handshake_timeout(), handshake).await {
                    Ok(Ok(stream)) => {
                        let sni = self.greet(stream.get_ref().1);
                        self.live(stream, Visitor { ip, is_https: true, sni }).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, %ip, "a handshake failed"),
                    Err(_) => tracing::debug!(%ip, "a handshake took too long"),
                }
            }
        }
    }

    /// Counts a finished handshake and reads the name that it was for.
    fn greet(&self, tls: &rustls::ServerConnection) -> Option<Box<str>> {
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let resumed = matches!(tls.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        let labels = vec![("version", version.to_owned()), ("resumed", resumed.to_string())];
        self.edge.metrics.handshakes.get_or_create(&labels).inc();
        tls.server_name().map(|name| name.to_ascii_lowercase().into())
    }

    async fn live<S>(&self, stream: S, visitor: Visitor)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (edge, visitor) = (Arc::clone(&self.edge), Arc::new(visitor));
        let answering = service_fn(move |request| {
            service::serve(Arc::clone(&edge), Arc::clone(&visitor), request)
        });
        let builder = self.builder();
        let connection = builder.serve_connection(TokioIo::new(stream), answering);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.tasks.stopping().cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = &*error, "a connection broke");
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout())
            .max_headers(limits.headers_max)
            .max_buf_size(limits.header_bytes_max)
            .pipeline_flush(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER_BYTES);
        builder
    }
}
