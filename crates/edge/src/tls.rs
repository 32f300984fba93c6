//! Which certificate is shown for which name?
//!
//! Certificates come with the state and are replaced without touching open connections. A client
//! that names no host, or one without a certificate, is refused in the handshake.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use nigh_proto::state::Certificate;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Certificates by name; a name may begin with `*.`.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
}

/// Why a certificate of the state cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCertificate {
    #[error("its chain or its key is not PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("its key does not fit, or is of an unknown kind")]
    Key(#[from] rustls::Error),
}

impl Certificates {
    /// Reads those of the state. One that cannot be used is logged and left out.
    pub(crate) fn read(certificates: &[Certificate]) -> Self {
        let provider = aws_lc_rs::default_provider();
        let mut by_name = HashMap::new();
        for certificate in certificates {
            match read(certificate, &provider) {
                Ok(key) => {
                    let key = Arc::new(key);
                    for name in &certificate.names {
                        by_name.insert(name.as_str().into(), Arc::clone(&key));
                    }
                }
                Err(error) => {
                    let error = crate::heal::causes(&error);
                    tracing::error!(names = ?certificate.names, error, "a certificate is left out");
                }
            }
        }
        Certificates { by_name }
    }

    /// The certificate for `name`: its own, else that of a wildcard one label up (RFC 9525, section 6.3).
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.by_name.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(format!("*.{parent}").as_str())
        })
    }

    /// Whether a connection that was opened for `sni` may carry requests for `host`.
    pub(crate) fn cover_both(&self, sni: &str, host: &str) -> bool {
        match (self.find(sni), self.find(host)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

fn read(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, BadCertificate> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// Certificates that can be replaced while connections are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring(Arc<ArcSwap<Certificates>>);

impl Keyring {
    pub(crate) fn replace(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }

    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Certificates>> {
        self.0.load()
    }
}

impl ResolvesServerCert for Keyring {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        self.current().find(hello.server_name()?).cloned()
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, resumption by tickets that only this process can read.
pub(crate) fn server_config(keyring: Keyring) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(keyring));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
