//! Who vouches for control, its machines and, in mode `internal`, its sites?
//!
//! Control's own small CA: one ECDSA P-256 key that never leaves the database. Issuing is a
//! function of names, a key and the time; when to issue again is decided by [`is_due`]. While the
//! CA is being rotated there are several: [`Authorities`].

mod authorities;
mod identity;
mod tls;

use std::time::Duration;

use nigh_proto::{
    Digest, MachineId, MachineName, Timestamp, api::AuthorityStage, report::MachineRole,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::store::AuthorityRow;

pub(crate) use authorities::Authorities;
pub(crate) use identity::{Identity, Presented};
pub(crate) use tls::{Port, TlsError, api_config, certified, machine_config};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How long a site's, or control's own, certificate is valid.
pub(crate) const LEAF_MS: i64 = 90 * DAY_MS;
const AUTHORITY_MS: i64 = 3650 * DAY_MS;
/// Certificates begin this much in the past, for clocks that are behind.
const SLACK_MS: i64 = HOUR_MS;
/// Before the number in the names of control's CAs.
const AUTHORITY_NAME: &str = "nigh control CA";

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("control's CA in the database cannot be read")]
    Authority(#[source] rcgen::Error),
    #[error("the database holds no current CA")]
    NoAuthority,
    #[error("a certificate of control's CA in the database cannot be read")]
    Damaged,
    #[error("a certificate for {names} cannot be made")]
    Issue { names: String, source: rcgen::Error },
    #[error("the certificate request is not a valid PKCS #10 request in PEM")]
    Request(#[source] rcgen::Error),
}

/// One of control's CAs, ready to sign.
#[derive(Debug)]
pub(crate) struct Authority {
    number: i64,
    issuer: Issuer<'static, KeyPair>,
}

/// What a machine gets.
#[derive(Debug)]
pub(crate) struct MachineCertificate {
    pub pem: String,
    /// The number of the CA that signed it.
    pub signer: i64,
    pub not_after: Timestamp,
}

/// A certificate with a new key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub chain_pem: String,
    pub key_pem: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new CA, as the database keeps it, signed by itself and by the one `before` it.
    pub(crate) fn generate(
        number: i64,
        before: Option<&Authority>,
        now: Timestamp,
    ) -> Result<AuthorityRow, CaError> {
        let issue = |source| CaError::Issue { names: "control's CA".to_owned(), source };
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("{AUTHORITY_NAME} {number}"));
        // No limit to the path: after rotations it goes over the CAs before.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now.plus_ms(-SLACK_MS), now.plus_ms(AUTHORITY_MS));
        let certificate = params.self_signed(&key).map_err(issue)?;
        params.use_authority_key_identifier_extension = true;
        let cross = before.map(|before| params.signed_by(&key, &before.issuer)).transpose();
        Ok(AuthorityRow {
            number,
            stage: if before.is_some() { AuthorityStage::Next } else { AuthorityStage::Current },
            since: now,
            certificate_pem: certificate.pem(),
            cross_pem: cross.map_err(issue)?.map(|cross| cross.pem()).unwrap_or_default(),
            key_pem: key.serialize_pem(),
        })
    }

    pub(crate) fn open(row: &AuthorityRow) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(&row.key_pem).map_err(CaError::Authority)?;
        let issuer =
            Issuer::from_ca_cert_pem(&row.certificate_pem, key).map_err(CaError::Authority)?;
        Ok(Self { number: row.number, issuer })
    }

    /// A server certificate for `names` (host names, wildcards or IP addresses).
    pub(crate) fn issue(&self, names: &[String], now: Timestamp) -> Result<Issued, CaError> {
        let issue = |source| CaError::Issue { names: names.join(", "), source };
        let (not_before, not_after) = (now.plus_ms(-SLACK_MS), now.plus_ms(LEAF_MS));
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = CertificateParams::new(names).map_err(issue)?;
        // The name of the first host, as far as RFC 5280's limit of 64 characters goes.
        let first = names.first().filter(|name| name.len() <= 64).map_or("nigh", String::as_str);
        params.distinguished_name = named(first);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, not_before, not_after);
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        let (chain_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        Ok(Issued { chain_pem, key_pem, not_before, not_after })
    }

    /// A client certificate for the key of a request. Of the request only the key counts: who the
    /// machine is, its join token or its certificate has said.
    pub(crate) fn sign_machine(
        &self,
        csr_pem: &str,
        machine: &Identity,
        lifetime_ms: u64,
        now: Timestamp,
    ) -> Result<MachineCertificate, CaError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        let lifetime_ms = i64::try_from(lifetime_ms).unwrap_or(i64::MAX).min(AUTHORITY_MS);
        let not_after = now.plus_ms(lifetime_ms);
        let mut params = CertificateParams::default();
        params.distinguished_name = machine.distinguished_name();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // What begins long before it is given has no two thirds to speak of.
        let not_before = now.plus_ms(-SLACK_MS.min(lifetime_ms / 10));
        set_validity(&mut params, not_before, not_after);
        request.params = params;
        let certificate = request
            .signed_by(&self.issuer)
            .map_err(|source| CaError::Issue { names: machine.name.to_string(), source })?;
        Ok(MachineCertificate { pem: certificate.pem(), signer: self.number, not_after })
    }
}

/// What names the key of a certificate request (BLAKE3 of its `SubjectPublicKeyInfo`), whose owner
/// has signed the request.
pub(crate) fn request_key(csr_pem: &str) -> Result<Digest, CaError> {
    let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
    Ok(Digest::of(&request.public_key.subject_public_key_info()))
}

/// BLAKE3 of the DER of the first certificate in `pem`.
pub(crate) fn fingerprint(pem: &str) -> Result<Digest, CaError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CaError::Damaged)?;
    Ok(Digest::of(&der))
}

/// The names of the first certificate in `pem` and of who signed it, and when it ends.
pub(crate) struct Read {
    pub subject: String,
    pub issuer: String,
    pub not_after: Timestamp,
}

pub(crate) fn read(pem: &str) -> Option<Read> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let name = |name: &x509_parser::x509::X509Name<'_>| {
        Some(name.iter_common_name().next()?.as_str().ok()?.to_owned())
    };
    Some(Read {
        subject: name(certificate.subject())?,
        issuer: name(certificate.issuer())?,
        not_after: identity::not_after(&certificate),
    })
}

/// Whether a site's certificate is of a CA of control's that is no longer the one that signs.
pub(crate) fn is_superseded(chain_pem: &str, authorities: &Authorities) -> bool {
    read(chain_pem).is_some_and(|leaf| {
        leaf.issuer.starts_with(AUTHORITY_NAME) && leaf.issuer != authorities.current_name()
    })
}

/// Whether a certificate is of a CA as control makes them, this one's or that of a control that is lost.
pub(crate) fn is_internal(chain_pem: &str) -> bool {
    read(chain_pem).is_some_and(|leaf| leaf.issuer.starts_with(AUTHORITY_NAME))
}

/// Whether a certificate should be replaced: two thirds of its life are over.
pub(crate) fn is_due(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    now.ms_since(not_before) >= not_after.ms_since(not_before) / 3 * 2
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: Timestamp| Duration::from_millis(time.unix_ms().max(0).unsigned_abs());
    params.not_before = epoch + since(not_before);
    params.not_after = epoch + since(not_after);
}

/// Which machine a certificate is for; see [`Identity`].
pub(crate) fn identity(name: MachineName, role: MachineRole, id: MachineId) -> Identity {
    Identity { name, role, id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1_790_000_000_000)
    }

    fn authority() -> Authority {
        Authority::open(&Authority::generate(1, None, now()).unwrap()).unwrap()
    }

    #[test]
    fn a_machine_is_who_its_certificate_says_and_not_who_its_request_says() {
        let authority = authority();
        let mut params = CertificateParams::default();
        params.distinguished_name = named("control");
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let machine =
            identity("fra1".parse().unwrap(), MachineRole::Edge, MachineId::new(1, [1; 10]));
        let made = authority.sign_machine(&csr, &machine, 30 * 86_400_000, now()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(made.pem.as_bytes()).unwrap();
        let presented = Presented::of(&pem.contents).unwrap();
        assert_eq!((presented.identity, presented.not_after), (machine, made.not_after));
        assert_eq!(presented.issuer, "nigh control CA 1");
    }

    #[test]
    fn garbage_is_no_certificate_request() {
        let authority = authority();
        let machine = identity("a".parse().unwrap(), MachineRole::Dns, MachineId::new(1, [1; 10]));
        for text in ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "x"] {
            let refused = authority.sign_machine(text, &machine, 1, now());
            assert!(matches!(refused, Err(CaError::Request(_))), "{text}");
        }
    }

    #[test]
    fn a_certificate_is_due_after_two_thirds_of_its_life() {
        let (start, end) = (now(), now().plus_ms(LEAF_MS));
        assert!(!is_due(start, end, start.plus_ms(59 * DAY_MS)));
        assert!(is_due(start, end, start.plus_ms(60 * DAY_MS)));
    }
}
