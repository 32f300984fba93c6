//! How does a machine prove who it is to another one, and believe who the other is?
//!
//! Both show the certificates that control gave them. Whether the other is still one of the fleet is
//! for who has the state to say.

use std::{fmt, sync::Arc};

use nigh_proto::{MachineId, MachineName, report::MachineRole};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a machine shows to others, and whom it believes.
pub struct Credentials {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Control's CA alone.
    pub roots: Arc<RootCertStore>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.write_str("Credentials")
    }
}

/// A machine, as its certificate says: CN is its name, O its role, OU the id of its join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: MachineName,
    pub role: MachineRole,
    pub id: MachineId,
}

impl Member {
    /// Reads a certificate (DER) that was verified against control's CA. `None` for one that is not
    /// a machine's.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let role = subject.iter_organization().next()?.as_str().ok()?;
        let id = subject.iter_organizational_unit().next()?.as_str().ok()?;
        let roles = [MachineRole::Edge, MachineRole::Dns];
        Some(Member {
            name: name.parse().ok()?,
            role: roles.into_iter().find(|known| known.label() == role)?,
            id: id.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(fields: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in fields {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn only_machines_are_members() {
        let id = MachineId::new(1, [1; 10]);
        let id = id.as_str();
        let (cn, o, ou) =
            (DnType::CommonName, DnType::OrganizationName, DnType::OrganizationalUnitName);
        let of =
            |role: &str| certificate(&[(cn.clone(), "fra1"), (o.clone(), role), (ou.clone(), id)]);
        let edge = Member::of(&of("edge")).unwrap();
        assert_eq!(
            (edge.name.as_str(), edge.role, edge.id.as_str()),
            ("fra1", MachineRole::Edge, id)
        );
        assert_eq!(Member::of(&of("control")), None);
        assert_eq!(Member::of(&certificate(&[(cn.clone(), "fra1")])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_member(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(Member::of(&bytes), None);
        }
    }
}
