//! Strangers who mean no good, or cannot do better.

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    fixture::{DEADLINE, Fixture, HOST, Release, Running, noise},
    wire::{ask, raw},
};

fn site() -> Release {
    Release::new(1)
        .file("index.html", "hello")
        .file(".env", "SECRET=1")
        .file("_headers", "/*\n  X: y")
        .file("large.bin", noise(8 << 20))
}

async fn is_fine(edge: &Running) {
    assert_eq!(edge.get("/", &[]).await.text(), "hello");
    assert_eq!(edge.context.tasks.panicked(), 0);
}

#[tokio::test]
async fn smuggled_and_malformed_requests_are_refused() {
    let edge = Fixture::serving(site()).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "G\x01T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n",
    ] {
        let reply = raw(edge.http, request.as_bytes()).await;
        let text = String::from_utf8_lossy(&reply);
        assert!(reply.is_empty() || text.starts_with("HTTP/1.1 400"), "{request:?} got {text}");
    }
    is_fine(&edge).await;
    edge.stop().await;
}

/// RFC 9112, section 6.1: whoever sends both lengths gets one answer and no second guess.
#[tokio::test]
async fn a_request_with_two_lengths_is_the_last_one_of_its_connection() {
    let edge = Fixture::serving(site()).start().await;
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    );
    let text = String::from_utf8(raw(edge.http, request.as_bytes()).await).unwrap();
    // None at all when the reset overtakes it.
    assert!(text.matches("HTTP/1.1 ").count() <= 1, "{text}");
    edge.stop().await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let edge = Fixture::serving(site()).start().await;
    let many = (0..200).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n");
    let reply = raw(edge.http, request.as_bytes()).await;
    assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 431"));
    let long = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "y".repeat(200 << 10));
    let reply = raw(edge.http, long.as_bytes()).await;
    assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 431"));
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn paths_never_leave_the_release_nor_show_its_secrets() {
    let edge = Fixture::serving(site()).start().await;
    for (path, status) in [
        ("/../../etc/passwd", 400),
        ("/%2e%2e/x", 400),
        ("/a%2fb", 400),
        ("/a%5cb", 400),
        ("/a%00b", 400),
        ("/%ff", 400),
        ("/.env", 404),
        ("/_headers", 404),
        ("/.git/config", 404),
        ("/%5fheaders", 404),
    ] {
        assert_eq!(edge.get(path, &[]).await.status, status, "{path}");
    }
    let long = format!("/{}", "a".repeat(9000));
    assert_eq!(edge.get(&long, &[]).await.status, 414);
    edge.stop().await;
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_read_only_so_far() {
    let edge = Fixture::serving(site()).start().await;
    let short = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    );
    let text = String::from_utf8(raw(edge.http, short.as_bytes()).await).unwrap();
    assert!(text.starts_with("HTTP/1.1 405") && text.ends_with("hello"), "{text}");
    let mut long =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n").into_bytes();
    long.resize(long.len() + (80 << 10), b'x');
    let reply = ask(edge.http, &long).await;
    assert_eq!((reply.status, reply.header("connection")), (405, "close"));
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn clients_that_only_take_up_room_are_closed() {
    let mut fixture = Fixture::serving(site());
    fixture.limits = serde_json::json!({ "idle_timeout_ms": 200, "header_timeout_ms": 400 });
    let edge = fixture.start().await;
    // One that says nothing, one that never ends its head, one that does not read.
    let mut silent = TcpStream::connect(edge.http).await.unwrap();
    let mut dribbling = TcpStream::connect(edge.http).await.unwrap();
    dribbling.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    let mut deaf = TcpStream::connect(edge.http).await.unwrap();
    let request = format!("GET /large.bin HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    deaf.write_all(request.as_bytes()).await.unwrap();
    for stream in [&mut silent, &mut dribbling] {
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    }
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let page = edge.context.metrics.encode().unwrap();
        if page.contains("nigh_edge_connections 0\n") {
            break;
        }
        assert!(std::time::Instant::now() < end, "{page}");
        tokio::task::yield_now().await;
    }
    drop(deaf);
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_room_is_given_back() {
    let mut fixture = Fixture::serving(site());
    fixture.limits = serde_json::json!({ "connections_max": 2 });
    let edge = fixture.start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        stream
            .write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        // Answered, so it has its place.
        stream.read_u8().await.unwrap();
        held.push(stream);
    }
    assert!(raw(edge.http, b"").await.is_empty());
    drop(held);
    let end = std::time::Instant::now() + DEADLINE;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    while !raw(edge.http, request.as_bytes()).await.ends_with(b"hello") {
        assert!(std::time::Instant::now() < end);
    }
    edge.stop().await;
}

#[test]
fn any_bytes_leave_the_edge_alive() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let edge = runtime.block_on(Fixture::serving(site()).start_owned());
    let strategy = (
        prop_oneof![
            Just(""),
            Just("GET / HTTP/1.1\r\nHost: docs.nigh.test\r\n"),
            Just("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            Just("GET "),
        ],
        proptest::collection::vec(any::<u8>(), 0..400),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(64));
    runner
        .run(&strategy, |(start, rest)| {
            let bytes = [start.as_bytes(), &rest].concat();
            runtime.block_on(async {
                for address in [edge.1.http, edge.1.https] {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                    let mut reply = Vec::new();
                    let _ =
                        timeout(DEADLINE, stream.read_to_end(&mut reply)).await.expect("closed");
                }
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(is_fine(&edge.1));
    runtime.block_on(edge.1.stop());
}
