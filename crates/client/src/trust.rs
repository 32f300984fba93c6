//! Whose certificates are believed?
//!
//! Control signs its own certificate, so people usually name its CA file; a control behind a public
//! certificate is trusted through the platform's bundle.

use std::path::Path;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::error::ConfigError;

/// The certificate authorities that control's certificate may come from.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Those that the operating system trusts.
    #[default]
    Platform,
    /// Only those of this PEM text.
    Only(Vec<u8>),
}

/// Where distributions keep their bundle of trusted authorities.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS for HTTP/2 and HTTP/1.1 to servers that `trust` vouches for.
pub fn tls_config(trust: &Trust) -> Result<ClientConfig, ConfigError> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Tls)?
        .with_root_certificates(roots(trust)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(trust: &Trust) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Only(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| ConfigError::CaPem)?;
                roots.add(certificate).map_err(ConfigError::Tls)?;
            }
            if roots.is_empty() {
                return Err(ConfigError::CaPem);
            }
        }
        Trust::Platform => {
            // No bundle means no trust: the first call then says so. A bundle may hold certificates
            // that rustls does not read, which is no reason to refuse the others.
            let bundle = BUNDLES.iter().find(|path| Path::new(path).exists());
            let certificates = bundle.and_then(|path| CertificateDer::pem_file_iter(path).ok());
            roots.add_parsable_certificates(certificates.into_iter().flatten().flatten());
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\n!!\n"] {
            let refused = tls_config(&Trust::Only(pem.to_vec()));
            assert!(matches!(refused, Err(ConfigError::CaPem)), "{pem:?}");
        }
    }
}
