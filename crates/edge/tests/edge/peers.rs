//! Peers: who is one, what they are given, and that visitors notice nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nigh_proto::{Digest, MachineId, state::Peer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::fixture::{DEADLINE, Fixture, HOST, Release, Running, noise};

/// A CA like control's.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a machine shows.
struct Shown {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

fn id(number: u64) -> MachineId {
    MachineId::new(number, [3; 10])
}

impl Authority {
    fn machine(&self, name: &str, role: &str, id: &MachineId) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, role);
        params.distinguished_name.push(DnType::OrganizationalUnitName, id.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Shown { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }
}

fn peer(name: &str, id: MachineId) -> Peer {
    let region = "eu-frankfurt".parse().unwrap();
    Peer { name: name.parse().unwrap(), id, region, location: None, addresses: Vec::new() }
}

/// An edge that has joined a fleet in which `nyc1` is too.
async fn joined(authority: &Authority, release: Release) -> (Running, rcgen::Certificate) {
    let mut fixture = Fixture::serving(release);
    let own = fixture.certificate(&[HOST]);
    fixture.state.peers = vec![peer("fra1", id(1)), peer("nyc1", id(2))];
    let shown = authority.machine("fra1", "edge", &id(1));
    let identity = fixture.state_dir().join("identity");
    std::fs::create_dir_all(&identity).unwrap();
    std::fs::write(identity.join("key.pem"), shown.key.serialize_pem()).unwrap();
    std::fs::write(identity.join("ca.pem"), &authority.pem).unwrap();
    let pair = format!("{}{}", shown.key.serialize_pem(), shown.certificate.pem());
    std::fs::write(identity.join("machine.pem"), pair).unwrap();
    (fixture.start().await, own)
}

/// Asks the edge as whoever `shown` is; `None` when it does not let them in.
async fn ask(
    edge: &Running,
    shown: Option<&Shown>,
    digests: &[Digest],
) -> Option<(StatusCode, Bytes)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(Shown { certificate, key }) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"nigh-peer/1".to_vec()];
    let stream = TcpStream::connect(edge.https).await.unwrap();
    let name = ServerName::IpAddress(edge.https.ip().into());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.ok()?;
    tokio::spawn(connection);
    let body = serde_json::to_vec(&serde_json::json!({ "digests": digests })).unwrap();
    let request =
        Request::post("https://peer/peer/v1/have").body(Full::new(Bytes::from(body))).unwrap();
    let response = sender.send_request(request).await.ok()?;
    let status = response.status();
    Some((status, response.into_body().collect().await.ok()?.to_bytes()))
}

/// So that what is tested is whom the edge believes.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn an_edge_of_the_fleet_is_told_what_is_here_and_nobody_else() {
    let control = authority();
    let film = noise(3 << 20);
    let release = Release::new(1).file("index.html", "hello").file("film.mp4", film.clone());
    let (edge, own) = joined(&control, release).await;
    let digests = [Digest::of(b"hello"), Digest::of(b"nowhere"), Digest::of(&film)];

    let listed = control.machine("nyc1", "edge", &id(2));
    let answered = timeout(DEADLINE, async {
        // The edge proves itself only once it has read its own identity.
        loop {
            if let Some(answered) = ask(&edge, Some(&listed), &digests).await {
                return answered;
            }
        }
    });
    let (status, bits) = answered.await.unwrap();
    assert_eq!((status, &bits[..]), (StatusCode::OK, &[0b101][..]));

    let forbidden = [
        ("removed", control.machine("sin1", "edge", &id(3))),
        ("joined again since", control.machine("nyc1", "edge", &id(4))),
        ("a DNS server", control.machine("nyc1", "dns", &id(2))),
    ];
    for (who, shown) in &forbidden {
        let (status, body) = ask(&edge, Some(shown), &digests).await.expect(who);
        assert_eq!((status, body.len()), (StatusCode::FORBIDDEN, 0), "{who}");
    }
    let forged = authority().machine("nyc1", "edge", &id(2));
    assert_eq!(ask(&edge, Some(&forged), &digests).await, None, "of another CA");
    assert_eq!(ask(&edge, None, &digests).await, None, "without a certificate");

    let mut stream = crate::tls::connect(&edge, &own, HOST).await.unwrap();
    assert_eq!(crate::tls::get(&mut stream, HOST).await.text(), "hello", "visitors go on");
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_that_has_not_joined_has_no_peers() {
    let edge = Fixture::serving(Release::new(1).file("index.html", "hello")).start().await;
    let shown = authority().machine("nyc1", "edge", &id(2));
    assert_eq!(ask(&edge, Some(&shown), &[]).await, None);
    edge.stop().await;
}
