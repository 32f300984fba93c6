//! Who vouches for control, its machines and, in mode `internal`, its sites?
//!
//! Control's own small CA: one ECDSA P-256 key that never leaves the database. Issuing is a
//! function of names, a key and the time; when to issue again is decided by [`is_due`].

mod identity;
mod tls;

use std::time::Duration;

use nigh_proto::{MachineId, MachineName, Timestamp, report::MachineRole};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::store::AuthorityRow;

pub(crate) use identity::Identity;
pub(crate) use tls::{Keys, TlsError, api_config, machine_config};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How long a site's, or control's own, certificate is valid.
pub(crate) const LEAF_MS: i64 = 90 * DAY_MS;
/// How long a machine's certificate is valid.
const MACHINE_MS: i64 = 365 * DAY_MS;
const AUTHORITY_MS: i64 = 3650 * DAY_MS;
/// Certificates begin this much in the past, for clocks that are behind.
const SLACK_MS: i64 = HOUR_MS;

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("control's CA in the database cannot be read")]
    Authority(#[source] rcgen::Error),
    #[error("a certificate for {names} cannot be made")]
    Issue { names: String, source: rcgen::Error },
    #[error("the certificate request is not a valid PKCS #10 request in PEM")]
    Request(#[source] rcgen::Error),
}

/// Control's CA, ready to sign.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
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
    /// A new CA, as the database keeps it.
    pub(crate) fn generate(now: Timestamp) -> Result<AuthorityRow, CaError> {
        let issue = |source| CaError::Issue { names: "control's CA".to_owned(), source };
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("nigh control CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now.plus_ms(-SLACK_MS), now.plus_ms(AUTHORITY_MS));
        let certificate = params.self_signed(&key).map_err(issue)?;
        Ok(AuthorityRow { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    pub(crate) fn open(row: &AuthorityRow) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(&row.key_pem).map_err(CaError::Authority)?;
        let issuer =
            Issuer::from_ca_cert_pem(&row.certificate_pem, key).map_err(CaError::Authority)?;
        Ok(Self { issuer, certificate_pem: row.certificate_pem.clone() })
    }

    /// The CA's certificate, which clients and machines trust.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
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
    /// machine is, its join token has said.
    pub(crate) fn sign_machine(
        &self,
        csr_pem: &str,
        machine: &Identity,
        now: Timestamp,
    ) -> Result<String, CaError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = machine.distinguished_name();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now.plus_ms(-SLACK_MS), now.plus_ms(MACHINE_MS));
        request.params = params;
        let certificate = request
            .signed_by(&self.issuer)
            .map_err(|source| CaError::Issue { names: machine.name.to_string(), source })?;
        Ok(certificate.pem())
    }
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

    #[test]
    fn a_machine_is_who_its_certificate_says_and_not_who_its_request_says() {
        let authority = Authority::open(&Authority::generate(now()).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named("control");
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let machine =
            identity("fra1".parse().unwrap(), MachineRole::Edge, MachineId::new(1, [1; 10]));
        let pem = authority.sign_machine(&csr, &machine, now()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        assert_eq!(Identity::of(&pem.contents), Some(machine));
    }

    #[test]
    fn garbage_is_no_certificate_request() {
        let authority = Authority::open(&Authority::generate(now()).unwrap()).unwrap();
        let machine = identity("a".parse().unwrap(), MachineRole::Dns, MachineId::new(1, [1; 10]));
        for text in ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "x"] {
            let refused = authority.sign_machine(text, &machine, now());
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
