//! Which records does a DNS server answer from?

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::names::{Host, text_serde};

/// An absolute domain name in lower case without the final dot.
///
/// Wider than [`Host`]: labels may hold underscores (`_acme-challenge`), and the first label may be
/// `*` (RFC 4592). Text escapes are not accepted: what needs them is no name that nigh serves.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Box<str>);

/// The text is not a domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a domain name")]
pub struct InvalidDnsName(String);

impl FromStr for DnsName {
    type Err = InvalidDnsName;

    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |(index, label): (usize, &str)| {
            (1..=63).contains(&label.len())
                && (label == "*" && index == 0
                    || label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
        };
        if name.len() <= 253 && name.split('.').enumerate().all(is_label) {
            Ok(DnsName(name.to_ascii_lowercase().into()))
        } else {
            Err(InvalidDnsName(text.chars().take(300).collect()))
        }
    }
}

text_serde!(DnsName);

impl From<Host> for DnsName {
    fn from(host: Host) -> Self {
        DnsName(host.as_str().into())
    }
}

impl DnsName {
    /// Whether this name is `zone` or lies below it.
    pub fn is_within(&self, zone: &DnsName) -> bool {
        self.0
            .strip_suffix(zone.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// One zone that nigh answers for with authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// The apex.
    #[schema(value_type = String)]
    pub name: DnsName,
    pub soa: Soa,
    /// The zone's own name servers, as its parent delegates to them.
    #[schema(value_type = Vec<String>)]
    pub name_servers: Vec<DnsName>,
    /// Everything else that is fixed. Hosts of sites are not listed: they are steered.
    pub records: Vec<Record>,
}

/// Start of authority (RFC 1035, section 3.3.13). Times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Soa {
    #[schema(value_type = String)]
    pub primary: DnsName,
    /// The mailbox as a name: `hostmaster.example.com`.
    #[schema(value_type = String)]
    pub mailbox: DnsName,
    pub serial: u32,
    pub refresh_s: u32,
    pub retry_s: u32,
    pub expire_s: u32,
    /// How long an absence may be remembered (RFC 2308, section 4).
    pub negative_ttl_s: u32,
}

/// One fixed record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Record {
    #[schema(value_type = String)]
    pub name: DnsName,
    pub ttl_s: u32,
    #[serde(flatten)]
    pub data: RecordData,
}

/// The types that nigh serves from its own records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "value", rename_all = "UPPERCASE")]
pub enum RecordData {
    #[schema(value_type = String)]
    A(Ipv4Addr),
    #[schema(value_type = String)]
    Aaaa(Ipv6Addr),
    #[schema(value_type = String)]
    Cname(DnsName),
    #[schema(value_type = String)]
    Ns(DnsName),
    /// One text of any length; it is cut into strings of 255 bytes on the wire.
    Txt(String),
    Mx(Mx),
    Caa(Caa),
}

/// Mail exchange (RFC 1035, section 3.3.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mx {
    pub preference: u16,
    #[schema(value_type = String)]
    pub exchange: DnsName,
}

/// Who may issue certificates (RFC 8659, section 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Caa {
    /// 128 marks the property critical.
    pub flags: u8,
    pub tag: String,
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_and_wildcards_are_domain_names() {
        for text in ["_acme-challenge.Example.test.", "*.example.test", "a"] {
            assert!(text.parse::<DnsName>().is_ok(), "{text}");
        }
        for text in ["", ".", "a.*.test", "a b", "a..b", "é.test"] {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_record_reads_as_an_operator_writes_it() {
        let record: Record = serde_json::from_str(
            r#"{"name":"nigh.test","ttl_s":300,"type":"MX","value":{"preference":10,"exchange":"mail.nigh.test"}}"#,
        )
        .unwrap();
        assert!(matches!(record.data, RecordData::Mx(Mx { preference: 10, .. })));
    }
}
