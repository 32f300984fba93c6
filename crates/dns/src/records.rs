//! What are a zone's records on the wire?

use nigh_proto::zone::{Caa, RecordData, Soa};

use crate::{name::Name, rr::kind};

/// All records of one owner and type (RFC 2181, section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSet {
    pub kind: u16,
    /// One for the whole set (RFC 2181, section 5.2).
    pub ttl_s: u32,
    /// Uncompressed, without duplicates, in the order in which they were given.
    pub rdata: Vec<Box<[u8]>>,
    /// Names that these records lead to (NS, MX, CNAME), beside their `rdata`.
    pub targets: Vec<Name>,
}

impl RecordSet {
    pub fn new(kind: u16, ttl_s: u32) -> Self {
        Self { kind, ttl_s, rdata: Vec::new(), targets: Vec::new() }
    }

    /// Adds a record; one that is there already changes nothing but the TTL, which is the lowest.
    pub fn add(&mut self, ttl_s: u32, rdata: Rdata) {
        self.ttl_s = self.ttl_s.min(ttl_s);
        if !self.rdata.iter().any(|known| **known == *rdata.bytes) {
            self.rdata.push(rdata.bytes.into());
            self.targets.extend(rdata.target);
        }
    }
}

/// The data of one record.
#[derive(Clone, Debug)]
pub struct Rdata {
    pub kind: u16,
    pub bytes: Vec<u8>,
    pub target: Option<Name>,
}

/// The record cannot be written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRdata {
    #[error("a text has at most 65,000 bytes")]
    TextTooLong,
    #[error("a CAA tag has 1 to 15 letters and digits (RFC 8659, section 4.1)")]
    CaaTag,
    #[error("a CAA value has at most 65,000 bytes")]
    CaaValueTooLong,
}

/// Longest text or value; the rest of 65,535 is for lengths of strings.
const TEXT_BYTES_MAX: usize = 65_000;
/// Longest CAA tag; longer ones are allowed by the format and used by nobody.
const CAA_TAG_BYTES_MAX: usize = 15;

impl TryFrom<&RecordData> for Rdata {
    type Error = InvalidRdata;

    fn try_from(data: &RecordData) -> Result<Self, InvalidRdata> {
        let plain = |kind, bytes: Vec<u8>| Rdata { kind, bytes, target: None };
        Ok(match data {
            RecordData::A(address) => plain(kind::A, address.octets().into()),
            RecordData::Aaaa(address) => plain(kind::AAAA, address.octets().into()),
            RecordData::Cname(target) => Rdata::leading_to(kind::CNAME, &[], target.into()),
            RecordData::Ns(target) => Rdata::leading_to(kind::NS, &[], target.into()),
            RecordData::Mx(mx) => {
                Rdata::leading_to(kind::MX, &mx.preference.to_be_bytes(), (&mx.exchange).into())
            }
            RecordData::Txt(text) => plain(kind::TXT, character_strings(text)?),
            RecordData::Caa(caa) => plain(kind::CAA, caa_bytes(caa)?),
        })
    }
}

impl Rdata {
    pub fn leading_to(kind: u16, before: &[u8], target: Name) -> Self {
        let bytes = [before, target.as_bytes()].concat();
        Rdata { kind, bytes, target: Some(target) }
    }

    /// RFC 1035, section 3.3.13.
    pub fn soa(soa: &Soa) -> Self {
        let mut bytes = Vec::from(Name::from(&soa.primary).as_bytes());
        bytes.extend_from_slice(Name::from(&soa.mailbox).as_bytes());
        for number in [soa.serial, soa.refresh_s, soa.retry_s, soa.expire_s, soa.negative_ttl_s] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Rdata { kind: kind::SOA, bytes, target: None }
    }
}

/// Strings of up to 255 bytes, at least one (RFC 1035, section 3.3.14).
fn character_strings(text: &str) -> Result<Vec<u8>, InvalidRdata> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(InvalidRdata::TextTooLong);
    }
    if text.is_empty() {
        return Ok(vec![0]);
    }
    let mut bytes = Vec::with_capacity(text.len() + text.len() / 255 + 1);
    for part in text.as_bytes().chunks(255) {
        bytes.push(part.len() as u8);
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// RFC 8659, section 4.1.
fn caa_bytes(caa: &Caa) -> Result<Vec<u8>, InvalidRdata> {
    let is_tag = (1..=CAA_TAG_BYTES_MAX).contains(&caa.tag.len())
        && caa.tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_tag {
        return Err(InvalidRdata::CaaTag);
    }
    if caa.value.len() > TEXT_BYTES_MAX {
        return Err(InvalidRdata::CaaValueTooLong);
    }
    let mut bytes = vec![caa.flags, caa.tag.len() as u8];
    bytes.extend_from_slice(caa.tag.as_bytes());
    bytes.extend_from_slice(caa.value.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_into_strings_of_255_bytes() {
        let rdata = Rdata::try_from(&RecordData::Txt("x".repeat(300))).unwrap();
        assert_eq!((rdata.bytes[0], rdata.bytes[256], rdata.bytes.len()), (255, 45, 302));
        assert_eq!(Rdata::try_from(&RecordData::Txt(String::new())).unwrap().bytes, [0]);
    }

    #[test]
    fn caa_is_byte_exact_rfc_8659_section_4_1() {
        let caa = Caa { flags: 128, tag: "issue".into(), value: "ca.test; a=b".into() };
        let rdata = Rdata::try_from(&RecordData::Caa(caa)).unwrap();
        assert_eq!(rdata.bytes, b"\x80\x05issueca.test; a=b");
        let caa = Caa { flags: 0, tag: String::new(), value: String::new() };
        assert_eq!(Rdata::try_from(&RecordData::Caa(caa)).unwrap_err(), InvalidRdata::CaaTag);
    }

    #[test]
    fn a_set_has_one_ttl_and_no_duplicates_rfc_2181_section_5() {
        let mut set = RecordSet::new(kind::A, u32::MAX);
        for ttl_s in [300, 60] {
            set.add(ttl_s, Rdata { kind: kind::A, bytes: vec![1, 2, 3, 4], target: None });
        }
        assert_eq!((set.ttl_s, set.rdata.len()), (60, 1));
    }
}
