//! Certificates of sites, as people see and bring them.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Digest, MachineName, Timestamp, zone::DnsName};

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateSource {
    /// Control's own CA.
    Internal,
    /// A public CA.
    Acme,
    /// An operator brought it.
    Import,
}

/// How far a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Edges serve with it.
    Served,
    /// It is new, and one edge tries it first.
    Proving,
    /// It is new, and an edge could not serve with it.
    Refused,
    /// A CA is being asked for it.
    Ordering,
    /// There is none, and its CA is not asked before `retry_at`.
    Waiting,
}

/// One certificate, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// `site:docs`, `wildcard:example.com`, `host:www.example.org`, `import:docs`: the same after it
    /// was renewed.
    pub id: String,
    #[schema(value_type = Vec<String>)]
    pub names: Vec<DnsName>,
    pub source: CertificateSource,
    pub state: CertificateState,
    /// The directory of the CA that it came from.
    pub ca: Option<String>,
    pub issuer: Option<String>,
    pub serial: Option<String>,
    /// BLAKE3 of its DER, as edges report it.
    #[schema(value_type = Option<String>)]
    pub fingerprint: Option<Digest>,
    #[schema(value_type = Option<String>)]
    pub not_before: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub not_after: Option<Timestamp>,
    /// When the next one is asked for.
    #[schema(value_type = Option<String>)]
    pub renew_at: Option<Timestamp>,
    /// Edges that serve with it, as they last said.
    #[schema(value_type = Vec<String>)]
    pub edges: Vec<MachineName>,
    /// Why it is not there, or not renewed.
    pub detail: Option<String>,
    #[schema(value_type = Option<String>)]
    pub retry_at: Option<Timestamp>,
}

/// `PUT /v1/sites/{site}/certificate`: a certificate that an operator has. Never logged.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// PEM: the site's certificate first, then those that it is signed with.
    pub chain_pem: String,
    /// PEM: PKCS #8, SEC 1 or PKCS #1.
    pub key_pem: String,
}

impl fmt::Debug for NewCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewCertificate")
    }
}

/// `POST /v1/certificates/{id}/revoke`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    #[serde(default)]
    pub reason: RevocationReason,
}

/// Why a certificate is revoked (RFC 5280, section 5.3.1), as far as CAs take it from subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    #[default]
    Unspecified,
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_brought_is_never_shown() {
        let new = NewCertificate { chain_pem: "chain".to_owned(), key_pem: "secret".to_owned() };
        assert!(!format!("{new:?}").contains("secret"));
    }
}
