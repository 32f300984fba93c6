//! Who is this machine?
//!
//! Its key is made here on the first start and never leaves. `cert.pem` is written last, so a
//! machine with a certificate has all it needs to prove who it is.

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_durable as durable;
use nigh_proto::MachineName;
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
    /// Reads the identity in `state_dir`, making the key if there is none. A certificate without
    /// its key proves nothing and is dropped: the machine joins again.
    pub(crate) fn load_or_make(state_dir: &Path) -> Result<Self, IdentityError> {
        let dir = state_dir.join("identity");
        durable::create_dir(&dir).map_err(at(&dir))?;
        durable::remove_unfinished(&dir).map_err(at(&dir))?;
        let key_pem = match load_key(&dir.join("key.pem"))? {
            Some(key_pem) => key_pem,
            None => make_key(&dir)?,
        };
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

    /// This machine as it would be with what joining brought.
    pub(crate) fn with(&self, membership: Membership) -> Self {
        Identity { membership: Some(membership), ..self.clone() }
    }

    /// Keeps what joining brought, the certificate last.
    pub(crate) fn keep(&mut self, membership: Membership) -> Result<(), IdentityError> {
        let (ca, certificate) = (self.dir.join("ca.pem"), self.dir.join("cert.pem"));
        durable::write(&ca, membership.ca_pem.as_bytes()).map_err(at(&ca))?;
        durable::write(&certificate, membership.certificate_pem.as_bytes())
            .map_err(at(&certificate))?;
        self.membership = Some(membership);
        Ok(())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Identity").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn load_key(path: &Path) -> Result<Option<String>, IdentityError> {
    let Some(pem) = read_text(path)? else { return Ok(None) };
    match KeyPair::from_pem(&pem) {
        Ok(_) => Ok(Some(pem)),
        Err(source) => Err(IdentityError::Key { path: path.to_owned(), source }),
    }
}

fn make_key(dir: &Path) -> Result<String, IdentityError> {
    let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
    match std::fs::remove_file(&certificate) {
        Ok(()) => {
            let path = certificate.display();
            tracing::error!("the key of {path} is gone; this machine has to join again");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(&certificate)(error)),
    }
    let pem = KeyPair::generate()?.serialize_pem();
    durable::write_secret(&key, pem.as_bytes()).map_err(at(&key))?;
    Ok(pem)
}

/// Text as far as it is text: what is damaged is found where it is used.
fn read_text(path: &Path) -> Result<Option<String>, IdentityError> {
    let bytes = durable::read_optional(path).map_err(at(path))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn membership() -> Membership {
        Membership { certificate_pem: "leaf".to_owned(), ca_pem: "ca".to_owned() }
    }

    #[test]
    fn a_certificate_whose_key_is_gone_is_dropped_with_it() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_make(dir.path()).unwrap().keep(membership()).unwrap();
        std::fs::remove_file(dir.path().join("identity/key.pem")).unwrap();
        for _ in 0..2 {
            assert!(Identity::load_or_make(dir.path()).unwrap().membership().is_none());
        }
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        let left = dir.path().join("identity/.tmp-abc");
        std::fs::write(&left, "half a key").unwrap();
        Identity::load_or_make(dir.path()).unwrap();
        assert!(!left.exists());
    }

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
        identity.keep(membership()).unwrap();
        let again = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(again.membership().unwrap().certificate_pem, "leaf");
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        let key = dir.path().join("identity/key.pem");
        for damaged in [&b"damaged"[..], b"", b"\xff\0"] {
            std::fs::write(&key, damaged).unwrap();
            let error = Identity::load_or_make(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Key { .. }), "{error:?}");
            assert!(error.to_string().contains("key.pem"), "{error}");
            assert_eq!(std::fs::read(&key).unwrap(), damaged);
        }
    }
}
