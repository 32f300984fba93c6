//! Whose certificates are believed when control calls a webhook?

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Where distributions keep their bundle of trusted authorities.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities of webhooks cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("webhooks.ca_file {file} holds no certificate in PEM form", file = .0.display())]
    File(PathBuf),
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
}

/// TLS towards webhooks: the platform's authorities, and those of `ca_file`.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    let bundle = BUNDLES.iter().find(|path| Path::new(path).exists());
    let certificates = bundle.and_then(|path| CertificateDer::pem_file_iter(path).ok());
    roots.add_parsable_certificates(certificates.into_iter().flatten().flatten());
    if let Some(file) = ca_file {
        let unusable = || TrustError::File(file.to_owned());
        let certificates = CertificateDer::pem_file_iter(file).map_err(|_| unusable())?;
        let (added, _) = roots.add_parsable_certificates(certificates.flatten());
        if added == 0 {
            return Err(unusable());
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
