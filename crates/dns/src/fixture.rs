//! A small world for tests: zones, three edges, and a resolver's way to ask and to read.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use hickory_proto::{
    op::Message,
    rr::{RData, Record},
    serialize::binary::BinDecodable as _,
};
use ipnet::IpNet;
use nigh_proto::state::DnsState;

use crate::{
    answer::{Transport, answer},
    fleet::Health,
    rr::Rcode,
    snapshot::{Geo, Snapshot},
};

/// A resolver in Frankfurt, as the fixture's networks have it.
pub(crate) const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53));

/// Edges `fra`, `nyc`, `sin`; sites `docs` (with the apex and a preview); networks that stand for
/// cities; a zone with something of everything, and one within it.
pub(crate) fn state() -> DnsState {
    let mut state: serde_json::Value = serde_json::from_str(include_str!("fixture.json")).unwrap();
    let records = state["zones"][0]["records"].as_array_mut().unwrap();
    for number in 0..20 {
        records.push(serde_json::json!({
            "name": "big.nigh.test", "ttl_s": 300, "type": "TXT",
            "value": format!("{number:03}{}", "x".repeat(200)),
        }));
        records.push(serde_json::json!({
            "name": format!("chain{number}.nigh.test"), "ttl_s": 300, "type": "CNAME",
            "value": format!("chain{}.nigh.test", number + 1),
        }));
    }
    for number in 0..40 {
        let name = format!("server-number-{number}.wide.nigh.test");
        records.push(serde_json::json!({
            "name": "wide.nigh.test", "ttl_s": 300, "type": "NS", "value": name,
        }));
        records.push(serde_json::json!({
            "name": name, "ttl_s": 300, "type": "A", "value": format!("10.8.8.{number}"),
        }));
    }
    serde_json::from_value(state).unwrap()
}

pub(crate) fn snapshot() -> Snapshot {
    compile(&state())
}

pub(crate) fn compile(state: &DnsState) -> Snapshot {
    Snapshot::compile(state, Geo::default(), |_| Health::default()).0
}

/// A query under construction.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub has_edns: bool,
    pub payload: u16,
    pub version: u8,
    pub edns_flags: u16,
    pub options: Vec<(u16, Vec<u8>)>,
    pub is_tcp: bool,
}

impl Asked {
    pub(crate) fn new(name: &str, kind: u16) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            class: 1,
            has_edns: false,
            payload: 1232,
            version: 0,
            edns_flags: 0,
            options: Vec::new(),
            is_tcp: false,
        }
    }

    pub(crate) fn edns(mut self) -> Self {
        self.has_edns = true;
        self
    }

    pub(crate) fn tcp(mut self) -> Self {
        self.is_tcp = true;
        self
    }

    pub(crate) fn option(mut self, code: u16, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self.edns()
    }

    /// With client subnet `network`.
    pub(crate) fn subnet(self, network: &str) -> Self {
        let network: IpNet = network.parse().unwrap();
        let (family, octets) = match network.addr() {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (2, address.octets().to_vec()),
        };
        let len = usize::from(network.prefix_len().div_ceil(8));
        let value = [&[0, family, network.prefix_len(), 0], &octets[..len]].concat();
        self.option(8, &value)
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.has_edns)];
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            packet.push(label.len() as u8);
            packet.extend_from_slice(label.as_bytes());
        }
        packet.push(0);
        packet.extend_from_slice(&self.kind.to_be_bytes());
        packet.extend_from_slice(&self.class.to_be_bytes());
        if self.has_edns {
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&self.payload.to_be_bytes());
            packet.extend_from_slice(&[0, self.version]);
            packet.extend_from_slice(&self.edns_flags.to_be_bytes());
            let options: Vec<u8> = self
                .options
                .iter()
                .flat_map(|(code, value)| {
                    let head = [code.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
                    [head, value.clone()].concat()
                })
                .collect();
            packet.extend_from_slice(&(options.len() as u16).to_be_bytes());
            packet.extend_from_slice(&options);
        }
        packet
    }
}

/// A plain query for `name`.
pub(crate) fn packet(name: &str, kind: u16) -> Vec<u8> {
    Asked::new(name, kind).packet()
}

/// A reply as another implementation reads it. Records are `owner ttl type`, addresses added.
#[derive(Debug)]
pub(crate) struct Seen {
    pub bytes: Vec<u8>,
    pub rcode: Rcode,
    pub aa: bool,
    pub tc: bool,
    pub answers: Vec<String>,
    pub authorities: Vec<String>,
    pub additionals: Vec<String>,
    pub opt: Option<SeenOpt>,
    pub ede: Option<u16>,
    pub subnet: Option<String>,
    pub scope_len: Option<u8>,
}

#[derive(Debug)]
pub(crate) struct SeenOpt {
    pub version: u8,
    pub flags: u16,
    pub options: Vec<(u16, Vec<u8>)>,
}

/// Asks from [`RESOLVER`] and reads the reply with hickory.
pub(crate) fn ask(snapshot: &Snapshot, asked: Asked) -> Seen {
    let transport = if asked.is_tcp { Transport::Tcp { idle_100ms: 100 } } else { Transport::Udp };
    let query = asked.packet();
    let reply = answer(Some(snapshot), &query, RESOLVER, transport).unwrap();
    assert_eq!(reply.bytes[..2], query[..2], "the id is that of the query");
    let seen = Seen::read(reply.bytes, reply.rcode);
    assert!(asked.has_edns || seen.opt.is_none());
    seen
}

impl Seen {
    fn read(bytes: Vec<u8>, rcode: Rcode) -> Self {
        let message = Message::from_bytes(&bytes).unwrap();
        let opt = raw_opt(&bytes, &message);
        let option = |code| {
            opt.as_ref().and_then(|opt: &SeenOpt| {
                let options: BTreeMap<u16, Vec<u8>> = opt.options.iter().cloned().collect();
                options.get(&code).cloned()
            })
        };
        let subnet = option(8);
        Self {
            rcode,
            aa: bytes[2] & 4 != 0,
            tc: bytes[2] & 2 != 0,
            answers: message.answers.iter().map(shown).collect(),
            authorities: message.authorities.iter().map(shown).collect(),
            additionals: message.additionals.iter().map(shown).collect(),
            ede: option(15).map(|value| u16::from_be_bytes([value[0], value[1]])),
            scope_len: subnet.as_ref().map(|value| value[3]),
            subnet: subnet.map(|value| subnet_text(&value)),
            opt,
            bytes,
        }
    }
}

fn subnet_text(value: &[u8]) -> String {
    let mut octets = [0; 16];
    octets[..value.len() - 4].copy_from_slice(&value[4..]);
    let address = match value[1] {
        1 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
        _ => IpAddr::from(octets),
    };
    format!("{address}/{}", value[2])
}

/// OPT is last in nigh's replies; hickory does not show options it knows as bytes.
fn raw_opt(bytes: &[u8], message: &Message) -> Option<SeenOpt> {
    let edns = message.edns.as_ref()?;
    let at = (12..bytes.len().saturating_sub(10)).rev().find(|&at| {
        bytes[at..at + 3] == [0, 0, 41]
            && at + 11 + usize::from(u16::from_be_bytes([bytes[at + 9], bytes[at + 10]]))
                == bytes.len()
    })?;
    let mut rest = &bytes[at + 11..];
    let mut options = Vec::new();
    while let [c0, c1, l0, l1, body @ ..] = rest {
        let (value, next) = body.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        options.push((u16::from_be_bytes([*c0, *c1]), value.to_vec()));
        rest = next;
    }
    let flags = u16::from_be_bytes([bytes[at + 7], bytes[at + 8]]);
    Some(SeenOpt { version: edns.version(), flags, options })
}

fn shown(record: &Record) -> String {
    let owner = record.name.to_string();
    let owner = owner.trim_end_matches('.');
    let (ttl, kind) = (record.ttl, record.record_type());
    match &record.data {
        RData::A(address) => format!("{owner} {ttl} {kind} {address}"),
        RData::AAAA(address) => format!("{owner} {ttl} {kind} {address}"),
        _ => format!("{owner} {ttl} {kind}"),
    }
}
