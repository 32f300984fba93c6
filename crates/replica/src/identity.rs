//! Who is this machine?
//!
//! Its key is made here on the first start and never leaves. `cert.pem` is written last, so a
//! machine with a certificate has all it needs to prove who it is.

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_durable as durable;
use nigh_proto::{MachineName, report::JoinResponse};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

/// What a machine keeps in `identity/`.
#[derive(Clone)]
pub(crate) struct Identity {
    dir: PathBuf,
    key_pem: String,
    membership: Option<Membership>,
}

/// What joining brings.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// Leaf first, PEM.
    pub(crate) certificate_pem: String,
    /// Control's CA, PEM.
    pub(crate) ca_pem: String,
}

/// Why a machine has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("could not read or write {path}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not a private key; restore it, or remove the folder it lies in and join again",
        path = path.display()
    )]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("could not make a key or a certificate request")]
    Make(#[from] rcgen::Error),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { path, source }
}

impl Identity {
    /// Reads the identity in `state_dir`, making the key if there is none.
    pub(crate) fn load_or_make(state_dir: &Path) -> Result<Self, IdentityError> {
        let dir = state_dir.join("identity");
        durable::create_dir(&dir).map_err(at(&dir))?;
        let key_pem = load_or_make_key(&dir.join("key.pem"))?;
        let certificate_pem = read_text(&dir.join("cert.pem"))?;
        let ca_pem = read_text(&dir.join("ca.pem"))?;
        let membership = certificate_pem
            .zip(ca_pem)
            .map(|(certificate_pem, ca_pem)| Membership { certificate_pem, ca_pem });
        Ok(Identity { dir, key_pem, membership })
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// `None` until the machine has joined.
    pub(crate) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// A certificate request for `name` (RFC 2986), PEM.
    pub(crate) fn request_pem(&self, name: &MachineName) -> Result<String, IdentityError> {
        let key = KeyPair::from_pem(&self.key_pem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        Ok(params.serialize_request(&key)?.pem()?)
    }

    /// Keeps what joining brought, the certificate last.
    pub(crate) fn keep(&mut self, joined: JoinResponse) -> Result<(), IdentityError> {
        let (ca, certificate) = (self.dir.join("ca.pem"), self.dir.join("cert.pem"));
        durable::write(&ca, joined.ca_pem.as_bytes()).map_err(at(&ca))?;
        durable::write(&certificate, joined.certificate_pem.as_bytes())
            .map_err(at(&certificate))?;
        let JoinResponse { certificate_pem, ca_pem, .. } = joined;
        self.membership = Some(Membership { certificate_pem, ca_pem });
        Ok(())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Identity").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn load_or_make_key(path: &Path) -> Result<String, IdentityError> {
    if let Some(pem) = read_text(path)? {
        KeyPair::from_pem(&pem)
            .map_err(|source| IdentityError::Key { path: path.to_owned(), source })?;
        return Ok(pem);
    }
    let pem = KeyPair::generate()?.serialize_pem();
    durable::write_secret(path, pem.as_bytes()).map_err(at(path))?;
    Ok(pem)
}

fn read_text(path: &Path) -> Result<Option<String>, IdentityError> {
    let Some(bytes) = durable::read_optional(path).map_err(at(path))? else { return Ok(None) };
    let text = String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        .map_err(at(path))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_make(dir.path()).unwrap();
        let again = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(first.key_pem, again.key_pem);
        assert!(first.membership().is_none());
        let key = dir.path().join("identity/key.pem");
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        let shown = format!("{first:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn what_joining_brought_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::load_or_make(dir.path()).unwrap();
        let name = "fra1".parse().unwrap();
        assert!(identity.request_pem(&name).unwrap().contains("CERTIFICATE REQUEST"));
        let joined =
            JoinResponse { name, certificate_pem: "leaf".to_owned(), ca_pem: "ca".to_owned() };
        identity.keep(joined).unwrap();
        let again = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(again.membership().unwrap().certificate_pem, "leaf");
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        let key = dir.path().join("identity/key.pem");
        std::fs::write(&key, "damaged").unwrap();
        let error = Identity::load_or_make(dir.path()).unwrap_err();
        assert!(
            matches!(error, IdentityError::Key { .. }) && error.to_string().contains("key.pem")
        );
        assert_eq!(std::fs::read(&key).unwrap(), b"damaged");
    }
}
