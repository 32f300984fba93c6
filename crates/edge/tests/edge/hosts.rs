//! Hosts: which site answers, on which connection.

use std::time::Duration;

use nigh_daemon::{Clock, Context};
use nigh_proto::Timestamp;

use crate::{
    fixture::{Blobs, Fixture, HOST, Release, context},
    tls::{connect, get},
    wire::ask,
};

#[tokio::test]
async fn each_name_gets_its_own_certificate_and_strangers_none() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let own = fixture.certificate(&[HOST]);
    let wildcard = fixture.certificate(&["*.previews.test"]);
    let edge = fixture.start().await;
    let reply = get(&mut connect(&edge, &own, HOST).await.unwrap(), HOST).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    connect(&edge, &wildcard, "a.previews.test").await.unwrap();
    for name in ["other.test", "a.b.previews.test", "previews.test"] {
        connect(&edge, &own, name).await.unwrap_err();
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_connection_for_another_host_is_misdirected() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let _own = fixture.certificate(&[HOST]);
    let other = fixture.certificate(&["other.test", "third.test"]);
    let edge = fixture.start().await;
    for (host, status) in [(HOST, 421), ("third.test", 421), ("other.test", 404)] {
        let mut stream = connect(&edge, &other, "other.test").await.unwrap();
        assert_eq!(get(&mut stream, host).await.status, status, "{host}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn unknown_and_missing_hosts_are_told_apart() {
    let edge = Fixture::serving(Release::new(1).file("index.html", "hello")).start().await;
    assert_eq!(edge.get("/", &[("Host", "nobody.test")]).await.status, 404);
    assert_eq!(edge.get("/", &[("Host", "DOCS.nigh.test.:80")]).await.status, 200);
    assert_eq!(ask(edge.http, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.status, 400);
    let twice = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(edge.http, twice).await.status, 400);
    edge.stop().await;
}

#[tokio::test]
async fn plain_http_is_sent_to_https_with_path_query_and_port() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    fixture.site().https_redirect = true;
    let edge = fixture.start().await;
    let reply = edge.get("/a%20b?c=1", &[]).await;
    let expected = format!("https://{HOST}:{}/a%20b?c=1", edge.https.port());
    assert_eq!((reply.status, reply.header("location")), (308, expected.as_str()));
    edge.stop().await;
}

#[tokio::test]
async fn the_health_page_is_on_every_host_and_says_when_there_is_no_state() {
    let path = "/.well-known/nigh/health";
    let fixture = Fixture::serving(Release::new(1).file(".well-known/nigh/health", "forged"));
    let edge = fixture.start().await;
    for host in [HOST, "anything", "127.0.0.1:80"] {
        let reply = edge.get(path, &[("Host", host)]).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"));
    }
    assert!(edge.context.readiness.is_ready());
    edge.stop().await;

    let edge = Fixture::new().start_with(Blobs::default(), context()).await;
    assert_eq!(edge.get(path, &[]).await.status, 503);
    assert_eq!(edge.get("/", &[]).await.status, 503);
    assert!(!edge.context.readiness.is_ready());
    edge.stop().await;
}

#[tokio::test]
async fn a_preview_ends_when_its_time_has_come_even_with_control_gone() {
    let now = std::time::UNIX_EPOCH + Duration::from_secs(1_770_000_000);
    let (clock, hand) = Clock::manual(now);
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "live"));
    let ends = Timestamp::from(now).plus_ms(60_000);
    let preview = Release::new(2).file("index.html", "preview");
    fixture.preview("next--docs.nigh.test", &preview, Some(ends));
    fixture.write();
    let edge = fixture.start_with(Blobs::default(), Context { clock, ..context() }).await;
    let host = [("Host", "next--docs.nigh.test")];
    let reply = edge.get("/", &host).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "preview"));
    assert_eq!(reply.header("x-robots-tag"), "noindex");
    assert_eq!(edge.get("/", &[]).await.header("x-robots-tag"), "");
    hand.advance(Duration::from_secs(60));
    assert_eq!(edge.get("/", &host).await.status, 404);
    assert_eq!(edge.get("/", &[]).await.text(), "live");
    edge.stop().await;
}
