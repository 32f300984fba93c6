//! Is this chain what it should be?
//!
//! What a CA sent, or an operator brought, is read before anything depends on it: the key fits, the
//! names are covered, the dates hold, and each certificate is followed by the one that signed it.

use nigh_proto::{Digest, Timestamp, zone::DnsName};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::covers;

/// Certificates in a chain; real ones have two to four.
const CHAIN_MAX: usize = 10;
const NAMES_MAX: usize = 1000;

/// What a leaf says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub names: Vec<DnsName>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// BLAKE3 of its DER, as edges report it.
    pub fingerprint: Digest,
    pub serial: String,
    pub issuer: String,
}

/// Why a chain cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    #[error("the chain is not PEM with one to ten certificates, the site's first")]
    Chain,
    #[error("certificate {0} of the chain cannot be read")]
    Certificate(usize),
    #[error("the key is not a private key in PEM that nigh can use (PKCS #8, SEC 1 or PKCS #1)")]
    Key,
    #[error("the key does not belong to the certificate")]
    Mismatch,
    #[error("certificate {0} of the chain is not signed by the one after it; put them in order")]
    Order(usize),
    #[error("the certificate is not for {0}")]
    Name(DnsName),
    #[error("the certificate is valid from {0} only; check the clock of control")]
    Early(Timestamp),
    #[error("the certificate ended at {0}")]
    Late(Timestamp),
}

/// Reads a chain and its key, and checks that they belong together.
pub(crate) fn inspect(chain_pem: &str, key_pem: &str) -> Result<Leaf, BadChain> {
    let chain = chain(chain_pem)?;
    let leaf = leaf_of(&chain)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| BadChain::Key)?;
    let provider = aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(leaf),
        Err(rustls::Error::InconsistentKeys(_)) => Err(BadChain::Mismatch),
        Err(_) => Err(BadChain::Key),
    }
}

/// What the leaf of a chain that was checked before says.
pub(crate) fn leaf(chain_pem: &str) -> Result<Leaf, BadChain> {
    leaf_of(&chain(chain_pem)?)
}

/// The leaf itself.
pub(crate) fn leaf_der(chain_pem: &str) -> Result<CertificateDer<'static>, BadChain> {
    chain(chain_pem)?.into_iter().next().ok_or(BadChain::Chain)
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, BadChain> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).take(CHAIN_MAX + 1);
    let chain = read.collect::<Result<Vec<_>, _>>().map_err(|_| BadChain::Chain)?;
    if chain.is_empty() || chain.len() > CHAIN_MAX { Err(BadChain::Chain) } else { Ok(chain) }
}

fn leaf_of(chain: &[CertificateDer<'_>]) -> Result<Leaf, BadChain> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        let read = X509Certificate::from_der(der);
        parsed.push(read.map_err(|_| BadChain::Certificate(index + 1))?.1);
    }
    for (index, pair) in parsed.windows(2).enumerate() {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            return Err(BadChain::Order(index + 1));
        }
    }
    let leaf = &parsed[0];
    let names = leaf.subject_alternative_name().map_err(|_| BadChain::Certificate(1))?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => name.parse().ok(),
        _ => None,
    };
    let time = |time: &x509_parser::time::ASN1Time| {
        Timestamp::from_unix_ms(time.timestamp().saturating_mul(1000))
    };
    Ok(Leaf {
        names: names.filter_map(name).take(NAMES_MAX).collect(),
        not_before: time(&leaf.validity().not_before),
        not_after: time(&leaf.validity().not_after),
        fingerprint: Digest::of(&chain[0]),
        serial: leaf.raw_serial_as_string().chars().take(120).collect(),
        issuer: leaf.issuer().to_string().chars().take(200).collect(),
    })
}

impl Leaf {
    /// Whether it can serve all of `names` now.
    pub(crate) fn serves(&self, names: &[DnsName], now: Timestamp) -> Result<(), BadChain> {
        let is_covered = |host: &&DnsName| self.names.iter().any(|name| covers(name, host));
        if let Some(bare) = names.iter().find(|name| !is_covered(name)) {
            return Err(BadChain::Name(bare.clone()));
        }
        if self.not_before > now.plus_ms(5 * 60 * 1000) {
            return Err(BadChain::Early(self.not_before));
        }
        if self.not_after <= now { Err(BadChain::Late(self.not_after)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ca::Authority;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1_790_000_000_000)
    }

    /// A certificate, and the CA that signed it, PEM.
    fn made() -> (String, crate::ca::Issued) {
        let row = Authority::generate(1, None, now()).unwrap();
        let authority = Authority::open(&row).unwrap();
        let issued = authority.issue(&["*.nigh.test".to_owned(), "own.test".to_owned()], now());
        (row.certificate_pem, issued.unwrap())
    }

    #[test]
    fn a_chain_that_fits_is_read() {
        let (ca_pem, issued) = made();
        let chain = format!("{}{}", issued.chain_pem, ca_pem);
        let leaf = inspect(&chain, &issued.key_pem).unwrap();
        assert_eq!(leaf.not_after.unix_ms() / 1000, issued.not_after.unix_ms() / 1000);
        let names = ["docs.nigh.test", "own.test"].map(|name| name.parse().unwrap());
        assert_eq!(leaf.serves(&names, now()), Ok(()));
        let bare: DnsName = "www.own.test".parse().unwrap();
        assert_eq!(leaf.serves(std::slice::from_ref(&bare), now()), Err(BadChain::Name(bare)));
        assert_eq!(leaf.serves(&names, leaf.not_after), Err(BadChain::Late(leaf.not_after)));
        let before = leaf.not_before.plus_ms(-600_000);
        assert_eq!(leaf.serves(&names, before), Err(BadChain::Early(leaf.not_before)));
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_its_reason() {
        let (ca_pem, issued) = made();
        let (_, other) = made();
        assert_eq!(inspect(&issued.chain_pem, &other.key_pem), Err(BadChain::Mismatch));
        assert_eq!(inspect(&issued.chain_pem, "no key"), Err(BadChain::Key));
        assert_eq!(inspect("", &issued.key_pem), Err(BadChain::Chain));
        let backwards = format!("{}{}", ca_pem, issued.chain_pem);
        assert_eq!(inspect(&backwards, &issued.key_pem), Err(BadChain::Order(1)));
        let many = issued.chain_pem.repeat(11);
        assert_eq!(inspect(&many, &issued.key_pem), Err(BadChain::Chain));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(index in 0usize..600, byte in any::<u8>(), text in ".{0,100}") {
            let (_, issued) = made();
            let mut damaged = issued.chain_pem.clone().into_bytes();
            let at = index % damaged.len();
            damaged[at] = byte;
            let _ = inspect(&String::from_utf8_lossy(&damaged), &issued.key_pem);
            let _ = inspect(&text, &text);
        }
    }
}
