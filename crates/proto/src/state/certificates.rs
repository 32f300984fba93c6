//! What does a machine need to prove that it is a site's host: to visitors, and to the authority
//! that signs certificates?

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Host, Timestamp, zone::DnsName};

/// A certificate and its key. Never logged.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `site:docs`, `previews`: what it is for, the same after it was renewed.
    #[serde(default)]
    pub id: String,
    /// The names it is for; a name may begin with `*.`.
    pub names: Vec<DnsName>,
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// PKCS #8, PEM.
    pub key_pem: String,
    pub not_after: Timestamp,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("id", &self.id)
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A key that session tickets are sealed with (RFC 5077, RFC 8446 section 4.6.1), the same on all
/// edges: a visitor who comes back to another one resumes. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKey {
    /// 16 bytes in hex; tickets carry it in the clear.
    pub name: String,
    /// 32 bytes in hex.
    pub key: String,
    /// Tickets sealed with it are not taken later.
    pub not_after: Timestamp,
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey")
            .field("name", &self.name)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What an edge answers under `/.well-known/acme-challenge/` (RFC 8555, section 8.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpChallenge {
    pub host: Host,
    pub token: String,
    pub key_authorization: String,
}

/// A TXT record for as long as an authority looks for it (RFC 8555, section 8.4). A name may have
/// several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsChallenge {
    /// `_acme-challenge.docs.example`
    pub name: DnsName,
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_never_shown() {
        let certificate = Certificate {
            id: "site:docs".to_owned(),
            names: Vec::new(),
            chain_pem: "chain".to_owned(),
            key_pem: "secret".to_owned(),
            not_after: Timestamp::default(),
        };
        assert!(!format!("{certificate:?}").contains("secret"));
        let (name, key) = ("00ff".to_owned(), "secret".to_owned());
        let key = TicketKey { name, key, not_after: Timestamp::default() };
        assert!(!format!("{key:?}").contains("secret"));
    }

    #[test]
    fn a_certificate_without_an_id_is_read() {
        let old = r#"{"names":["a.test"],"chain_pem":"c","key_pem":"k","not_after":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(serde_json::from_str::<Certificate>(old).unwrap().id, "");
    }
}
