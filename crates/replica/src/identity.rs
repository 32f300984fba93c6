//! Who is this machine to control?
//!
//! `identity/key.pem` is made here and never leaves; `certificate.pem` is what control signed for it.
//! The certificate is written last, so a machine that is stopped while it joins asks again with the
//! same key.

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_proto::{MachineName, report::MachineRole};
use rcgen::{CertificateParams, DnType, KeyPair};

/// Why a machine has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("could not read or write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("could not make a key or a certificate request from {}", path.display())]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("{} is not UTF-8 text", path.display())]
    Text { path: PathBuf },
}

/// The machine's key and, once joined, its certificate.
#[derive(Clone)]
pub(crate) struct Identity {
    dir: PathBuf,
    pub(crate) key_pem: String,
    pub(crate) certificate_pem: Option<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("dir", &self.dir)
            .field("is_joined", &self.certificate_pem.is_some())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity kept in `state_dir`; a key is made when there is none.
    pub(crate) fn load_or_make(state_dir: &Path) -> Result<Self, IdentityError> {
        let dir = state_dir.join("identity");
        nigh_durable::create_dir(&dir)
            .map_err(|source| IdentityError::File { path: dir.clone(), source })?;
        let key_path = dir.join("key.pem");
        let key_pem = match read_text(&key_path)? {
            Some(key_pem) => key_pem,
            None => {
                let key_pem = KeyPair::generate()
                    .map_err(|source| IdentityError::Key { path: key_path.clone(), source })?
                    .serialize_pem();
                write(&key_path, &key_pem)?;
                key_pem
            }
        };
        let certificate_pem = read_text(&dir.join("certificate.pem"))?;
        Ok(Identity { dir, key_pem, certificate_pem })
    }

    /// A certificate request (PKCS #10) for this key, PEM.
    pub(crate) fn request(
        &self,
        name: &MachineName,
        role: MachineRole,
    ) -> Result<String, IdentityError> {
        let failed = |source| IdentityError::Key { path: self.dir.join("key.pem"), source };
        let key = KeyPair::from_pem(&self.key_pem).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.distinguished_name.push(DnType::OrganizationName, role.label());
        params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)
    }

    /// Keeps the certificate that control signed.
    pub(crate) fn joined(&mut self, certificate_pem: String) -> Result<(), IdentityError> {
        write(&self.dir.join("certificate.pem"), &certificate_pem)?;
        self.certificate_pem = Some(certificate_pem);
        Ok(())
    }
}

fn read_text(path: &Path) -> Result<Option<String>, IdentityError> {
    let bytes = nigh_durable::read_optional(path)
        .map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|_| IdentityError::Text { path: path.to_owned() })
}

fn write(path: &Path, pem: &str) -> Result<(), IdentityError> {
    nigh_durable::write_secret(path, pem.as_bytes())
        .map_err(|source| IdentityError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Identity::load_or_make(dir.path()).unwrap();
        assert!(first.certificate_pem.is_none());
        let request = first.request(&"fra1".parse().unwrap(), MachineRole::Edge).unwrap();
        assert!(request.contains("BEGIN CERTIFICATE REQUEST"));
        first.joined("signed".to_owned()).unwrap();
        let again = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(again.key_pem, first.key_pem);
        assert_eq!(again.certificate_pem.as_deref(), Some("signed"));
        assert!(!format!("{again:?}").contains("PRIVATE KEY"));
    }
}
