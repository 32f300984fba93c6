//! Which certificate is shown for which name?
//!
//! Certificates come with the state and are replaced without touching open connections. One that
//! visitors could not use never takes the place of one that they can. A client that names no host,
//! or one without a certificate, is refused in the handshake.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use nigh_proto::{
    Timestamp,
    report::{CertificateReport, CertificateStanding},
    state::Certificate,
};
use rustls::{
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::proof::{self, ProofError};

/// Certificates by name; a name may begin with `*.`.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    held: BTreeMap<Box<str>, Held>,
}

/// A certificate of the state, read.
#[derive(Clone, Debug)]
struct Held {
    certificate: Certificate,
    key: Arc<CertifiedKey>,
}

/// Why a certificate of the state cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCertificate {
    #[error("its chain or its key is not PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("there is no certificate in its chain")]
    Empty,
    #[error("its key does not fit, or is of an unknown kind")]
    Key(#[from] rustls::Error),
}

impl Certificates {
    /// Those that are to be shown after these, and what became of each of `wanted`.
    ///
    /// One that takes the place of another is proven first; when visitors would not get through, the
    /// old one stays. Where there is nothing to lose, whatever can be read is shown.
    pub(crate) fn next(
        &self,
        wanted: &[Certificate],
        now: Timestamp,
    ) -> (Self, Vec<CertificateReport>) {
        let mut next = Certificates::default();
        let mut reports = Vec::with_capacity(wanted.len());
        for certificate in wanted {
            let before = self.held.get(&place(certificate));
            let (held, standing) = match Held::after(before, certificate, now) {
                Ok(held) => (Some(held), CertificateStanding::Served),
                Err(error) => {
                    let reason = nigh_daemon::logging::causes(&error);
                    let id = &certificate.id;
                    tracing::error!(id, reason, "a certificate is not shown; see its reason");
                    (before.cloned(), CertificateStanding::Refused { reason })
                }
            };
            reports.push(report(certificate, standing));
            if let Some(held) = held {
                next.add(place(certificate), held);
            }
        }
        (next, reports)
    }

    /// `certificate` alone.
    pub(crate) fn only(certificate: &Certificate) -> Result<Self, BadCertificate> {
        let mut only = Certificates::default();
        only.add(place(certificate), Held::read(certificate)?);
        Ok(only)
    }

    fn add(&mut self, place: Box<str>, held: Held) {
        for name in &held.certificate.names {
            self.by_name.insert(name.as_str().into(), Arc::clone(&held.key));
        }
        self.held.insert(place, held);
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

    /// What is shown: names and when they end.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Certificate> {
        self.held.values().map(|held| &held.certificate)
    }
}

impl Held {
    fn after(
        before: Option<&Held>,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Result<Self, ProofError> {
        match before {
            Some(before) if before.certificate == *certificate => Ok(before.clone()),
            Some(_) => {
                proof::prove(certificate, now)?;
                Ok(Held::read(certificate)?)
            }
            None => Ok(Held::read(certificate)?),
        }
    }

    fn read(certificate: &Certificate) -> Result<Self, BadCertificate> {
        let provider = aws_lc_rs::default_provider();
        let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())?;
        let key = CertifiedKey::from_der(chain(certificate)?, key, &provider)?;
        Ok(Held { certificate: certificate.clone(), key: Arc::new(key) })
    }
}

/// What a renewed certificate has in common with the one before.
fn place(certificate: &Certificate) -> Box<str> {
    if certificate.id.is_empty() {
        let names: Vec<&str> = certificate.names.iter().map(|name| name.as_str()).collect();
        return names.join(" ").into();
    }
    certificate.id.as_str().into()
}

/// The certificates of a chain, leaf first; never none.
pub(crate) fn chain(
    certificate: &Certificate,
) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(BadCertificate::Empty) } else { Ok(chain) }
}

/// What control is told of `certificate`.
pub(crate) fn report(certificate: &Certificate, state: CertificateStanding) -> CertificateReport {
    let fingerprint = proof::fingerprint(certificate);
    CertificateReport { id: certificate.id.clone(), fingerprint, state }
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
