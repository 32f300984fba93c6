//! Where on earth are the test networks?
//!
//! The demo and the fleet tests run on one machine, so clients pretend to be elsewhere: each city
//! has an IPv4 and an IPv6 network out of those that are set aside for documentation (RFC 5737,
//! RFC 3849) and for benchmarks (RFC 2544) and can therefore belong to no real visitor.

use std::path::Path;

use anyhow::Context;

use crate::mmdb::{self, Record};

/// A city and the networks that stand for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixtureCity {
    pub name: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// As MaxMind writes it: AF, AS, EU, NA, OC, SA.
    pub continent: &'static str,
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    pub ipv4: &'static str,
    pub ipv6: &'static str,
}

/// The databases that the fixture makes were all built at this time, 2026-01-01.
const BUILD_UNIX_S: u64 = 1_767_225_600;

/// The first of the numbers for documentation (RFC 5398); each city is a system of its own.
const FIRST_ASN: u32 = 64_496;

/// Every city of the fixture.
pub const CITIES: &[FixtureCity] = &[
    city("Berlin", "DE", "EU", (52.52, 13.405), "198.51.100.0/24", "2001:db8:1::/48"),
    city("Frankfurt", "DE", "EU", (50.1109, 8.6821), "198.18.1.0/24", "2001:db8:2::/48"),
    city("London", "GB", "EU", (51.5074, -0.1278), "198.18.2.0/24", "2001:db8:3::/48"),
    city("Paris", "FR", "EU", (48.8566, 2.3522), "198.18.3.0/24", "2001:db8:4::/48"),
    city("New York", "US", "NA", (40.7128, -74.006), "192.0.2.0/24", "2001:db8:5::/48"),
    city("San Francisco", "US", "NA", (37.7749, -122.4194), "198.18.4.0/24", "2001:db8:6::/48"),
    city("São Paulo", "BR", "SA", (-23.5505, -46.6333), "198.18.5.0/24", "2001:db8:7::/48"),
    city("Tokyo", "JP", "AS", (35.6762, 139.6503), "203.0.113.0/24", "2001:db8:8::/48"),
    city("Singapore", "SG", "AS", (1.3521, 103.8198), "198.18.6.0/24", "2001:db8:9::/48"),
    city("Sydney", "AU", "OC", (-33.8688, 151.2093), "198.18.7.0/24", "2001:db8:a::/48"),
    city("Johannesburg", "ZA", "AF", (-26.2041, 28.0473), "198.18.8.0/24", "2001:db8:b::/48"),
    city("Mumbai", "IN", "AS", (19.076, 72.8777), "198.18.9.0/24", "2001:db8:c::/48"),
];

const fn city(
    name: &'static str,
    country: &'static str,
    continent: &'static str,
    (latitude, longitude): (f64, f64),
    ipv4: &'static str,
    ipv6: &'static str,
) -> FixtureCity {
    FixtureCity { name, country, continent, latitude, longitude, ipv4, ipv6 }
}

/// The city called `name`.
pub fn find(name: &str) -> Option<&'static FixtureCity> {
    CITIES.iter().find(|city| city.name == name)
}

/// Writes a GeoIP database with every city to `path`, replacing what is there in one step.
pub fn write_mmdb(path: &Path) -> anyhow::Result<()> {
    let mut networks = Vec::new();
    for (city, asn) in CITIES.iter().zip(FIRST_ASN..) {
        let record = Record {
            city: city.name.to_owned(),
            country_iso: city.country.to_owned(),
            continent: city.continent.to_owned(),
            latitude: city.latitude,
            longitude: city.longitude,
            asn: Some(asn),
            organization: format!("{} Example Network", city.name),
        };
        for network in [city.ipv4, city.ipv6] {
            let network = network.parse().with_context(|| format!("{network} of {}", city.name))?;
            networks.push((network, record.clone()));
        }
    }
    mmdb::write(path, &networks, BUILD_UNIX_S)
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use maxminddb::{Reader, geoip2};

    use super::*;

    #[test]
    fn every_city_is_found_by_an_address_of_each_of_its_networks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fixture.mmdb");
        write_mmdb(&path).unwrap();
        let reader = Reader::open_readfile(&path).unwrap();
        reader.verify().unwrap();
        for city in CITIES {
            for network in [city.ipv4, city.ipv6] {
                let network: IpNet = network.parse().unwrap();
                for ip in [network.network(), network.broadcast()] {
                    let found: geoip2::City = reader.lookup(ip).unwrap().decode().unwrap().unwrap();
                    assert_eq!(found.city.names.english, Some(city.name), "{ip}");
                    assert_eq!(found.country.iso_code, Some(city.country), "{ip}");
                    assert_eq!(found.location.latitude, Some(city.latitude), "{ip}");
                    assert_eq!(found.location.longitude, Some(city.longitude), "{ip}");
                }
            }
        }
        assert!(!reader.lookup("127.0.0.1".parse().unwrap()).unwrap().has_data());
    }

    #[test]
    fn networks_are_test_networks_and_none_holds_another() {
        let reserved: Vec<IpNet> =
            ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"]
                .map(|network| network.parse().unwrap())
                .to_vec();
        let networks: Vec<IpNet> = CITIES
            .iter()
            .flat_map(|city| [city.ipv4, city.ipv6])
            .map(|network| network.parse().unwrap())
            .collect();
        for (index, network) in networks.iter().enumerate() {
            assert!(reserved.iter().any(|reserved| reserved.contains(network)), "{network}");
            for other in &networks[index + 1..] {
                assert!(!network.contains(other) && !other.contains(network), "{network} {other}");
            }
        }
    }

    #[test]
    fn the_cities_of_the_documentation_have_the_networks_of_the_documentation() {
        assert_eq!(find("Berlin").unwrap().ipv4, "198.51.100.0/24");
        assert_eq!(find("Tokyo").unwrap().ipv4, "203.0.113.0/24");
        assert_eq!(find("New York").unwrap().ipv4, "192.0.2.0/24");
        assert_eq!(find("Atlantis"), None);
    }
}
