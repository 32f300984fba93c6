//! Which machine does a client certificate name?
//!
//! CN is the machine's name, O its role and OU the id of its join. The id makes every earlier
//! certificate of the same name void.

use nigh_proto::{MachineId, MachineName, Timestamp, report::MachineRole};
use rcgen::{DistinguishedName, DnType};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A machine, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub name: MachineName,
    pub role: MachineRole,
    pub id: MachineId,
}

/// A certificate that a machine has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    pub identity: Identity,
    /// The name of the CA that signed it.
    pub issuer: String,
    pub not_after: Timestamp,
}

impl Presented {
    /// Reads a certificate (DER) that was verified against control's CAs. `None` for one that was
    /// not issued to a machine.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let issuer = certificate.issuer().iter_common_name().next()?.as_str().ok()?.to_owned();
        let not_after = not_after(&certificate);
        Some(Self { identity: Identity::of(&certificate)?, issuer, not_after })
    }
}

pub(super) fn not_after(certificate: &X509Certificate<'_>) -> Timestamp {
    let end_s = certificate.validity().not_after.timestamp();
    Timestamp::from_unix_ms(end_s.saturating_mul(1000))
}

impl Identity {
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let role = subject.iter_organization().next()?.as_str().ok()?;
        let id = subject.iter_organizational_unit().next()?.as_str().ok()?;
        Some(Self {
            name: name.parse().ok()?,
            role: [MachineRole::Edge, MachineRole::Dns]
                .into_iter()
                .find(|known| known.label() == role)?,
            id: id.parse().ok()?,
        })
    }

    pub(super) fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, self.name.as_str());
        name.push(DnType::OrganizationName, self.role.label());
        name.push(DnType::OrganizationalUnitName, self.id.as_str());
        name
    }
}
