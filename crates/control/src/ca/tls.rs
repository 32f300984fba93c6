//! How do control's listeners speak TLS?

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

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

/// Control's own certificate and key, replaced while connections go on.
#[derive(Debug)]
pub(crate) struct Keys(RwLock<Arc<CertifiedKey>>);

impl Keys {
    pub(crate) fn new(issued: &Issued) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Keys(RwLock::new(certified(issued)?))))
    }

    pub(crate) fn replace(&self, issued: &Issued) -> Result<(), TlsError> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(issued)?;
        Ok(())
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// For people and their tools: no client certificate.
pub(crate) fn api_config(keys: Arc<Keys>) -> Result<ServerConfig, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(keys);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For machines: a client certificate of control's CA, or none (only joining works then).
pub(crate) fn machine_config(keys: Arc<Keys>, ca_pem: &str) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(keys);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
    let key = provider().key_provider.load_private_key(key)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
