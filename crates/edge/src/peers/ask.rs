//! The line to a peer: dialled when it is needed, kept while it holds.
//!
//! A peer that cannot be reached, or sends what it should not, is left alone for a while.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nigh_proto::{
    Digest, MachineId, MachineName, api::BLOB_MAX_BYTES, pack::PackHead, state::Peer,
};
use nigh_replica::{ByteStream, FetchError, Replica};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{FETCHED, Wanted, trust};
use crate::source::{BlobSource, Fetching};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of one peer that are tried.
const ADDRESSES_MAX: usize = 4;
/// An answer begins within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A body that brings nothing for so long has stalled.
const STALL_MAX: Duration = Duration::from_secs(10);
/// What a peer may send ahead.
const WINDOW_BYTES: u32 = 2 << 20;
/// How long one that cannot be reached, or was slow, is left alone, and one that sent damage.
const GONE_FOR: Duration = Duration::from_secs(10);
const DAMAGED_FOR: Duration = Duration::from_secs(300);

/// Lines to peers; cheap to clone.
#[derive(Clone)]
pub(crate) struct Asking(Arc<Shared>);

struct Shared {
    replica: Replica,
    lines: Mutex<HashMap<MachineName, Line>>,
    avoided: Mutex<HashMap<MachineName, Instant>>,
}

#[derive(Clone)]
struct Line {
    id: MachineId,
    sender: SendRequest<Full<Bytes>>,
}

/// What a peer has of what it was asked about.
#[derive(Debug)]
pub(crate) struct Holding {
    bits: Bytes,
    /// How much it has fetched in all, so that one can see whether it is still at it.
    pub(crate) fetched_bytes: u64,
}

impl Holding {
    pub(crate) fn has(&self, index: usize) -> bool {
        self.bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asking")
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
    FetchError::Unreachable { source: error.into() }
}

impl Asking {
    pub(crate) fn new(replica: Replica) -> Self {
        let (lines, avoided) = (Mutex::default(), Mutex::default());
        Asking(Arc::new(Shared { replica, lines, avoided }))
    }

    /// Whether `peer` is left alone at the moment.
    pub(crate) fn is_avoided(&self, peer: &Peer) -> bool {
        self.avoided().get(&peer.name).is_some_and(|until| *until > Instant::now())
    }

    pub(crate) fn avoid_gone(&self, peer: &Peer) {
        self.avoid(peer, GONE_FOR);
    }

    pub(crate) fn avoid_damaged(&self, peer: &Peer) {
        tracing::warn!(peer = %peer.name, "{} sent damaged blobs and is not asked for a while", peer.name);
        self.avoid(peer, DAMAGED_FOR);
    }

    fn avoid(&self, peer: &Peer, duration: Duration) {
        self.0.lines.lock().expect("nothing panics while it holds this map").remove(&peer.name);
        let now = Instant::now();
        let mut avoided = self.avoided();
        avoided.retain(|_, until| *until > now);
        let until = avoided.entry(peer.name.clone()).or_insert(now);
        *until = (*until).max(now + duration);
    }

    fn avoided(&self) -> MutexGuard<'_, HashMap<MachineName, Instant>> {
        self.0.avoided.lock().expect("nothing panics while it holds this map")
    }

    /// Which of `digests` the peer has.
    pub(crate) async fn have(
        &self,
        peer: &Peer,
        digests: &[Digest],
    ) -> Result<Holding, FetchError> {
        let response = self.call(peer, wanted("/peer/v1/have", digests)).await?;
        let fetched = response.headers().get(FETCHED).and_then(|value| value.to_str().ok());
        let fetched_bytes = fetched.and_then(|text| text.parse().ok()).unwrap_or(0);
        let body = Limited::new(response.into_body(), digests.len().div_ceil(8)).collect();
        match timeout(ANSWER_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok(Holding { bits: body.to_bytes(), fetched_bytes }),
            Ok(Err(error)) => Err(broken(error)),
            Err(error) => Err(broken(error)),
        }
    }

    /// The answer of `peer`, if it is a success.
    async fn call(
        &self,
        peer: &Peer,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, FetchError> {
        let answered = timeout(ANSWER_TIMEOUT, async {
            let mut sender = self.line(peer).await?;
            sender.send_request(request).await.map_err(broken)
        });
        let response = answered.await.map_err(broken)??;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let detail = format!("{} did not answer with blobs", peer.name);
        Err(FetchError::Refused { status: status.as_u16(), detail })
    }

    async fn line(&self, peer: &Peer) -> Result<SendRequest<Full<Bytes>>, FetchError> {
        let lines = || self.0.lines.lock().expect("nothing panics while it holds this map");
        let known = lines().get(&peer.name).cloned();
        if let Some(line) = known.filter(|line| line.id == peer.id && !line.sender.is_closed()) {
            return Ok(line.sender);
        }
        let sender = self.dial(peer).await?;
        let line = Line { id: peer.id.clone(), sender: sender.clone() };
        let mut lines = lines();
        lines.retain(|_, line| !line.sender.is_closed());
        lines.insert(peer.name.clone(), line);
        Ok(sender)
    }

    async fn dial(&self, peer: &Peer) -> Result<SendRequest<Full<Bytes>>, FetchError> {
        let credentials = self.0.replica.credentials().ok_or(FetchError::NotJoined)?;
        let config = Arc::new(trust::client_config(&credentials, peer).map_err(broken)?);
        let mut last = broken("it has no address");
        for address in peer.addresses.iter().take(ADDRESSES_MAX) {
            let dialled = timeout(CONNECT_TIMEOUT, async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::IpAddress(address.ip().into());
                TlsConnector::from(Arc::clone(&config)).connect(name, stream).await
            });
            match dialled.await {
                Ok(Ok(stream)) => {
                    let mut builder = http2::Builder::new(TokioExecutor::new());
                    builder
                        .initial_stream_window_size(WINDOW_BYTES)
                        .initial_connection_window_size(2 * WINDOW_BYTES);
                    let (sender, connection) =
                        builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
                    // It ends when the last sender is dropped or the peer is gone.
                    tokio::spawn(async move { drop(connection.await) });
                    return Ok(sender);
                }
                Ok(Err(error)) => last = broken(error),
                Err(error) => last = broken(error),
            }
        }
        Err(last)
    }
}

fn wanted(path: &str, digests: &[Digest]) -> Request<Full<Bytes>> {
    let wanted = Wanted { digests: digests.to_vec() };
    let body = serde_json::to_vec(&wanted).expect("digests always have a JSON form");
    request(Method::POST, path, body)
}

fn request(method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://peer{path}"))
        .body(Full::new(body.into()))
        .expect("a path of our own is one")
}

/// One peer as a source of blobs.
pub(crate) struct PeerSource<'a> {
    pub(crate) asking: &'a Asking,
    pub(crate) peer: &'a Peer,
}

impl BlobSource for PeerSource<'_> {
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a> {
        Box::pin(async move {
            let response = self.asking.call(self.peer, wanted("/peer/v1/packs", digests)).await?;
            let head_bytes = PackHead::head_bytes(digests.len().min(PackHead::MAX_BLOBS)) as u64;
            Ok(body(response, head_bytes + PackHead::MAX_BODIES_BYTES))
        })
    }

    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a> {
        Box::pin(async move {
            let mut request = request(Method::GET, &format!("/peer/v1/blobs/{digest}"), Vec::new());
            let range = format!("bytes={offset}-").parse().map_err(broken)?;
            request.headers_mut().insert(header::RANGE, range);
            let response = self.asking.call(self.peer, request).await?;
            if response.status() != StatusCode::PARTIAL_CONTENT {
                return Err(broken("it did not send the range that it was asked for"));
            }
            Ok(body(response, BLOB_MAX_BYTES.saturating_sub(offset)))
        })
    }
}

/// A body that has at most `max_bytes` and does not stand still.
fn body(response: Response<Incoming>, max_bytes: u64) -> ByteStream {
    let state = Some((response.into_body(), max_bytes));
    ByteStream::new(stream::unfold(state, |state| async {
        let (mut body, left) = state?;
        loop {
            let frame = match timeout(STALL_MAX, body.frame()).await {
                Ok(frame) => frame?,
                Err(error) => return Some((Err(io::Error::other(error)), None)),
            };
            let data = match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue,
                Err(error) => return Some((Err(io::Error::other(error)), None)),
            };
            return match left.checked_sub(data.len() as u64) {
                Some(left) => Some((Ok(data), Some((body, left)))),
                None => Some((Err(io::Error::other("more was sent than was asked for")), None)),
            };
        }
    }))
}
