//! How do control's listeners speak TLS?

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use super::Issued;

/// Why a listener has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("a certificate or key of control's own is not valid PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("a certificate or key of control's own cannot be used")]
    Key(#[from] rustls::Error),
    #[error("control's CA cannot verify machines")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// How a listener speaks TLS from its next connection on; replaced while connections go on.
///
/// Whole, and not its parts: a session that was begun under an earlier one is not resumed, so
/// nobody gets around what is verified now.
#[derive(Debug)]
pub(crate) struct Port(RwLock<Arc<ServerConfig>>);

impl Port {
    pub(crate) fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Port(RwLock::new(Arc::new(config))))
    }

    pub(crate) fn replace(&self, config: ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// The one certificate of a listener.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// For people and their tools: no client certificate.
pub(crate) fn api_config(own: Arc<CertifiedKey>) -> Result<ServerConfig, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Only(own)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For machines: a client certificate of one of control's CAs, or none (only joining works then).
pub(crate) fn machine_config(
    own: Arc<CertifiedKey>,
    ca_pem: &str,
) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(Only(own)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate and its key, ready for a listener.
pub(crate) fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
    let key = provider().key_provider.load_private_key(key)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
