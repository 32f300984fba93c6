//! What does an edge give to its peers, and who is one?
//!
//! After the handshake, which took a certificate of control's CA, every request is checked against
//! the state as it is then: an edge that was removed gets nothing more, even on an open connection.
//! Visitors come first: while they are waited on and the machine is under pressure, peers are slow.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nigh_core::blob::Store;
use nigh_proto::{
    Digest,
    pack::PackHead,
    report::Health,
    state::{MachineState, Peer},
};
use nigh_replica::Replica;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Arrivals, FETCHED, WANTED_MAX_BYTES, Wanted, arrivals::Arriving, trust};
use crate::{config::PeersConfig, edge::Edge};

/// Answers that are read from disk at the same time; further ones wait.
const SENDS_MAX: usize = 8;
/// Peers that follow blobs as they arrive; further ones are to ask others, who follow too.
const FOLLOWERS_MAX: usize = 8;
/// Requests at once on one connection.
const STREAMS_MAX: u32 = 16;
/// How long the list of digests of a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nobody answers pings is closed.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces between disk and network.
const PIECES_MAX: usize = 4;
const PIECE_BYTES: usize = 128 << 10;
/// A share of time in which something waited for the processor or the disk that visitors feel.
const PRESSURE_MAX: f64 = 0.4;

type Body = BoxBody<Bytes, io::Error>;

/// Serves peers on the port for visitors.
#[derive(Debug)]
pub(crate) struct PeerPort {
    edge: Arc<Edge>,
    replica: Replica,
    places: Arc<Semaphore>,
    sends: Arc<Semaphore>,
    follows: Arc<Semaphore>,
    arrivals: Arrivals,
    busy_bytes_per_s: u64,
    /// What this edge has fetched itself.
    fetched_bytes: Arc<AtomicU64>,
}

/// A peer's connection, until it is dropped.
pub(crate) struct Admission {
    pub(crate) tls: Arc<ServerConfig>,
    _place: OwnedSemaphorePermit,
}

impl PeerPort {
    pub(crate) fn new(
        edge: Arc<Edge>,
        replica: Replica,
        config: &PeersConfig,
        arrivals: Arrivals,
        fetched_bytes: Arc<AtomicU64>,
    ) -> Arc<Self> {
        Arc::new(PeerPort {
            edge,
            replica,
            places: Arc::new(Semaphore::new(config.connections_max)),
            sends: Arc::new(Semaphore::new(SENDS_MAX)),
            follows: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            arrivals,
            busy_bytes_per_s: config.busy_bytes_per_s,
            fetched_bytes,
        })
    }

    /// A place for one who says that they are a peer, and how they have to prove it. `None` when all
    /// places are taken, or this machine has not joined.
    pub(crate) fn admit(&self) -> Option<Admission> {
        let credentials = self.replica.credentials()?;
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        match trust::server_config(&credentials) {
            Ok(tls) => Some(Admission { tls: Arc::new(tls), _place: place }),
            Err(error) => {
                let error = nigh_daemon::logging::causes(&error);
                tracing::error!(error, "peers cannot connect");
                None
            }
        }
    }

    /// Answers the peer whose certificate (DER) was verified, until it goes or the edge stops.
    pub(crate) async fn serve<S>(
        self: &Arc<Self>,
        stream: S,
        certificate: Vec<u8>,
        stopping: &CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let port = Arc::clone(self);
        let certificate: Arc<[u8]> = certificate.into();
        let answering = service_fn(move |request| {
            let (port, certificate) = (Arc::clone(&port), Arc::clone(&certificate));
            async move { Ok::<_, Infallible>(port.answer(&certificate, request).await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), answering);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a peer's connection broke");
        }
    }

    fn peers(&self) -> Vec<Peer> {
        match self.replica.state().borrow().as_deref() {
            Some(MachineState::Edge(state)) => state.peers.clone(),
            _ => Vec::new(),
        }
    }

    async fn answer(&self, certificate: &[u8], request: Request<Incoming>) -> Response<Body> {
        if trust::listed(certificate, &self.peers()).is_none() {
            return status(StatusCode::FORBIDDEN);
        }
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let answer = match (&parts.method, path) {
            (&Method::POST, "/peer/v1/have") => self.have(body).await,
            (&Method::POST, "/peer/v1/packs") => self.pack(body).await,
            (&Method::GET, _) => self.blob(path, &parts.headers).await,
            _ => None,
        };
        answer.unwrap_or_else(|| status(StatusCode::NOT_FOUND))
    }

    /// One bit for each digest, in their order, the lowest of each byte first: whether it, or the
    /// beginning of it, is here.
    async fn have(&self, body: Incoming) -> Option<Response<Body>> {
        let wanted = read(body).await?;
        let store = self.store();
        let mut bits = vec![0u8; wanted.digests.len().div_ceil(8)];
        for (index, digest) in wanted.digests.iter().enumerate() {
            let is_here = store.contains(digest) || self.arrivals.get(digest).is_some();
            bits[index / 8] |= u8::from(is_here) << (index % 8);
        }
        let full = Full::new(Bytes::from(bits)).map_err(|never| match never {});
        let mut response = Response::new(full.boxed());
        let fetched = HeaderValue::from(self.fetched_bytes.load(Relaxed));
        response.headers_mut().insert(FETCHED, fetched);
        Some(response)
    }

    /// A pack with those of the digests that are here, as far as a pack may have them.
    async fn pack(&self, body: Incoming) -> Option<Response<Body>> {
        let Wanted { mut digests } = read(body).await?;
        let store = self.store().clone();
        let mut seen = std::collections::HashSet::with_capacity(digests.len());
        let mut left = PackHead::MAX_BODIES_BYTES;
        digests.retain(|digest| {
            let stat = store.stat(digest).filter(|stat| !stat.is_loose && stat.stored_len <= left);
            let is_taken = stat.is_some() && seen.insert(*digest);
            left -= stat.filter(|_| is_taken).map_or(0, |stat| stat.stored_len);
            is_taken
        });
        drop(seen);
        let place = Arc::clone(&self.sends).acquire_owned().await.ok()?;
        let body = self.send(place, move |to| store.write_pack(&digests, to).map(drop));
        Some(Response::new(body))
    }

    /// A blob's raw bytes, from `Range: bytes=N-` on.
    async fn blob(&self, path: &str, headers: &http::HeaderMap) -> Option<Response<Body>> {
        let digest: Digest = path.strip_prefix("/peer/v1/blobs/")?.parse().ok()?;
        let range = headers.get(header::RANGE)?.to_str().ok()?;
        let offset: u64 = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
        let store = self.store().clone();
        // Looked for first: a blob that has arrived since is in the store.
        let arriving = self.arrivals.get(&digest).filter(|arriving| arriving.verified() > offset);
        let opened = spawn_blocking(move || store.open_loose(&digest)).await.ok()?;
        let (body, length) = match (opened, arriving) {
            (Ok((file, length)), _) if offset < length => {
                let place = Arc::clone(&self.sends).acquire_owned().await.ok()?;
                (self.send(place, move |to| copy(file, offset, to)), length)
            }
            (Err(_), Some(arriving)) => {
                let place = Arc::clone(&self.follows).try_acquire_owned().ok()?;
                let length = arriving.size_bytes();
                (self.send(place, move |to| follow(arriving, offset, to)), length)
            }
            _ => return None,
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length - offset));
        Some(response)
    }

    fn store(&self) -> &Store {
        self.edge.shelf.store()
    }

    /// A body that `write` writes on a thread that may block, which holds `place` meanwhile.
    fn send<E>(
        &self,
        place: OwnedSemaphorePermit,
        write: impl FnOnce(&mut Pieces) -> Result<(), E> + Send + 'static,
    ) -> Body
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        spawn_blocking(move || {
            let _place = place;
            let mut to = Pieces(sender);
            if let Err(error) = write(&mut to) {
                // Breaks the body off: it must not pass for a whole one.
                let _ = to.0.blocking_send(Err(io::Error::other(error)));
            }
        });
        let (edge, replica) = (Arc::clone(&self.edge), self.replica.clone());
        let busy_bytes_per_s = self.busy_bytes_per_s;
        let state = (pieces, edge, replica);
        let body = StreamBody::new(stream::unfold(state, move |state| async move {
            let (mut pieces, edge, replica) = state;
            let piece: io::Result<Bytes> = pieces.recv().await?;
            let bytes = piece.as_ref().map_or(0, Bytes::len);
            let has_visitors = edge.metrics.in_flight.get() > 0;
            let wait = pause(&replica.health(), has_visitors, bytes, busy_bytes_per_s);
            if !wait.is_zero() {
                sleep(wait).await;
            }
            Some((piece.map(Frame::data), (pieces, edge, replica)))
        }));
        BodyExt::boxed(body)
    }
}

/// How long a peer waits for a piece of so many bytes.
fn pause(health: &Health, has_visitors: bool, bytes: usize, busy_bytes_per_s: u64) -> Duration {
    let pressure = health.cpu_pressure_ratio.max(health.io_pressure_ratio);
    let is_busy = has_visitors && pressure.max(health.cpu_steal_ratio) > PRESSURE_MAX;
    if !is_busy || busy_bytes_per_s == 0 {
        return Duration::ZERO;
    }
    Duration::from_secs_f64(bytes as f64 / busy_bytes_per_s as f64)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// The list of digests in a request, if it is one.
async fn read(body: Incoming) -> Option<Wanted> {
    let body = Limited::new(body, WANTED_MAX_BYTES).collect();
    let bytes = timeout(REQUEST_TIMEOUT, body).await.ok()?.ok()?.to_bytes();
    let wanted: Wanted = serde_json::from_slice(&bytes).ok()?;
    (wanted.digests.len() <= PackHead::MAX_BLOBS).then_some(wanted)
}

/// The writing end of a body.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE_BYTES)];
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what has arrived from `offset` on, and what arrives until the blob is whole.
fn follow(mut arriving: Arriving, mut offset: u64, to: &mut Pieces) -> io::Result<()> {
    let runtime = Handle::current();
    let mut buffer = vec![0; PIECE_BYTES];
    while offset < arriving.size_bytes() {
        let verified = runtime.block_on(arriving.verified_beyond(offset));
        let verified = verified.ok_or_else(|| io::Error::other("no more of it arrives"))?;
        while offset < verified {
            let length = buffer.len().min(usize::try_from(verified - offset).unwrap_or(usize::MAX));
            arriving.file().read_exact_at(&mut buffer[..length], offset)?;
            to.write_all(&buffer[..length])?;
            offset += length as u64;
        }
    }
    Ok(())
}

fn copy(mut file: File, offset: u64, to: &mut Pieces) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    file.seek(SeekFrom::Start(offset))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_slow_only_while_visitors_would_feel_them() {
        let calm = Health::default();
        let busy = Health { cpu_pressure_ratio: 0.9, ..calm };
        let stolen = Health { cpu_steal_ratio: 0.5, ..calm };
        let pause = |health, has_visitors| pause(health, has_visitors, 1 << 20, 4 << 20);
        assert_eq!(pause(&calm, true), Duration::ZERO);
        assert_eq!(pause(&busy, false), Duration::ZERO);
        assert_eq!(pause(&busy, true), Duration::from_millis(250));
        assert_eq!(pause(&stolen, true), Duration::from_millis(250));
    }
}
