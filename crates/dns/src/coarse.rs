//! Roughly where is an address when no GeoIP file says more?
//!
//! On the continent of the registry that hands out its block. Source: IANA's "IPv4 Address Space
//! Registry" and "IPv6 Global Unicast Address Assignments". A region is one point
//! that suits most of its visitors; blocks held by companies and governments of the United States
//! since before the registries are counted as ARIN's, whose area most of them are in.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::IpNet;
use nigh_proto::state::Location;

use crate::networks::Networks;

/// A regional internet registry, as the place its area is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    Afrinic,
    Apnic,
    Arin,
    Lacnic,
    Ripe,
}

impl Registry {
    pub const fn label(self) -> &'static str {
        match self {
            Registry::Afrinic => "AFRINIC",
            Registry::Apnic => "APNIC",
            Registry::Arin => "ARIN",
            Registry::Lacnic => "LACNIC",
            Registry::Ripe => "RIPE NCC",
        }
    }

    /// Nairobi, Singapore, Kansas City, São Paulo, Frankfurt.
    pub const fn location(self) -> Location {
        let (latitude, longitude) = match self {
            Registry::Afrinic => (-1.3, 36.8),
            Registry::Apnic => (1.35, 103.8),
            Registry::Arin => (39.1, -94.6),
            Registry::Lacnic => (-23.55, -46.63),
            Registry::Ripe => (50.11, 8.68),
        };
        Location { latitude, longitude }
    }
}

/// First octets of IPv4 by registry. What is missing is reserved, private or multicast.
const V4: [(Registry, &[u8]); 5] = [
    (Registry::Afrinic, &[41, 102, 105, 154, 196, 197]),
    (
        Registry::Apnic,
        &[
            1, 14, 27, 36, 39, 42, 43, 49, 58, 59, 60, 61, 101, 103, 106, 110, 111, 112, 113, 114,
            115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 133, 150, 153, 163, 171,
            175, 180, 182, 183, 202, 203, 210, 211, 218, 219, 220, 221, 222, 223,
        ],
    ),
    (
        Registry::Arin,
        &[
            3, 4, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 29, 30,
            32, 33, 34, 35, 38, 40, 44, 45, 47, 48, 50, 52, 54, 55, 56, 63, 64, 65, 66, 67, 68, 69,
            70, 71, 72, 73, 74, 75, 76, 96, 97, 98, 99, 100, 104, 107, 108, 128, 129, 130, 131,
            132, 134, 135, 136, 137, 138, 139, 140, 142, 143, 144, 146, 147, 148, 149, 152, 155,
            156, 157, 158, 159, 160, 161, 162, 164, 165, 166, 167, 168, 169, 170, 172, 173, 174,
            184, 192, 198, 199, 204, 205, 206, 207, 208, 209, 214, 215, 216,
        ],
    ),
    (Registry::Lacnic, &[177, 179, 181, 186, 187, 189, 190, 191, 200, 201]),
    (
        Registry::Ripe,
        &[
            2, 5, 25, 31, 37, 46, 51, 53, 57, 62, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88,
            89, 90, 91, 92, 93, 94, 95, 109, 141, 145, 151, 176, 178, 185, 188, 193, 194, 195, 212,
            213, 217,
        ],
    ),
];

/// The large IPv6 blocks by registry: first 16 bits and prefix length.
const V6: [(Registry, u16, u8); 10] = [
    (Registry::Apnic, 0x2400, 12),
    (Registry::Arin, 0x2600, 12),
    (Registry::Arin, 0x2610, 23),
    (Registry::Arin, 0x2620, 23),
    (Registry::Arin, 0x2630, 12),
    (Registry::Lacnic, 0x2800, 12),
    (Registry::Ripe, 0x2a00, 12),
    (Registry::Ripe, 0x2a10, 12),
    (Registry::Afrinic, 0x2c00, 12),
    (Registry::Ripe, 0x2003, 18),
];

/// Parts of `2001::/16`: the second 16 bits, prefix length and registry.
const V6_2001: [(Registry, u16, u8); 23] = [
    (Registry::Apnic, 0x0200, 23),
    (Registry::Arin, 0x0400, 23),
    (Registry::Ripe, 0x0600, 23),
    (Registry::Ripe, 0x0800, 22),
    (Registry::Apnic, 0x0c00, 23),
    (Registry::Apnic, 0x0e00, 23),
    (Registry::Lacnic, 0x1200, 23),
    (Registry::Ripe, 0x1400, 22),
    (Registry::Arin, 0x1800, 23),
    (Registry::Ripe, 0x1a00, 23),
    (Registry::Ripe, 0x1c00, 22),
    (Registry::Ripe, 0x2000, 19),
    (Registry::Ripe, 0x4000, 23),
    (Registry::Afrinic, 0x4200, 23),
    (Registry::Apnic, 0x4400, 23),
    (Registry::Ripe, 0x4600, 23),
    (Registry::Arin, 0x4800, 23),
    (Registry::Ripe, 0x4a00, 23),
    (Registry::Ripe, 0x4c00, 23),
    (Registry::Ripe, 0x5000, 20),
    (Registry::Apnic, 0x8000, 19),
    (Registry::Apnic, 0xa000, 20),
    (Registry::Apnic, 0xb000, 20),
];

/// Networks within the table's blocks that no visitor comes from: loopback is not listed by any
/// registry; these are (RFC 6890).
const NOWHERE: [&str; 10] = [
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// The whole table; `None` where nobody is.
pub static TABLE: LazyLock<Networks<Option<Registry>>> = LazyLock::new(|| {
    let v4 = V4.iter().flat_map(|&(registry, octets)| {
        octets.iter().map(move |&octet| (IpAddr::V4(Ipv4Addr::new(octet, 0, 0, 0)), 8, registry))
    });
    let v6 = V6.iter().map(|&(registry, high, len)| (v6_address(high, 0), len, registry));
    let v6_2001 =
        V6_2001.iter().map(|&(registry, second, len)| (v6_address(0x2001, second), len, registry));
    let listed = v4.chain(v6).chain(v6_2001).map(|(address, len, registry)| {
        (IpNet::new(address, len).expect("lengths above fit their family"), Some(registry))
    });
    let nowhere = NOWHERE.iter().map(|network| (network.parse().expect("a network"), None));
    listed.chain(nowhere).collect()
});

fn v6_address(first: u16, second: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_the_continent_of_their_registry() {
        for (address, registry) in [
            ("8.8.8.8", Some(Registry::Arin)),
            ("193.0.6.139", Some(Registry::Ripe)),
            ("133.242.0.1", Some(Registry::Apnic)),
            ("200.160.2.3", Some(Registry::Lacnic)),
            ("196.216.2.1", Some(Registry::Afrinic)),
            ("2001:4860::1", Some(Registry::Arin)),
            ("2001:67c:2e8::1", Some(Registry::Ripe)),
            ("2a02:8100::1", Some(Registry::Ripe)),
            ("2400:cb00::1", Some(Registry::Apnic)),
            ("2600:1f00::1", Some(Registry::Arin)),
            ("2804:10::1", Some(Registry::Lacnic)),
            ("2c0f:f248::1", Some(Registry::Afrinic)),
            ("10.1.2.3", None),
            ("127.0.0.1", None),
            ("192.0.2.1", None),
            ("203.0.113.9", None),
            ("172.20.0.1", None),
            ("224.0.0.1", None),
            ("::1", None),
            ("fd00::1", None),
            ("2001:db8::1", None),
        ] {
            let found = TABLE.find(address.parse().unwrap()).entry;
            assert_eq!(found.and_then(|(_, registry)| *registry), registry, "{address}");
        }
    }

    #[test]
    fn no_first_octet_has_two_registries() {
        let mut octets: Vec<u8> =
            V4.iter().flat_map(|(_, octets)| octets.iter().copied()).collect();
        let count = octets.len();
        octets.sort_unstable();
        octets.dedup();
        assert_eq!(octets.len(), count);
    }
}
