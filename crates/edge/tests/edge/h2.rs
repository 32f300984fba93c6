//! HTTP/2: its limits, those who abuse it, and how it ends.

use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::fixture::{DEADLINE, Fixture, HOST, Release, Running, noise};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const INITIAL_WINDOW_SIZE: u16 = 4;

fn site() -> Release {
    Release::new(1).file("index.html", "hello").file("large.bin", noise(8 << 20))
}

async fn start(limits: serde_json::Value) -> Running {
    let mut fixture = Fixture::serving(site());
    fixture.limits = limits;
    fixture.start().await
}

async fn connect(edge: &Running) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(edge.http).await.unwrap();
    let io = TokioIo::new(stream);
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{HOST}{path}")).body(Empty::new()).unwrap()
}

/// A client that sends the frames it is told to.
struct Raw(TcpStream);

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head in HPACK, without its tables: GET, http, the path, the host.
fn head(path: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0x82, 0x86, 0x04, length(path)], path.as_bytes(), &[0x01, length(HOST)], HOST.as_bytes()]
        .concat()
}

fn ask(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(path))
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

impl Raw {
    /// Sends the preface and `settings`; the edge's settings.
    async fn connect(edge: &Running, settings: &[u8]) -> (Self, Frame) {
        let stream = TcpStream::connect(edge.http).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Raw(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        raw.send(&[&preface[..], &frame(SETTINGS, 0, 0, settings)].concat()).await;
        let first = raw.next().await.unwrap();
        assert_eq!((first.kind, first.flags), (SETTINGS, 0));
        raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
        (raw, first)
    }

    /// Whether it could be sent.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(DEADLINE, self.0.write_all(bytes)).await.expect("the edge reads or closes").is_ok()
    }

    /// The next frame; `None` when the edge has closed.
    async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        timeout(DEADLINE, read).await.expect("a frame or an end")
    }

    /// The first frame of `kind`.
    async fn until(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

impl Frame {
    /// The error code of `RST_STREAM`, or of GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

async fn is_fine(edge: &Running) {
    let reply = timeout(DEADLINE, connect(edge).await.send_request(get("/"))).await;
    let body = reply.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "hello");
    assert_eq!(edge.context.tasks.panicked(), 0);
    edge.metric("nigh_edge_http_requests_in_flight 0\n").await;
}

#[tokio::test]
async fn more_requests_than_streams_wait_their_turn() {
    let edge = start(serde_json::json!({ "streams_max": 4 })).await;
    let mut sender = connect(&edge).await;
    // Before its first answer a client knows no limit, and is refused beyond it.
    assert_eq!(sender.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    let requests = (0..100).map(|_| {
        let mut sender = sender.clone();
        async move {
            sender.ready().await.unwrap();
            let response = sender.send_request(get("/")).await.unwrap();
            (response.status(), response.into_body().collect().await.unwrap().to_bytes())
        }
    });
    for (status, body) in futures_util::future::join_all(requests).await {
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]));
    }
    drop(sender);
    edge.stop().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let edge = start(serde_json::json!({ "streams_max": 2 })).await;
    let (mut raw, settings) = Raw::connect(&edge, &setting(INITIAL_WINDOW_SIZE, 0)).await;
    let limits: Vec<&[u8]> = settings.payload.chunks(6).collect();
    assert!(limits.contains(&&setting(3, 2)[..]), "MAX_CONCURRENT_STREAMS in {limits:?}");
    assert!(limits.contains(&&setting(6, 65_536)[..]), "MAX_HEADER_LIST_SIZE in {limits:?}");
    let streams = [1, 3, 5].map(|stream| ask(stream, "/large.bin"));
    raw.send(&streams.concat()).await;
    let refused = raw.until(RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (5, REFUSED_STREAM));
    drop(raw);
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_431_and_the_connection_goes_on() {
    let edge = start(serde_json::json!({ "header_bytes_max": 8192 })).await;
    let mut sender = connect(&edge).await;
    let mut large = get("/");
    large.headers_mut().insert("x", "y".repeat(20_000).parse().unwrap());
    let response = sender.send_request(large).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(sender.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    drop(sender);
    edge.stop().await;
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let edge = start(serde_json::json!({})).await;
    let (mut raw, _) = Raw::connect(&edge, &[]).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &head("/"))).await;
    // 160 MB if it were taken.
    let more = frame(CONTINUATION, 0, 1, &[0x82; 16_000]);
    let mut sent = 0;
    while sent < 10_000 && raw.send(&more).await {
        sent += 1;
    }
    assert!(sent < 10_000, "all of them were read");
    is_fine(&edge).await;
    edge.stop().await;
}

/// CVE-2023-44487.
#[tokio::test]
async fn thousands_of_streams_reset_at_once_end_the_connection() {
    let edge = start(serde_json::json!({})).await;
    let (mut raw, _) = Raw::connect(&edge, &[]).await;
    let cancel = 8u32.to_be_bytes();
    let burst: Vec<u8> = (0..5000)
        .map(|number| 2 * number + 1)
        .flat_map(|stream| [ask(stream, "/large.bin"), frame(RST_STREAM, 0, stream, &cancel)])
        .flatten()
        .collect();
    raw.send(&burst).await;
    let goaway = raw.until(GOAWAY).await.expect("it says why");
    assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
    assert!(raw.until(PING).await.is_none(), "it is closed");
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn streams_that_are_reset_one_by_one_leave_nothing_behind() {
    let edge = start(serde_json::json!({})).await;
    let (mut raw, _) = Raw::connect(&edge, &setting(INITIAL_WINDOW_SIZE, 0)).await;
    for number in 0..500u32 {
        let stream = 2 * number + 1;
        raw.send(&ask(stream, "/large.bin")).await;
        let begun = raw.until(HEADERS).await.unwrap();
        assert_eq!(begun.stream, stream);
        raw.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
    }
    raw.send(&frame(PING, 0, 0, &[7; 8])).await;
    assert_eq!(raw.until(PING).await.unwrap().flags, ACK, "the connection goes on");
    edge.metric("nigh_edge_http_requests_in_flight 0\n").await;
    drop(raw);
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_client_that_lets_a_byte_through_now_and_then_is_closed() {
    // As fast as no client can be, so that the test needs no slow one.
    let limits = serde_json::json!({ "idle_timeout_ms": 300, "send_bytes_per_s_min": 1u64 << 40 });
    let edge = start(limits).await;
    let (mut raw, _) = Raw::connect(&edge, &setting(INITIAL_WINDOW_SIZE, 1)).await;
    raw.send(&ask(1, "/large.bin")).await;
    let end = Instant::now() + DEADLINE;
    let mut bytes = 0;
    while raw.until(DATA).await.is_some() {
        assert!(Instant::now() < end, "still open after {bytes} bytes");
        bytes += 1;
        let one_more = [0, 1].map(|of| frame(WINDOW_UPDATE, 0, of, &1u32.to_be_bytes()));
        raw.send(&one_more.concat()).await;
    }
    assert!(bytes > 1);
    edge.metric("nigh_edge_connections 0\n").await;
    edge.stop().await;
}

#[tokio::test]
async fn answers_in_flight_are_finished_when_the_edge_stops() {
    let edge = start(serde_json::json!({})).await;
    let tasks = edge.context.tasks.clone();
    let mut sender = connect(&edge).await;
    let response = sender.send_request(get("/large.bin")).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    edge.metric("nigh_edge_http_requests_in_flight 1\n").await;
    let reading = async {
        tasks.stopping().cancelled().await;
        let rest = body.collect().await.unwrap().to_bytes();
        assert!([first, rest].concat() == noise(8 << 20));
        // Once it was told to go away, the client opens no more streams.
        sender.send_request(get("/")).await.unwrap_err();
    };
    tokio::join!(reading, edge.stop());
    assert_eq!(tasks.stop(DEADLINE).await, 0, "nothing had to be aborted");
}
