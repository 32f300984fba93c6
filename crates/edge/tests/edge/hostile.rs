//! Strangers who mean no good, or cannot do better.

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    fixture::{DEADLINE, Fixture, HOST, Release, Running, noise},
    tls,
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

/// A second request that must never be answered.
fn hidden() -> String {
    format!("GET /hidden HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// What plain HTTP and TLS get in answer to `request`.
async fn both(
    edge: &Running,
    own: &rcgen::Certificate,
    request: &str,
) -> [(&'static str, String); 2] {
    let plain = raw(edge.http, request.as_bytes()).await;
    let mut stream = tls::connect(edge, own, HOST).await.unwrap();
    let tls = tls::raw(&mut stream, request.as_bytes()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    [("plain", text(plain)), ("tls", text(tls))]
}

fn is_only(text: &str, status: &str) -> bool {
    text.starts_with(&format!("HTTP/1.1 {status} ")) && text.matches("HTTP/1.1 ").count() == 1
}

/// RFC 9112, sections 2.2, 3, 5 and 6: whatever two readers could take for two things.
#[tokio::test]
async fn requests_with_two_readings_are_refused_and_the_last_of_their_connection() {
    let mut fixture = Fixture::serving(site());
    let own = fixture.certificate(&[HOST]);
    let edge = fixture.start().await;
    for (what, request) in [
        (
            "both lengths",
            "POST / HTTP/1.1\nHost: H\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
        ),
        (
            "both lengths, turned",
            "POST / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
        ),
        (
            "both lengths of a GET",
            "GET / HTTP/1.1\nHost: H\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
        ),
        ("no need for a body", "GET / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked\n\n0\n\n"),
        ("HEAD with a body", "HEAD / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked\n\n0\n\n"),
        ("chunks that are none", "GET / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked\n\nxyz\n\n"),
        (
            "another coding last",
            "GET / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked, gzip\n\n0\n\n",
        ),
        ("a coding that is none", "GET / HTTP/1.1\nHost: H\nTransfer-Encoding: xchunked\n\n0\n\n"),
        (
            "a tab before the coding",
            "GET / HTTP/1.1\nHost: H\nTransfer-Encoding:\x0bchunked\n\n0\n\n",
        ),
        ("chunks in HTTP/1.0", "GET / HTTP/1.0\nHost: H\nTransfer-Encoding: chunked\n\n0\n\n"),
        ("two lengths", "GET / HTTP/1.1\nHost: H\nContent-Length: 3\nContent-Length: 4\n\nabcd"),
        ("a list of lengths", "GET / HTTP/1.1\nHost: H\nContent-Length: 3, 3\n\nabc"),
        ("a length with a sign", "GET / HTTP/1.1\nHost: H\nContent-Length: +3\n\nabc"),
        ("a negative length", "GET / HTTP/1.1\nHost: H\nContent-Length: -3\n\nabc"),
        ("a length in hex", "GET / HTTP/1.1\nHost: H\nContent-Length: 0x3\n\nabc"),
        ("an endless length", "GET / HTTP/1.1\nHost: H\nContent-Length: 99999999999999999999\n\n"),
        ("a space before a colon", "GET / HTTP/1.1\nHost: H\nContent-Length : 3\n\nabc"),
        ("a folded field", "GET / HTTP/1.1\nHost: H\nX: a\n b\n\n"),
        ("a folded first field", "GET / HTTP/1.1\n Host: H\n\n"),
        ("a field without a name", "GET / HTTP/1.1\nHost: H\n: a\n\n"),
        ("a field without a colon", "GET / HTTP/1.1\nHost: H\nX\n\n"),
        ("NUL", "GET / HTTP/1.1\nHost: H\nX: a\0b\n\n"),
        ("a CR in a value", "GET / HTTP/1.1\nHost: H\nX: a\rb\n\n"),
        ("a CR in a name", "GET / HTTP/1.1\nHost: H\nX\r: a\n\n"),
        ("a CR that ends a field", "GET / HTTP/1.1\nHost: H\nX: a\rY: b\n\n"),
        ("an LF that ends a field", "GET / HTTP/1.1\nHost: H\nX: a<LF>Y: b\n\n"),
        ("an LF that ends the first line", "GET / HTTP/1.1<LF>Host: H\n\n"),
        ("an LF that ends the head", "GET / HTTP/1.1\nHost: H\n<LF>"),
        ("LFs before it", "<LF><LF>GET / HTTP/1.1\nHost: H\n\n"),
        ("two spaces", "GET  / HTTP/1.1\nHost: H\n\n"),
        ("a tab", "GET\t/ HTTP/1.1\nHost: H\n\n"),
        ("a control character in the method", "G\x01T / HTTP/1.1\nHost: H\n\n"),
        ("a space in the path", "GET /a b HTTP/1.1\nHost: H\n\n"),
        ("no version", "GET /\nHost: H\n\n"),
        ("a version to come", "GET / HTTP/9.9\nHost: H\n\n"),
        ("a version in small letters", "GET / http/1.1\nHost: H\n\n"),
    ] {
        let request = request
            .replace('\n', "\r\n")
            .replace("<LF>", "\n")
            .replace("H\r", &format!("{HOST}\r"));
        for (over, text) in both(&edge, &own, &format!("{request}{}", hidden())).await {
            assert!(is_only(&text, "400"), "{what} over {over} got {text:?}");
        }
    }
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_refusal_arrives_though_more_was_sent_than_is_read() {
    let mut fixture = Fixture::serving(site());
    let own = fixture.certificate(&[HOST]);
    let edge = fixture.start().await;
    let many = (0..200).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let many = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n");
    let long = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "y".repeat(400 << 10));
    let path = format!("GET /{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "y".repeat(400 << 10));
    let body = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9999999\r\n\r\n{}",
        "y".repeat(400 << 10)
    );
    let garbage = format!("GET / HTTP/1.1\r\nX Y\r\n\r\n{}", "y".repeat(400 << 10));
    for (request, status) in
        [(many, "431"), (long, "431"), (path, "431"), (body, "405"), (garbage, "400")]
    {
        for (over, text) in both(&edge, &own, &request).await {
            assert!(is_only(&text, status), "{:?} over {over} got {text:?}", &request[..60]);
        }
    }
    is_fine(&edge).await;
    edge.stop().await;
}

/// A reset would take the answer away from a client that is far off and has not read it yet.
#[tokio::test]
async fn one_that_goes_on_sending_after_its_refusal_is_not_reset() {
    let mut fixture = Fixture::serving(site());
    let own = fixture.certificate(&[HOST]);
    let edge = fixture.start().await;
    let request = "GET / HTTP/1.1\r\nX Y\r\n\r\n";
    let go_on = async |stream: &mut TcpStream| {
        for _ in 0..32 {
            stream.write_all(&[b'x'; 16 << 10]).await.expect("it is still read");
        }
    };
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 400 "));
    go_on(&mut stream).await;

    let mut stream = tls::connect(&edge, &own, HOST).await.unwrap();
    assert!(tls::raw(&mut stream, request.as_bytes()).await.starts_with(b"HTTP/1.1 400 "));
    go_on(stream.get_mut().0).await;
    drop(stream);
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn one_that_has_said_all_still_gets_its_answer() {
    let edge = Fixture::serving(site()).start().await;
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let request = format!("GET /large.bin HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert!(bytes.ends_with(&noise(8 << 20)), "{} bytes", bytes.len());
    edge.metric("nigh_edge_connections 0\n").await;
    edge.stop().await;
}

#[tokio::test]
async fn a_body_that_dribbles_is_not_waited_for() {
    let mut fixture = Fixture::serving(site());
    fixture.limits = serde_json::json!({ "header_timeout_ms": 300, "idle_timeout_ms": 60_000 });
    let edge = fixture.start().await;
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nx");
    let reply = ask(edge.http, request.as_bytes()).await;
    assert_eq!((reply.status, reply.header("connection")), (405, "close"));
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
    edge.metric("nigh_edge_connections 0\n").await;
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
    edge.metric("nigh_edge_connections 0\n").await;
    is_fine(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn one_address_gets_only_its_share_of_connections() {
    let mut fixture = Fixture::serving(site());
    fixture.limits = serde_json::json!({ "connections_per_address_max": 2 });
    let edge = fixture.start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        stream.write_all(hidden().as_bytes()).await.unwrap();
        // Answered, so it has its place.
        stream.read_u8().await.unwrap();
        held.push(stream);
    }
    // Both listeners count together.
    assert!(raw(edge.http, b"").await.is_empty());
    assert!(raw(edge.https, b"").await.is_empty());
    edge.metric("nigh_edge_connections_refused_total 2\n").await;
    drop(held);
    edge.metric("nigh_edge_connections 0\n").await;
    is_fine(&edge).await;
    edge.stop().await;
}

/// Beginnings that lead deeper than noise does.
fn beginning() -> impl Strategy<Value = Vec<u8>> {
    let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    prop_oneof![
        Just(Vec::new()),
        Just(b"GET ".to_vec()),
        Just(b"GET / HTTP/1.1\r\nHost: docs.nigh.test\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\r\nHost: docs.nigh.test\r\nRange: bytes=".to_vec()),
        Just(b"POST / HTTP/1.1\r\nHost: docs.nigh.test\r\nContent-Length: 50\r\n\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\r\nHost: docs.nigh.test\r\n\r\n".to_vec()),
        Just(h2.to_vec()),
        // HTTP/2 frames with a true head and any content.
        proptest::collection::vec(
            (0..12u8, any::<u8>(), 0..4u8, proptest::collection::vec(any::<u8>(), 0..40)),
            0..6
        )
        .prop_map(move |frames| {
            let mut bytes = h2.to_vec();
            for (kind, flags, stream, payload) in frames {
                bytes.extend([0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream]);
                bytes.extend(payload);
            }
            bytes
        }),
        // A TLS record of a handshake.
        Just(b"\x16\x03\x01\0\xf0\x01\0\0\xec\x03\x03".to_vec()),
    ]
}

#[test]
fn any_bytes_leave_the_edge_alive() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut fixture = Fixture::serving(site());
    // Those who go on saying nothing are soon closed.
    fixture.limits = serde_json::json!({ "header_timeout_ms": 20, "idle_timeout_ms": 20 });
    let edge = runtime.block_on(fixture.start_owned());
    let strategy = (beginning(), proptest::collection::vec(any::<u8>(), 0..400), any::<bool>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(256));
    runner
        .run(&strategy, |(start, rest, is_half_closed)| {
            let bytes = [start, rest].concat();
            runtime.block_on(async {
                for address in [edge.1.http, edge.1.https] {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    let _ = stream.write_all(&bytes).await;
                    if is_half_closed {
                        let _ = stream.shutdown().await;
                    }
                    let mut reply = Vec::new();
                    let _ =
                        timeout(DEADLINE, stream.read_to_end(&mut reply)).await.expect("closed");
                }
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(edge.1.metric("nigh_edge_connections 0\n"));
    runtime.block_on(edge.1.metric("nigh_edge_http_requests_in_flight 0\n"));
    runtime.block_on(is_fine(&edge.1));
    runtime.block_on(edge.1.stop());
}
