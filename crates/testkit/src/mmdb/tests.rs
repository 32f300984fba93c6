use std::net::IpAddr;

use maxminddb::{Reader, geoip2};
use proptest::prelude::*;

use super::*;

fn city(name: &str) -> Record {
    Record { city: name.to_owned(), ..Record::default() }
}

fn open(networks: &[(IpNet, Record)], size: RecordSize) -> Reader<Vec<u8>> {
    let reader = Reader::from_source(encode(networks, size, 1_700_000_000).unwrap()).unwrap();
    reader.verify().unwrap();
    reader
}

fn city_of(reader: &Reader<Vec<u8>>, ip: IpAddr) -> Option<String> {
    let city: geoip2::City = reader.lookup(ip).unwrap().decode().unwrap()?;
    city.city.names.english.map(str::to_owned)
}

#[test]
fn a_record_is_read_back_with_every_field() {
    let record = Record {
        city: "São Paulo".to_owned(),
        country_iso: "BR".to_owned(),
        continent: "SA".to_owned(),
        latitude: -23.5505,
        longitude: -46.6333,
        asn: Some(64_500),
        organization: "Example Telecom".to_owned(),
    };
    for size in [RecordSize::Bits24, RecordSize::Bits28] {
        let reader = open(&[("203.0.113.0/24".parse().unwrap(), record.clone())], size);
        let found = reader.lookup("203.0.113.77".parse().unwrap()).unwrap();
        assert_eq!(found.network().unwrap().to_string(), "203.0.113.0/24");
        let city: geoip2::City = found.decode().unwrap().unwrap();
        assert_eq!(city.city.names.english, Some("São Paulo"));
        assert_eq!((city.country.iso_code, city.continent.code), (Some("BR"), Some("SA")));
        let location = (city.location.latitude, city.location.longitude);
        assert_eq!(location, (Some(-23.5505), Some(-46.6333)));
        let asn: geoip2::Asn = found.decode().unwrap().unwrap();
        assert_eq!(asn.autonomous_system_number, Some(64_500));
        assert_eq!(asn.autonomous_system_organization, Some("Example Telecom"));
    }
}

#[test]
fn the_metadata_is_that_of_a_city_database() {
    let reader = open(&[("2001:db8::/32".parse().unwrap(), city("Berlin"))], RecordSize::Bits28);
    assert_eq!(reader.metadata().database_type, "GeoLite2-City");
    assert_eq!(reader.metadata().ip_version, 6);
    assert_eq!(reader.metadata().build_epoch, 1_700_000_000);
}

#[test]
fn a_network_within_another_wins_whatever_the_order() {
    let mut networks = vec![
        ("10.0.0.0/8".parse().unwrap(), city("wide")),
        ("10.1.2.3/32".parse().unwrap(), city("host")),
        ("10.1.0.0/16".parse().unwrap(), city("narrow")),
    ];
    for _ in 0..networks.len() {
        networks.rotate_left(1);
        let reader = open(&networks, RecordSize::Bits24);
        for (ip, name) in [
            ("10.9.9.9", "wide"),
            ("10.1.9.9", "narrow"),
            ("10.1.2.3", "host"),
            ("10.1.2.2", "narrow"),
        ] {
            assert_eq!(city_of(&reader, ip.parse().unwrap()).as_deref(), Some(name), "{ip}");
        }
        assert_eq!(city_of(&reader, "11.0.0.1".parse().unwrap()), None);
        assert_eq!(city_of(&reader, "2001:db8::1".parse().unwrap()), None);
    }
}

#[test]
fn a_network_listed_twice_is_refused_by_name() {
    let network: IpNet = "192.0.2.0/24".parse().unwrap();
    let same: IpNet = "192.0.2.9/24".parse().unwrap();
    let error =
        encode(&[(network, city("a")), (same, city("b"))], RecordSize::Bits28, 0).unwrap_err();
    assert!(error.to_string().contains("listed twice"), "{error}");
}

#[test]
fn equal_records_are_written_once() {
    let networks = |other: &str| {
        [
            ("192.0.2.0/24".parse().unwrap(), city("Berlin")),
            ("198.51.100.0/24".parse().unwrap(), city(other)),
        ]
    };
    let once = encode(&networks("Berlin"), RecordSize::Bits24, 0).unwrap();
    let twice = encode(&networks("Munich"), RecordSize::Bits24, 0).unwrap();
    assert!(once.len() + "Munich".len() < twice.len());
}

#[test]
fn a_database_is_replaced_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("city.mmdb");
    for name in ["old", "new"] {
        write(&path, &[("192.0.2.0/24".parse().unwrap(), city(name))], 0).unwrap();
        let reader = Reader::open_readfile(&path).unwrap();
        assert_eq!(city_of(&reader, "192.0.2.1".parse().unwrap()).as_deref(), Some(name));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

/// Few bits differ, so that networks often lie within one another.
fn network() -> impl Strategy<Value = IpNet> {
    let v4 =
        (0u32..16, 1u8..=32).prop_map(|(ip, len)| (IpAddr::from((ip << 28).to_be_bytes()), len));
    let v6 = (0u128..16, 96u8..=128).prop_map(|(ip, len)| {
        (IpAddr::from((0x2001_0db8u128 << 96 | ip << 16).to_be_bytes()), len)
    });
    prop_oneof![v4, v6].prop_map(|(ip, len)| IpNet::new(ip, len).unwrap().trunc())
}

proptest! {
    #[test]
    fn the_longest_prefix_wins_as_in_a_plain_list(
        networks in proptest::collection::btree_set(network(), 1..24),
        ip in network(),
    ) {
        let records: Vec<_> =
            networks.iter().map(|network| (*network, city(&network.to_string()))).collect();
        let expected = networks
            .iter()
            .filter(|network| network.contains(&ip.addr()))
            .max_by_key(|network| network.prefix_len())
            .map(ToString::to_string);
        let reader = open(&records, RecordSize::Bits28);
        prop_assert_eq!(city_of(&reader, ip.addr()), expected);
    }
}
