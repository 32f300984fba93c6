//! How does a connection begin, live within its limits, and end?

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    conduct::Conduct,
    config::LimitsConfig,
    edge::{Edge, Visitor},
    line_ends::LineEnds,
    metrics::Present,
    peers::{ALPN, Admission, PeerPort},
    places::Places,
    service,
    stall::Stall,
};

/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What one HTTP/2 stream may have waiting to be sent.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// What clients may send on one HTTP/2 stream, and on all, before it is read: no body is of use.
const STREAM_WINDOW_BYTES: u32 = 65_535;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// HTTP/2 streams that the client reset before they were looked at. More end the connection
/// (CVE-2023-44487, "rapid reset").
const EARLY_RESETS_MAX: usize = 20;
/// HTTP/2 streams that this edge had to reset for the client's faults (CVE-2025-8671, "made you
/// reset"), over the life of a connection. More end it.
const FAULTS_MAX: usize = 1024;

/// A finished handshake, with an admission if it is another edge's.
type Shaken = (TlsStream<Stall<TcpStream>>, Option<Admission>);

/// A listener and what its connections need.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) edge: Arc<Edge>,
    pub(crate) tasks: nigh_daemon::Tasks,
    pub(crate) limits: Arc<LimitsConfig>,
    /// Places for connections, shared by all listeners.
    pub(crate) places: Arc<Places>,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Who serves other edges; `None` where there are none.
    pub(crate) peers: Option<Arc<PeerPort>>,
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
        let place = match self.places.take(from.ip()) {
            Ok(place) => place,
            Err(why) => {
                tracing::debug!(ip = %from.ip(), ?why, "a connection found no place");
                self.edge.metrics.connections_refused.inc();
                return;
            }
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
        let conduct = Arc::new(Conduct::default());
        let stream = Stall::new(stream, self.limits.demands(), Arc::clone(&conduct));
        let visitor = Visitor { ip: from.ip(), is_https: false, tls: "", sni: None, conduct };
        match &self.tls {
            None => self.live(stream, true, visitor).await,
            Some(tls) => self.greet(tls, stream, visitor).await,
        }
    }

    /// Shakes hands, then serves.
    async fn greet(&self, tls: &Arc<ServerConfig>, stream: Stall<TcpStream>, visitor: Visitor) {
        let ip = visitor.ip;
        let handshake = self.shake(tls, stream);
        match tokio::time::timeout(self.limits.handshake_timeout(), handshake).await {
            Ok(Ok((stream, Some(admission)))) => self.live_as_peer(stream, admission).await,
            Ok(Ok((stream, None))) => {
                let tls = stream.get_ref().1;
                let is_http1 = tls.alpn_protocol() != Some(b"h2");
                let version = self.count_handshake(tls);
                let sni = tls.server_name().map(|name| name.to_ascii_lowercase().into());
                let visitor = Visitor { is_https: true, tls: version, sni, ..visitor };
                self.live(stream, is_http1, visitor).await;
            }
            Ok(Err((error, stream))) => {
                tracing::debug!(%error, %ip, "a handshake failed");
                // So that the alert which says why is read.
                if let Some(mut stream) = stream {
                    drop(stream.shutdown().await);
                }
            }
            Err(_) => tracing::debug!(%ip, "a handshake took too long"),
        }
    }

    /// Reads what the client offers, and goes on as with a visitor or as with another edge.
    async fn shake(
        &self,
        tls: &Arc<ServerConfig>,
        stream: Stall<TcpStream>,
    ) -> Result<Shaken, (io::Error, Option<Stall<TcpStream>>)> {
        let mut hello = std::pin::pin!(LazyConfigAcceptor::new(Acceptor::default(), stream));
        let hello = match hello.as_mut().await {
            Ok(hello) => hello,
            Err(error) => return Err((error, hello.take_io())),
        };
        let mut offers = hello.client_hello().alpn().into_iter().flatten();
        let peers = self.peers.as_ref().filter(|_| offers.any(|offer| offer == ALPN));
        drop(offers);
        let admission = match peers {
            None => None,
            Some(peers) => match peers.admit() {
                None => {
                    let error = io::Error::other("there is no place for a peer");
                    return Err((error, Some(hello.io)));
                }
                admission => admission,
            },
        };
        let config = admission.as_ref().map_or(tls, |admission| &admission.tls);
        let stream = hello.into_stream(Arc::clone(config)).into_fallible().await;
        let stream = stream.map_err(|(error, stream)| (error, Some(stream)))?;
        Ok((stream, admission))
    }

    /// Serves another edge.
    async fn live_as_peer(&self, stream: TlsStream<Stall<TcpStream>>, admission: Admission) {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let (Some(peers), Some(shown)) = (&self.peers, shown) else { return };
        let certificate = shown.to_vec();
        peers.serve(stream, certificate, self.tasks.stopping()).await;
        drop(admission);
    }

    /// Counts a finished handshake; its version.
    fn count_handshake(&self, tls: &rustls::ServerConnection) -> &'static str {
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let resumed = matches!(tls.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        let labels = vec![("version", version.to_owned()), ("resumed", resumed.to_string())];
        self.edge.metrics.handshakes.get_or_create(&labels).inc();
        version
    }

    async fn live<S>(&self, stream: S, may_be_http1: bool, visitor: Visitor)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = LineEnds::new(stream, may_be_http1, Arc::clone(&visitor.conduct));
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
            // One that has said all it will say still wants its answer. Without `pipeline_flush`, as
            // hyper then loses an answer when it closes with more input at hand.
            .half_close(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_pending_accept_reset_streams(EARLY_RESETS_MAX)
            .max_local_error_reset_streams(FAULTS_MAX);
        builder
    }
}
