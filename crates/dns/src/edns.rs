//! What does the OPT record of a query ask for (RFC 6891), and for whom (RFC 7871)?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Option codes (IANA, "DNS EDNS0 Option Codes (OPT)").
pub(crate) mod option {
    pub(crate) const NSID: u16 = 3;
    pub(crate) const CLIENT_SUBNET: u16 = 8;
    pub(crate) const TCP_KEEPALIVE: u16 = 11;
    pub(crate) const EXTENDED_ERROR: u16 = 15;
}

/// A client's OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest UDP reply that the client takes, in bytes.
    pub payload_bytes: u16,
    pub version: u8,
    /// The DO bit (RFC 3225); it is copied to the reply.
    pub dnssec_ok: bool,
    pub subnet: Option<ClientSubnet>,
    /// Asked who answers (RFC 5001).
    pub wants_nsid: bool,
    /// Asked how long a TCP connection may idle (RFC 7828).
    pub wants_keepalive: bool,
}

/// Where the client of a resolver is (RFC 7871, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientSubnet {
    /// Zero beyond `source_len`.
    pub address: IpAddr,
    pub source_len: u8,
}

/// An OPT record or one of its options is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Edns {
    /// Reads the fixed fields and the options. Of a version that nigh does not know the options
    /// are not looked at: it may have changed them.
    pub(crate) fn read(class: u16, ttl: u32, options: &[u8]) -> Result<Self, Malformed> {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Edns {
            payload_bytes: class,
            version,
            dnssec_ok: flags & 0x80 != 0,
            subnet: None,
            wants_nsid: false,
            wants_keepalive: false,
        };
        if version == 0 {
            edns.read_options(options)?;
        }
        Ok(edns)
    }

    /// Options that nigh does not know are passed over (RFC 6891, section 6.1.2).
    fn read_options(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        while let Some((head, body)) = rest.split_first_chunk::<4>() {
            let [code_high, code_low, len_high, len_low] = *head;
            let len = usize::from(u16::from_be_bytes([len_high, len_low]));
            let (value, next) = body.split_at_checked(len).ok_or(Malformed)?;
            match u16::from_be_bytes([code_high, code_low]) {
                option::NSID => self.wants_nsid = true,
                option::TCP_KEEPALIVE => self.wants_keepalive = true,
                // Two of them would leave open for whom the answer is.
                option::CLIENT_SUBNET if self.subnet.is_some() => return Err(Malformed),
                option::CLIENT_SUBNET => self.subnet = Some(ClientSubnet::read(value)?),
                _ => {}
            }
            rest = next;
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

impl ClientSubnet {
    /// Checks everything that RFC 7871, section 7.1.2 and section 6 demand of a query.
    fn read(value: &[u8]) -> Result<Self, Malformed> {
        let (&[family_high, family_low, source_len, scope_len], bytes) =
            value.split_first_chunk::<4>().ok_or(Malformed)?;
        let address = match u16::from_be_bytes([family_high, family_low]) {
            1 => IpAddr::V4(Ipv4Addr::from(padded::<4>(bytes, source_len)?)),
            2 => IpAddr::V6(Ipv6Addr::from(padded::<16>(bytes, source_len)?)),
            _ => return Err(Malformed),
        };
        if scope_len == 0 { Ok(Self { address, source_len }) } else { Err(Malformed) }
    }

    /// The option's value in a reply: what was sent, with how far the answer holds.
    pub(crate) fn write(self, scope_len: u8, out: &mut Vec<u8>) {
        let len = usize::from(self.source_len.div_ceil(8));
        let family: u16 = if self.address.is_ipv4() { 1 } else { 2 };
        out.extend_from_slice(&family.to_be_bytes());
        out.extend_from_slice(&[self.source_len, scope_len]);
        match self.address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()[..len]),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()[..len]),
        }
    }
}

/// Exactly as many bytes as `prefix_len` needs, the unused bits zero, zeros to the right.
fn padded<const N: usize>(bytes: &[u8], prefix_len: u8) -> Result<[u8; N], Malformed> {
    let needed = usize::from(prefix_len.div_ceil(8));
    let mut address = [0; N];
    if bytes.len() != needed || needed > N {
        return Err(Malformed);
    }
    address[..needed].copy_from_slice(bytes);
    let unused_bits = needed * 8 - usize::from(prefix_len);
    match bytes.last() {
        Some(last) if last.trailing_zeros() < unused_bits as u32 => Err(Malformed),
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_subnets_follow_rfc_7871_section_6() {
        // Family, source, scope and address of a query, and whether it is taken.
        for (value, is_taken) in [
            (&[0, 1, 24, 0, 192, 0, 2][..], true),
            (&[0, 1, 0, 0], true),
            (&[0, 1, 20, 0, 192, 0, 0x20], true),
            (&[0, 1, 32, 0, 192, 0, 2, 1], true),
            (&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0], true),
            (&[0, 0, 0, 0], false),
            (&[0, 3, 8, 0, 1], false),
            (&[0, 1, 33, 0, 1, 2, 3, 4, 0], false),
            (&[0, 1, 24, 0, 192, 0], false),
            (&[0, 1, 24, 0, 192, 0, 2, 1], false),
            (&[0, 1, 20, 0, 192, 0, 0x28], false),
            (&[0, 1, 24, 8, 192, 0, 2], false),
            (&[0, 1, 24], false),
            (&[], false),
        ] {
            assert_eq!(ClientSubnet::read(value).is_ok(), is_taken, "{value:?}");
        }
    }

    #[test]
    fn a_subnet_is_written_back_with_its_scope() {
        let asked = [0, 1, 20, 0, 192, 0, 0x20];
        let mut out = Vec::new();
        ClientSubnet::read(&asked).unwrap().write(16, &mut out);
        assert_eq!(out, [0, 1, 20, 16, 192, 0, 0x20]);
    }

    #[test]
    fn an_option_that_runs_past_the_end_is_malformed() {
        assert_eq!(Edns::read(1232, 0, &[0, 3, 0, 1]), Err(Malformed));
        assert_eq!(Edns::read(1232, 0, &[0, 3, 0]), Err(Malformed));
        assert!(Edns::read(1232, 0, &[0xff, 0, 0, 1, 9]).is_ok());
    }

    #[test]
    fn options_of_another_version_are_not_looked_at() {
        let edns = Edns::read(1232, 0x0001_0000, &[0, 8, 0, 1, 9]).unwrap();
        assert_eq!((edns.version, edns.subnet), (1, None));
    }
}
