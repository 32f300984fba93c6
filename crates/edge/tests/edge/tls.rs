//! TLS: versions, resumption, and how it ends.

use std::sync::Arc;

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
