//! Promises for every packet that anybody may send.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{
    fixture::{Asked, RESOLVER, ask, compile, snapshot, state},
    name::NAME_BYTES_MAX,
};

/// Compiled once: thousands of packets are answered from it.
static WORLD: LazyLock<Snapshot> = LazyLock::new(snapshot);

/// What holds whatever the packet.
fn check(packet: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let Some(reply) = answer(Some(&WORLD), packet, RESOLVER, transport) else {
        prop_assert!(packet.len() < 12 || packet[2] & 0x80 != 0, "only these are met with silence");
        return Ok(());
    };
    prop_assert!(packet.len() >= 12 && packet[2] & 0x80 == 0, "no reply to a reply");
    let bytes = reply.bytes;
    prop_assert_eq!(&bytes[..2], &packet[..2], "the id is that of the query");
    prop_assert_eq!(bytes[2] & 0xf8, 0x80 | packet[2] & 0x78, "a reply of the same opcode");
    prop_assert_eq!(
        (bytes[2] & 1, bytes[3] & 0xe0),
        (packet[2] & 1, 0),
        "RD copied, RA Z AD clear"
    );
    let edns = Query::read(packet).ok().and_then(|query| query.edns);
    prop_assert!(bytes.len() <= reply::bytes_max(edns.as_ref(), transport == Transport::Udp));
    prop_assert!(hickory_proto::op::Message::from_vec(&bytes).is_ok(), "another reader agrees");
    Ok(())
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp { idle_100ms: 100 })]
}

/// A query that makes sense, for damaging.
fn sensible() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "docs.nigh.test",
        "nigh.test",
        "absent.nigh.test",
        "x.cut.nigh.test",
        "big.nigh.test",
        "loop.nigh.test",
        "a.b.wild.nigh.test",
        "other.test",
        "chain0.nigh.test",
    ]);
    let kinds = prop::sample::select(vec![1u16, 2, 5, 6, 15, 16, 28, 41, 43, 65, 252, 255, 257]);
    let subnets = prop::sample::select(vec!["0.0.0.0/0", "192.0.2.0/25", "2001:db8:3::/48"]);
    (names, kinds, prop::option::of(subnets), any::<u16>()).prop_map(
        |(name, kind, subnet, payload)| {
            let asked = Asked { payload, ..Asked::new(name, kind) };
            subnet.map_or_else(|| asked.clone(), |subnet| asked.clone().subnet(subnet)).packet()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_get_a_bounded_reply_or_none(
        packet in prop::collection::vec(any::<u8>(), 0..600),
        transport in transport(),
    ) {
        check(&packet, transport)?;
    }

    #[test]
    fn any_bytes_after_a_sound_header_get_a_bounded_reply(
        body in prop::collection::vec(any::<u8>(), 0..300),
        additionals in 0u8..3,
    ) {
        let packet = [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, additionals], &body[..]].concat();
        check(&packet, Transport::Udp)?;
    }

    #[test]
    fn a_damaged_query_gets_a_bounded_reply_or_none(
        mut packet in sensible(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        transport in transport(),
    ) {
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()));
        }
        check(&packet, transport)?;
    }

    #[test]
    fn the_longest_names_are_answered(labels in prop::collection::vec(1usize..=63, 1..130)) {
        let mut name = Vec::new();
        for label in labels {
            if name.len() + label + 2 <= NAME_BYTES_MAX - b"\x04nigh\x04test\0".len() {
                name.push(label as u8);
                name.extend(std::iter::repeat_n(b'a', label));
            }
        }
        let tail = b"\x04nigh\x04test\0\0\x01\0\x01";
        let packet = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &name[..], tail].concat();
        check(&packet, Transport::Udp)?;
    }
}

/// A network out of few, so that they nest and neighbour each other.
fn network() -> impl Strategy<Value = (String, u8)> {
    (0u32..16, 0u32..16, 1u8..=32, 0u8..3).prop_map(|(high, low, len, edge)| {
        let address = std::net::Ipv4Addr::from_bits(10 << 24 | high << 20 | low << 8);
        let network = ipnet::Ipv4Net::new(address, len).expect("at most 32").trunc();
        (network.to_string(), edge)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_address_within_a_scope_gets_the_same_answer(
        networks in prop::collection::vec(network(), 0..10),
        client: u32,
        others in prop::collection::vec(any::<u32>(), 1..20),
        is_inside_ten: bool,
    ) {
        let mut state = state();
        state.networks = networks.into_iter().map(|(network, edge)| nigh_proto::state::OperatorNetwork {
            network: network.parse().unwrap(),
            target: nigh_proto::state::NetworkTarget::Edge(
                ["fra", "nyc", "sin"][usize::from(edge)].parse().unwrap(),
            ),
        }).collect();
        let snapshot = compile(&state);
        let client = if is_inside_ten { 10 << 24 | client >> 8 } else { client };
        let answers = |address: u32| {
            let subnet = format!("{}/32", std::net::Ipv4Addr::from_bits(address));
            ask(&snapshot, Asked::new("docs.nigh.test", kind::A).subnet(&subnet))
        };
        let first = answers(client);
        let scope_len = u32::from(first.scope_len.unwrap());
        let host_bits = u32::MAX.checked_shr(scope_len).unwrap_or(0);
        for other in others {
            let neighbour = client & !host_bits | other & host_bits;
            prop_assert_eq!(&answers(neighbour).answers, &first.answers, "{}/{}", client, scope_len);
        }
    }
}

/// Blocks of a GeoIP file at one of three places, and where each is.
fn geoip() -> impl Strategy<Value = Vec<(ipnet::IpNet, f64)>> {
    let block = (0u32..32, 2u8..=26, 0usize..3).prop_map(|(high, len, place)| {
        let address = std::net::Ipv4Addr::from_bits(high << 27 | high << 9);
        let network = ipnet::IpNet::new(address.into(), len).expect("at most 32").trunc();
        (network, [8.68, -74.01, 103.82][place])
    });
    prop::collection::btree_map(block.clone().prop_map(|(network, _)| network), block, 0..10)
        .prop_map(|blocks| blocks.into_iter().map(|(key, (_, place))| (key, place)).collect())
}

/// A GeoIP file with these blocks.
fn geoip_file(blocks: &[(ipnet::IpNet, f64)]) -> crate::Geo {
    use nigh_testkit::mmdb::{self, Record, RecordSize};
    let records: Vec<_> = blocks
        .iter()
        .map(|&(network, longitude)| {
            (network, Record { latitude: 30.0, longitude, ..Record::default() })
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mmdb::encode(&records, RecordSize::Bits24, 0).unwrap()).unwrap();
    let opened = crate::geo::GeoFile::open(file.path(), 1 << 20);
    crate::Geo { city: opened.ok().map(std::sync::Arc::new), asn: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_address_within_a_scope_is_placed_alike_by_geoip_and_networks_together(
        blocks in geoip(),
        networks in prop::collection::vec((0u32..32, 4u8..=30), 0..6),
        clients in prop::collection::vec((any::<u32>(), any::<u32>()), 1..40),
    ) {
        let mut state = state();
        state.networks = networks.into_iter().map(|(high, len)| {
            let address = std::net::Ipv4Addr::from_bits(high << 27 | high << 9);
            nigh_proto::state::OperatorNetwork {
                network: ipnet::IpNet::new(address.into(), len).unwrap().trunc(),
                target: nigh_proto::state::NetworkTarget::Edge("nyc".parse().unwrap()),
            }
        }).collect();
        let snapshot = Snapshot { geo: geoip_file(&blocks), ..compile(&state) };
        for (client, other) in clients {
            let place = snapshot.locate(IpAddr::V4(client.into()));
            let host_bits = u32::MAX.checked_shr(u32::from(place.uniform_len)).unwrap_or(0);
            let neighbour = client & !host_bits | other & host_bits;
            let neighbour = snapshot.locate(IpAddr::V4(neighbour.into()));
            prop_assert_eq!(neighbour, place);
        }
    }
}
