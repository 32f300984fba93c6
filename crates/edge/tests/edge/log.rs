//! What is written down of requests, and what a reload changes.

use std::{collections::HashSet, path::Path, time::Instant};

use nigh_daemon::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    fixture::{DEADLINE, Fixture, HOST, Release, noise},
    tls,
};

/// The lines of the log, as soon as there are `count`.
async fn lines(path: &Path, count: usize) -> Vec<serde_json::Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(Instant::now() < end, "{text}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_request_has_a_line_of_its_own() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let path = fixture.dir.path().join("access.log");
    fixture.more = serde_json::json!({ "access_log": { "output": path } });
    let own = fixture.certificate(&[HOST]);
    let edge = fixture.start().await;
    let forged = [("X-Request-Id", "mine"), ("User-Agent", "a \"b\""), ("Referer", "r")];
    edge.get("/?q", &forged).await;
    edge.get("/missing", &[]).await;
    edge.get("/", &[("Transfer-Encoding", "chunked")]).await;
    tls::get(&mut tls::connect(&edge, &own, HOST).await.unwrap(), HOST).await;
    let lines = lines(&path, 4).await;
    let ids: HashSet<&str> = lines.iter().map(|line| line["req_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == 16), "{ids:?}");
    let find = |field: &str, value: serde_json::Value| {
        lines.iter().find(|line| line[field] == value).unwrap_or_else(|| panic!("no {value}"))
    };
    let first = find("path", "/?q".into());
    let expected = serde_json::json!({
        "site": "docs", "client_ip": "127.0.0.0", "proto": "http/1.1", "tls": "", "method": "GET",
        "host": HOST, "status": 200, "bytes": 5, "rule": "-", "ua": "a \"b\"", "ref": "r",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&first[field], value, "{field} in {first}");
    }
    assert_eq!(find("tls", "1.3".into())["status"], 200);
    assert_eq!(find("err", "malformed".into())["status"], 400);
    assert_eq!(find("path", "/missing".into())["status"], 404);
    edge.stop().await;
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_answer_has_left() {
    let release = Release::new(1).file("large.bin", noise(8 << 20));
    let edge = Fixture::serving(release).start().await;
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let request = format!("GET /large.bin HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_u8().await.unwrap();
    edge.metric("nigh_edge_http_requests_in_flight 1\n").await;
    drop(stream);
    edge.metric("nigh_edge_http_requests_in_flight 0\n").await;
    edge.stop().await;
}

#[tokio::test]
async fn a_reload_opens_the_log_again_and_keeps_connections() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let path = fixture.dir.path().join("access.log");
    fixture.more = serde_json::json!({ "access_log": { "output": path } });
    let mut edge = fixture.start().await;
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let mut ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"hello") {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "it was closed");
        }
    };
    ask("/?before").await;
    assert_eq!(lines(&path, 1).await[0]["path"], "/?before");
    // As logrotate does it.
    let rotated = path.with_extension("1");
    std::fs::rename(&path, &rotated).unwrap();
    edge.server.reload(fixture.config_for_tests()).await.unwrap();
    ask("/?after").await;
    assert_eq!(lines(&path, 1).await[0]["path"], "/?after");
    assert_eq!(lines(&rotated, 1).await.len(), 1);

    // A configuration that cannot work changes nothing.
    let mut broken = fixture.config_for_tests();
    broken.limits.streams_max = 0;
    edge.server.reload(broken).await.unwrap_err();
    ask("/?still").await;
    assert_eq!(lines(&path, 2).await[1]["path"], "/?still");
    edge.stop().await;
}
