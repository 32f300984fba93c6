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

#[tokio::test]
async fn an_authority_finds_its_challenge_on_hosts_that_are_not_served_yet() {
    let mut fixture = Fixture::serving(
        Release::new(1)
            .file(".well-known/acme-challenge/other", "a file of the site")
            .file(".well-known/acme-challenge/token-1", "hidden meanwhile"),
    );
    fixture.site().https_redirect = false;
    let challenge = |host: &str| nigh_proto::state::HttpChallenge {
        host: host.parse().unwrap(),
        token: "token-1".to_owned(),
        key_authorization: format!("token-1.thumbprint-of-{host}"),
    };
    fixture.state.http_challenges = vec![challenge(HOST), challenge("new.test")];
    let edge = fixture.start().await;
    let path = "/.well-known/acme-challenge/token-1";
    for host in [HOST, "new.test", "NEW.test:80"] {
        let reply = edge.get(path, &[("Host", host)]).await;
        let name = host.trim_end_matches(":80").to_ascii_lowercase();
        assert_eq!(reply.status, 200, "{host}");
        assert_eq!(reply.text(), format!("token-1.thumbprint-of-{name}"));
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    assert_eq!(edge.send("HEAD", path, &[]).await.text(), "");
    assert_eq!(edge.send("POST", path, &[]).await.status, 405);
    let other = edge.get("/.well-known/acme-challenge/other", &[]).await;
    assert_eq!(other.text(), "a file of the site");
    for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/token-1/"] {
        assert_eq!(edge.get(path, &[("Host", "new.test")]).await.status, 404, "{path}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn curl_gets_a_challenge_over_plain_http_where_all_else_is_redirected() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    fixture.site().https_redirect = true;
    fixture.state.http_challenges = vec![nigh_proto::state::HttpChallenge {
        host: HOST.parse().unwrap(),
        token: "token".to_owned(),
        key_authorization: "token.thumbprint".to_owned(),
    }];
    let edge = fixture.start().await;
    let asked = |path: &str| {
        let url = format!("http://{HOST}:{}{path}", edge.http.port());
        let resolve = format!("{HOST}:{}:{}", edge.http.port(), edge.http.ip());
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "-w", " %{http_code}", "--resolve", &resolve, &url]);
        curl
    };
    for (path, expected) in
        [("/.well-known/acme-challenge/token", "token.thumbprint 200"), ("/", " 308")]
    {
        let output = asked(path).output().await.expect("curl is installed (curl)");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
    edge.stop().await;
}
