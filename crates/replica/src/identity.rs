//! Who is this machine?
//!
//! Its keys are made here and never leave. `key.pem` is what it joins with. `machine.pem` is its
//! key and certificate in one file, so that no crash leaves one without the other; a renewed pair
//! is `next.pem` until it has been seen to work, then it takes the place of the old one. `ca.pem`
//! holds the CAs that are trusted as control's, and `withdrawn` names those that were.

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_durable as durable;
use nigh_proto::{Digest, MachineName, Timestamp, report::AUTHORITIES_MAX};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// How many CAs are remembered as withdrawn.
const WITHDRAWN_MAX: usize = 32;

/// What a machine keeps in `identity/`.
#[derive(Clone)]
pub(crate) struct Identity {
    dir: PathBuf,
    /// What it joins with.
    key_pem: String,
    membership: Option<Membership>,
    candidate: Option<Membership>,
    withdrawn: Vec<Digest>,
}

/// What joining or renewing brings.
#[derive(Clone)]
pub(crate) struct Membership {
    /// The key and its certificate, leaf first, PEM.
    pub(crate) pair_pem: String,
    /// Control's CAs, PEM.
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

impl Membership {
    pub(crate) fn new(key_pem: &str, certificate_pem: &str, ca_pem: String) -> Self {
        Membership { pair_pem: format!("{}\n{certificate_pem}", key_pem.trim_end()), ca_pem }
    }

    /// From when until when the certificate is valid; `None` when it cannot be read.
    pub(crate) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let der = CertificateDer::from_pem_slice(self.pair_pem.as_bytes()).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        let moment = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_unix_ms(time.timestamp().saturating_mul(1000))
        };
        Some((moment(validity.not_before), moment(validity.not_after)))
    }

    /// BLAKE3 of the DER of every CA.
    pub(crate) fn trusts(&self) -> Vec<Digest> {
        fingerprints(&self.ca_pem)
    }
}

fn fingerprints(ca_pem: &str) -> Vec<Digest> {
    let certificates = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten();
    certificates.take(AUTHORITIES_MAX).map(|der| Digest::of(&der)).collect()
}

impl Identity {
    /// Reads the identity in `state_dir`, making the key to join with if there is none.
    pub(crate) fn load_or_make(state_dir: &Path) -> Result<Self, IdentityError> {
        let dir = state_dir.join("identity");
        durable::create_dir(&dir).map_err(at(&dir))?;
        durable::remove_unfinished(&dir).map_err(at(&dir))?;
        let key_pem = match load_key(&dir.join("key.pem"))? {
            Some(key_pem) => key_pem,
            None => make_key(&dir)?,
        };
        let ca_pem = read_text(&dir.join("ca.pem"))?;
        let member = |pair: Option<String>| {
            let (pair_pem, ca_pem) = (pair?, ca_pem.clone()?);
            Some(Membership { pair_pem, ca_pem })
        };
        let membership = member(read_text(&dir.join("machine.pem"))?);
        let candidate = member(read_text(&dir.join("next.pem"))?);
        let withdrawn = read_text(&dir.join("withdrawn"))?.unwrap_or_default();
        let withdrawn = withdrawn.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(Identity { dir, key_pem, membership, candidate, withdrawn })
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// `None` until the machine has joined.
    pub(crate) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// CAs that control has withdrawn: no file of the operator brings them back.
    pub(crate) fn withdrawn(&self) -> &[Digest] {
        &self.withdrawn
    }

    /// A certificate request for `name` (RFC 2986), PEM, with the key to join with.
    pub(crate) fn request_pem(&self, name: &MachineName) -> Result<String, IdentityError> {
        Ok(request_of(name, &KeyPair::from_pem(&self.key_pem)?)?)
    }

    /// A new key and a certificate request with it, PEM.
    pub(crate) fn next_request(name: &MachineName) -> Result<(String, String), IdentityError> {
        let key = KeyPair::generate()?;
        let request = request_of(name, &key)?;
        Ok((key.serialize_pem(), request))
    }

    /// This machine as it would be with what joining or renewing brought.
    pub(crate) fn with(&self, membership: Membership) -> Self {
        Identity { membership: Some(membership), candidate: None, ..self.clone() }
    }

    /// This machine with the pair that was not seen to work yet, if there is one.
    pub(crate) fn as_candidate(&self) -> Option<Self> {
        self.candidate.clone().map(|candidate| self.with(candidate))
    }

    /// Keeps what joining brought, the certificate last.
    pub(crate) fn keep(&mut self, membership: Membership) -> Result<(), IdentityError> {
        self.trust(&membership.ca_pem)?;
        let path = self.dir.join("machine.pem");
        durable::write_secret(&path, membership.pair_pem.as_bytes()).map_err(at(&path))?;
        self.membership = Some(membership);
        self.drop_candidate()
    }

    /// Keeps what renewing brought beside what is in use.
    pub(crate) fn keep_candidate(&mut self, candidate: Membership) -> Result<(), IdentityError> {
        let path = self.dir.join("next.pem");
        durable::write_secret(&path, candidate.pair_pem.as_bytes()).map_err(at(&path))?;
        self.candidate = Some(candidate);
        Ok(())
    }

    /// The candidate works: it takes the place of what was in use.
    pub(crate) fn promote(&mut self) -> Result<(), IdentityError> {
        match self.candidate.clone() {
            Some(candidate) => self.keep(candidate),
            None => Ok(()),
        }
    }

    /// Forgets a candidate.
    pub(crate) fn drop_candidate(&mut self) -> Result<(), IdentityError> {
        self.candidate = None;
        let path = self.dir.join("next.pem");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Trusts these CAs as control's from now on, and none that was trusted before besides.
    pub(crate) fn trust(&mut self, ca_pem: &str) -> Result<(), IdentityError> {
        let now = fingerprints(ca_pem);
        let before = self.membership.as_ref().map(Membership::trusts).unwrap_or_default();
        let mut withdrawn = self.withdrawn.clone();
        withdrawn.retain(|known| !now.contains(known));
        withdrawn.extend(before.into_iter().filter(|known| !now.contains(known)));
        let surplus = withdrawn.len().saturating_sub(WITHDRAWN_MAX);
        withdrawn.drain(..surplus);
        let path = self.dir.join("ca.pem");
        durable::write(&path, ca_pem.as_bytes()).map_err(at(&path))?;
        if withdrawn != self.withdrawn {
            let path = self.dir.join("withdrawn");
            let text: String = withdrawn.iter().map(|known| format!("{known}\n")).collect();
            durable::write(&path, text.as_bytes()).map_err(at(&path))?;
            self.withdrawn = withdrawn;
        }
        for member in self.membership.iter_mut().chain(&mut self.candidate) {
            member.ca_pem = ca_pem.to_owned();
        }
        Ok(())
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("ca_pem", &self.ca_pem).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Identity").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn request_of(name: &MachineName, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.serialize_request(key)?.pem()
}

fn load_key(path: &Path) -> Result<Option<String>, IdentityError> {
    let Some(pem) = read_text(path)? else { return Ok(None) };
    match KeyPair::from_pem(&pem) {
        Ok(_) => Ok(Some(pem)),
        Err(source) => Err(IdentityError::Key { path: path.to_owned(), source }),
    }
}

fn make_key(dir: &Path) -> Result<String, IdentityError> {
    let key = dir.join("key.pem");
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

    fn ca(name: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn membership(pair: &str) -> Membership {
        Membership { pair_pem: pair.to_owned(), ca_pem: "ca".to_owned() }
    }

    fn pair_in(dir: &Path) -> Option<String> {
        Some(Identity::load_or_make(dir).unwrap().membership()?.pair_pem.clone())
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
        let mut first = Identity::load_or_make(dir.path()).unwrap();
        let again = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(first.key_pem, again.key_pem);
        assert!(first.membership().is_none());
        first.keep(membership("pair")).unwrap();
        first.keep_candidate(membership("next")).unwrap();
        for name in ["key.pem", "machine.pem", "next.pem"] {
            let file = dir.path().join("identity").join(name);
            let mode = std::fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let shown = format!("{first:?} {:?}", first.membership());
        assert!(!shown.contains("PRIVATE") && !shown.contains("pair"), "{shown}");
    }

    #[test]
    fn what_joining_brought_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::load_or_make(dir.path()).unwrap();
        let name = "fra1".parse().unwrap();
        assert!(identity.request_pem(&name).unwrap().contains("CERTIFICATE REQUEST"));
        identity.keep(membership("pair")).unwrap();
        assert_eq!(pair_in(dir.path()).as_deref(), Some("pair"));
    }

    #[test]
    fn a_crash_between_any_two_writes_of_a_renewal_leaves_a_pair() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::load_or_make(dir.path()).unwrap();
        identity.keep(membership("old")).unwrap();
        identity.keep_candidate(membership("new")).unwrap();
        let crashed = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(crashed.membership().unwrap().pair_pem, "old");
        assert_eq!(crashed.as_candidate().unwrap().membership().unwrap().pair_pem, "new");
        // As after the first write of `promote`.
        std::fs::write(dir.path().join("identity/machine.pem"), "new").unwrap();
        let mut crashed = Identity::load_or_make(dir.path()).unwrap();
        crashed.promote().unwrap();
        assert_eq!(pair_in(dir.path()).as_deref(), Some("new"));
        assert!(Identity::load_or_make(dir.path()).unwrap().as_candidate().is_none());
    }

    #[test]
    fn a_candidate_that_is_refused_is_forgotten_and_the_old_pair_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::load_or_make(dir.path()).unwrap();
        identity.keep(membership("old")).unwrap();
        identity.keep_candidate(membership("new")).unwrap();
        identity.drop_candidate().unwrap();
        identity.drop_candidate().unwrap();
        assert_eq!(pair_in(dir.path()).as_deref(), Some("old"));
        assert!(Identity::load_or_make(dir.path()).unwrap().as_candidate().is_none());
    }

    #[test]
    fn a_ca_that_was_withdrawn_is_remembered_until_it_is_trusted_again() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (ca("one"), ca("two"));
        let mut identity = Identity::load_or_make(dir.path()).unwrap();
        identity.keep(Membership { ca_pem: one.clone(), ..membership("pair") }).unwrap();
        identity.trust(&format!("{two}{one}")).unwrap();
        assert_eq!(identity.membership().unwrap().trusts().len(), 2);
        assert!(identity.withdrawn().is_empty());
        identity.trust(&two).unwrap();
        let again = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(again.withdrawn(), fingerprints(&one));
        assert_eq!(again.membership().unwrap().trusts(), fingerprints(&two));
        identity.trust(&one).unwrap();
        assert_eq!(identity.withdrawn(), fingerprints(&two));
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
