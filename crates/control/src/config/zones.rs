//! How does an operator write a DNS zone, and what does it mean?
//!
//! Names are relative to the zone unless they end in a dot; `@` is the zone itself.

use nigh_proto::zone::{DnsName, Record, RecordData, Soa, Zone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::InvalidConfig;

/// One `[[zones]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// The apex, such as `example.com`.
    pub name: DnsName,
    /// The zone's name servers, as its parent delegates to them.
    #[serde(default)]
    pub name_servers: Vec<String>,
    /// The name server that the SOA record names; the first one unless told otherwise.
    #[serde(default)]
    pub primary: Option<String>,
    /// Who answers for the zone, as a name; `hostmaster` in the zone unless told otherwise.
    #[serde(default)]
    pub mailbox: Option<String>,
    #[serde(default)]
    pub records: Vec<RecordConfig>,
}

/// One fixed record of a zone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecordConfig {
    pub name: String,
    /// Seconds; five minutes unless told otherwise.
    #[serde(default = "default_ttl_s")]
    pub ttl_s: u32,
    /// `A`, `AAAA`, `CNAME`, `NS`, `TXT`, `MX` or `CAA`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A text; for `MX` and `CAA` a table of their fields.
    pub value: Value,
}

const fn default_ttl_s() -> u32 {
    300
}

impl ZoneConfig {
    /// The zone in the fleet's words, with `serial` in its SOA record.
    pub fn resolve(&self, serial: u32) -> Result<Zone, InvalidConfig> {
        let invalid = |reason: String| InvalidConfig::Zone { zone: self.name.to_string(), reason };
        let absolute = |text: &str| absolute(text, &self.name).map_err(&invalid);
        let name_servers: Vec<DnsName> =
            self.name_servers.iter().map(|name| absolute(name)).collect::<Result<_, _>>()?;
        let primary = match (&self.primary, name_servers.first()) {
            (Some(primary), _) => absolute(primary)?,
            (None, Some(first)) => first.clone(),
            (None, None) => self.name.clone(),
        };
        let mailbox = absolute(self.mailbox.as_deref().unwrap_or("hostmaster"))?;
        let records = self
            .records
            .iter()
            .map(|record| {
                let name = absolute(&record.name)?;
                if !name.is_within(&self.name) {
                    return Err(invalid(format!("the record {name} is not within the zone")));
                }
                let data = record.data(&self.name).map_err(&invalid)?;
                Ok(Record { name, ttl_s: record.ttl_s, data })
            })
            .collect::<Result<_, _>>()?;
        let soa = Soa {
            primary,
            mailbox,
            serial,
            refresh_s: 3600,
            retry_s: 600,
            expire_s: 14 * 24 * 3600,
            negative_ttl_s: 60,
        };
        Ok(Zone { name: self.name.clone(), soa, name_servers, records })
    }
}

/// A zone as an operator would write it.
impl From<&Zone> for ZoneConfig {
    fn from(zone: &Zone) -> Self {
        let whole = |name: &DnsName| format!("{name}.");
        Self {
            name: zone.name.clone(),
            name_servers: zone.name_servers.iter().map(whole).collect(),
            primary: Some(whole(&zone.soa.primary)),
            mailbox: Some(whole(&zone.soa.mailbox)),
            records: zone.records.iter().map(RecordConfig::from).collect(),
        }
    }
}

impl From<&Record> for RecordConfig {
    fn from(record: &Record) -> Self {
        let Record { name, ttl_s, data } = record;
        let told = serde_json::to_value(data).unwrap_or_default();
        let mut value = told["value"].clone();
        let target = match data {
            RecordData::Cname(_) | RecordData::Ns(_) => Some(&mut value),
            RecordData::Mx(_) => value.get_mut("exchange"),
            RecordData::A(_) | RecordData::Aaaa(_) | RecordData::Txt(_) | RecordData::Caa(_) => {
                None
            }
        };
        if let Some(Value::String(name)) = target {
            name.push('.');
        }
        let kind = told["type"].as_str().unwrap_or_default().to_owned();
        Self { name: format!("{name}."), ttl_s: *ttl_s, kind, value }
    }
}

impl RecordConfig {
    fn data(&self, zone: &DnsName) -> Result<RecordData, String> {
        let kind = self.kind.to_ascii_uppercase();
        let mut value = self.value.clone();
        let target = match kind.as_str() {
            "CNAME" | "NS" => Some(&mut value),
            "MX" => value.get_mut("exchange"),
            _ => None,
        };
        if let Some(Value::String(name)) = target {
            *name = absolute(name, zone)?.to_string();
        }
        serde_json::from_value(serde_json::json!({ "type": kind, "value": value }))
            .map_err(|error| format!("the record {} {}: {error}", self.name, self.kind))
    }
}

/// The whole name that `text` stands for in `zone`.
fn absolute(text: &str, zone: &DnsName) -> Result<DnsName, String> {
    let whole = match text.strip_suffix('.') {
        Some(absolute) => absolute.to_owned(),
        None if text == "@" || text.is_empty() => zone.to_string(),
        None => format!("{text}.{zone}"),
    };
    whole.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use nigh_proto::zone::Mx;

    use super::*;

    fn zone(records: &str) -> Result<Zone, InvalidConfig> {
        let text = format!(
            r#"{{"name": "nigh.test", "name_servers": ["ns1", "ns.other.test."], "records": [{records}]}}"#
        );
        serde_json::from_str::<ZoneConfig>(&text).unwrap().resolve(7)
    }

    #[test]
    fn names_are_relative_unless_they_end_in_a_dot() {
        let zone = zone(
            r#"{"name": "@", "type": "MX", "value": {"preference": 10, "exchange": "mail"}},
               {"name": "www", "type": "cname", "value": "docs.nigh.test.", "ttl_s": 60}"#,
        )
        .unwrap();
        assert_eq!(zone.name_servers[1], "ns.other.test".parse().unwrap());
        assert_eq!(zone.soa.primary, "ns1.nigh.test".parse().unwrap());
        let exchange = "mail.nigh.test".parse().unwrap();
        assert_eq!(zone.records[0].data, RecordData::Mx(Mx { preference: 10, exchange }));
        assert_eq!(zone.records[1].name, "www.nigh.test".parse().unwrap());
        assert_eq!(zone.records[1].data, RecordData::Cname("docs.nigh.test".parse().unwrap()));
    }

    #[test]
    fn a_zone_that_was_told_is_written_as_an_operator_would() {
        let zone = zone(
            r#"{"name": "@", "type": "MX", "value": {"preference": 10, "exchange": "mail"}},
               {"name": "@", "type": "CAA", "value": {"flags": 0, "tag": "issue", "value": "ca.test"}},
               {"name": "txt", "type": "TXT", "value": "a text."},
               {"name": "a", "type": "A", "value": "192.0.2.1"},
               {"name": "a", "type": "AAAA", "value": "2001:db8::1"},
               {"name": "sub", "type": "NS", "value": "ns.other.test."},
               {"name": "www", "type": "CNAME", "value": "docs.nigh.test.", "ttl_s": 60}"#,
        )
        .unwrap();
        let written = serde_json::to_string(&ZoneConfig::from(&zone)).unwrap();
        let read: ZoneConfig = serde_json::from_str(&written).unwrap();
        assert_eq!(read.resolve(7).unwrap(), zone);
    }

    #[test]
    fn a_record_that_cannot_be_served_is_refused_with_its_zone() {
        for record in [
            r#"{"name": "a", "type": "A", "value": "not an address"}"#,
            r#"{"name": "a", "type": "SPF", "value": "x"}"#,
            r#"{"name": "other.test.", "type": "A", "value": "192.0.2.1"}"#,
            r#"{"name": "a b", "type": "A", "value": "192.0.2.1"}"#,
        ] {
            let error = zone(record).unwrap_err();
            assert!(error.to_string().contains("nigh.test"), "{error}");
        }
    }
}
