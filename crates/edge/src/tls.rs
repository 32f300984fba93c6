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
                    let error = nigh_daemon::logging::causes(&error);
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

#[cfg(test)]
mod tests {
    use nigh_proto::Timestamp;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    use super::*;

    const NAME: &str = "docs.nigh.test";

    fn certificate(names: &[&str]) -> (Certificate, rcgen::Certificate) {
        let key = rcgen::KeyPair::generate().unwrap();
        let sans: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::CertificateParams::new(sans).unwrap().self_signed(&key).unwrap();
        let certificate = Certificate {
            id: format!("site:{}", names[0]),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            chain_pem: made.pem(),
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_unix_ms(4_000_000_000_000),
        };
        (certificate, made)
    }

    type Ends = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

    /// Both ends of a connection of a client that trusts `trusted` alone, remembering nothing.
    async fn shake(acceptor: &TlsAcceptor, trusted: &rcgen::Certificate) -> Option<Ends> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = duplex(16_384);
        let name = NAME.try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (client, server) = tokio::join!(connector.connect(name, far), acceptor.accept(near));
        Some((client.ok()?, server.ok()?))
    }

    #[tokio::test]
    async fn a_certificate_is_replaced_while_connections_are_open() {
        let (old, trusts_old) = certificate(&[NAME]);
        let (new, trusts_new) = certificate(&[NAME]);
        let keyring = Keyring::default();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(keyring.clone()).unwrap()));
        assert!(shake(&acceptor, &trusts_old).await.is_none(), "there is none yet");
        keyring.replace(Certificates::read(&[old]));
        let (mut client, mut server) = shake(&acceptor, &trusts_old).await.unwrap();
        keyring.replace(Certificates::read(&[new]));
        assert!(shake(&acceptor, &trusts_old).await.is_none(), "the old one is shown no more");
        shake(&acceptor, &trusts_new).await.unwrap();
        client.write_all(b"still here").await.unwrap();
        client.flush().await.unwrap();
        let mut heard = [0; 10];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"still here");
    }

    #[test]
    fn one_that_cannot_be_read_does_not_take_the_others_with_it() {
        let (good, _) = certificate(&[NAME, "*.previews.test"]);
        let (mut bad, _) = certificate(&["bad.test"]);
        bad.key_pem = good.key_pem.replace('A', "B");
        let certificates = Certificates::read(&[bad, good]);
        assert!(certificates.find("bad.test").is_none());
        assert!(certificates.cover_both(NAME, "a.previews.test"));
        assert!(!certificates.cover_both(NAME, "a.b.previews.test"));
        assert!(!certificates.cover_both(NAME, "bad.test"));
    }
}
