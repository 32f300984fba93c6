//! TLS: versions, resumption, and how it ends.

use std::sync::Arc;

use nigh_proto::{Timestamp, state::TicketKey};
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    pki_types::ServerName, version,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    fixture::{DEADLINE, Fixture, HOST, Release, Running},
    wire::Reply,
};

/// A client that trusts `trusted`, and remembers tickets.
pub(crate) fn client(
    trusted: &rcgen::Certificate,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

pub(crate) async fn connect_as(
    client: &Arc<ClientConfig>,
    edge: &Running,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(edge.https).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(client)).connect(name, stream).await
}

pub(crate) async fn connect(
    edge: &Running,
    trusted: &rcgen::Certificate,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_as(&client(trusted, &[&version::TLS13]), edge, name).await
}

/// Everything that the edge sends in answer to `request`, until it closes as TLS wants.
pub(crate) async fn raw(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).await.expect("no reset while it is sent");
    stream.flush().await.expect("no reset while it is sent");
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the edge closes");
    read.expect("a close_notify comes after the answer");
    let below = stream.get_mut().0.read(&mut [0; 1]).await;
    assert_eq!(below.expect("no reset"), 0);
    bytes
}

pub(crate) async fn get(stream: &mut TlsStream<TcpStream>, host: &str) -> Reply {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    Reply::parse(&raw(stream, request.as_bytes()).await).unwrap()
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_by_its_ticket() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let own = fixture.certificate(&[HOST]);
    let edge = fixture.start().await;
    for (version, name) in [(&version::TLS12, "1.2"), (&version::TLS13, "1.3")] {
        let client = client(&own, &[version]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut stream = connect_as(&client, &edge, HOST).await.unwrap();
            // Tickets of TLS 1.3 come with the answer.
            assert_eq!(get(&mut stream, HOST).await.text(), "hello");
            let shaken = stream.get_ref().1.handshake_kind().unwrap();
            // Which group the client offers first is no matter here.
            let is_resumed = shaken == HandshakeKind::Resumed;
            assert_eq!(is_resumed, kind == HandshakeKind::Resumed, "{name}: {shaken:?}");
        }
        let page = edge.context.metrics.encode().unwrap();
        for (resumed, count) in [("false", 1), ("true", 2)] {
            let line = format!(
                "nigh_edge_tls_handshakes_total{{version=\"{name}\",resumed=\"{resumed}\"}} {count}\n"
            );
            assert!(page.contains(&line), "{line} is not in {page}");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_refused_handshake_says_why() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let own = fixture.certificate(&[HOST]);
    let edge = fixture.start().await;
    let error = connect(&edge, &own, "other.test").await.unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<rustls::Error>();
    assert_eq!(error, Some(&rustls::Error::AlertReceived(AlertDescription::AccessDenied)));
    edge.stop().await;
}

/// Two edges that control gave the same certificate and `keys`.
async fn two_edges(keys: &[TicketKey]) -> (rcgen::Certificate, Running, Running) {
    let mut fra = Fixture::serving(Release::new(1).file("index.html", "hello"));
    let own = fra.certificate(&[HOST]);
    fra.state.ticket_keys = keys.to_vec();
    let mut nyc = Fixture::serving(Release::new(1).file("index.html", "hello"));
    nyc.state.certificates.clone_from(&fra.state.certificates);
    nyc.state.ticket_keys = keys.to_vec();
    (own, fra.start().await, nyc.start().await)
}

fn ticket_key(number: u8) -> TicketKey {
    TicketKey {
        name: format!("{number:02x}").repeat(16),
        key: format!("{:02x}", !number).repeat(32),
        not_after: Timestamp::from_unix_ms(4_000_000_000_000),
    }
}

#[tokio::test]
async fn a_visitor_who_lands_on_another_edge_resumes() {
    let (own, fra, nyc) = two_edges(&[ticket_key(2), ticket_key(1)]).await;
    for version in [&version::TLS12, &version::TLS13] {
        let client = client(&own, &[version]);
        for (edge, is_resumed) in [(&fra, false), (&nyc, true), (&fra, true)] {
            let mut stream = connect_as(&client, edge, HOST).await.unwrap();
            assert_eq!(get(&mut stream, HOST).await.text(), "hello");
            let shaken = stream.get_ref().1.handshake_kind().unwrap();
            assert_eq!(shaken == HandshakeKind::Resumed, is_resumed, "{version:?}: {shaken:?}");
        }
    }
    fra.stop().await;
    nyc.stop().await;
    let (own, fra, nyc) = two_edges(&[]).await;
    let client = client(&own, &[&version::TLS13]);
    for edge in [&fra, &nyc] {
        let mut stream = connect_as(&client, edge, HOST).await.unwrap();
        assert_eq!(get(&mut stream, HOST).await.text(), "hello");
        let shaken = stream.get_ref().1.handshake_kind().unwrap();
        assert_ne!(shaken, HandshakeKind::Resumed, "without shared keys nobody can");
    }
    fra.stop().await;
    nyc.stop().await;
}

/// What `openssl s_client` says of a connection that asks for the page.
async fn s_client(edge: &Running, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new("openssl");
    command
        .args(["s_client", "-connect", &edge.https.to_string(), "-servername", HOST])
        .args(["-ign_eof"])
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("openssl is installed (openssl)");
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let mut typed = child.stdin.take().unwrap();
    typed.write_all(request.as_bytes()).await.unwrap();
    let said = timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    drop(typed);
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[tokio::test]
async fn openssl_resumes_at_another_edge() {
    let (_own, fra, nyc) = two_edges(&[ticket_key(1)]).await;
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session.pem");
    let session = session.to_str().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let first = s_client(&fra, &[version, "-sess_out", session]).await;
        assert!(first.contains("hello") && first.contains("New, TLSv1."), "{first}");
        let second = s_client(&nyc, &[version, "-sess_in", session]).await;
        assert!(second.contains("hello") && second.contains("Reused, TLSv1."), "{second}");
    }
    fra.stop().await;
    nyc.stop().await;
}
