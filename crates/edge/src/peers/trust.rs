//! How do two edges know that the other is one?
//!
//! By the certificates that control gave them, and by the state, which lists every edge with the id
//! of its join: one that was removed, or has joined again since, is listed no more.

use std::sync::Arc;

use nigh_proto::{report::MachineRole, state::Peer};
use nigh_replica::{Credentials, Member};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::ALPN;

/// Why there is no TLS between peers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("control's CA cannot be used")]
    Authority(#[from] VerifierBuilderError),
    #[error("this machine's certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// The edge of the state that a certificate, verified before, is of.
pub(crate) fn listed<'p>(certificate: &[u8], peers: &'p [Peer]) -> Option<&'p Peer> {
    let member = Member::of(certificate).filter(|member| member.role == MachineRole::Edge)?;
    peers.iter().find(|peer| peer.name == member.name && peer.id == member.id)
}

fn verifier(credentials: &Credentials) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::clone(&credentials.roots);
    Ok(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?)
}

/// What peers meet who connect to this edge.
pub(crate) fn server_config(credentials: &Credentials) -> Result<ServerConfig, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier(credentials)?)
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nobody resumes: a machine that was removed must not get in by what it once had.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// How this edge connects to `peer`, and to nobody else.
pub(crate) fn client_config(
    credentials: &Credentials,
    peer: &Peer,
) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let only = Only { verifier: verifier(credentials)?, peer: peer.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(only))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts one edge. Certificates of machines name no address, so what is compared is who they are.
#[derive(Debug)]
struct Only {
    verifier: Arc<dyn ClientCertVerifier>,
    peer: Peer,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_client_cert(leaf, others, now)?;
        match listed(leaf, std::slice::from_ref(&self.peer)) {
            Some(_) => Ok(ServerCertVerified::assertion()),
            None => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
