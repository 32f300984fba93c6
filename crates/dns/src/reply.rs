//! How does an answer become bytes that fit?
//!
//! A [`Draft`] says what should be in the reply; [`write()`] makes the packet. What does not fit makes
//! a truncated reply with empty sections (RFC 2181, section 9), never half a set. Owners are
//! compressed to the question, which keeps the case in which the name was asked (0x20).

use std::borrow::Cow;

use crate::{
    edns::{Edns, option},
    name,
    query::{HEADER_BYTES, Query, Told},
    rr::{Ede, Rcode, class, kind},
};

/// The largest UDP reply, whatever the client says (DNS flag day 2020): it fits every path unbroken.
pub(crate) const UDP_BYTES_MAX: usize = 1232;
/// The largest UDP reply without EDNS (RFC 1035, section 4.2.1).
pub(crate) const UDP_BYTES_PLAIN: usize = 512;
/// The longest TTL; a larger one means zero (RFC 2181, section 8).
const TTL_MAX_S: u32 = (1 << 31) - 1;

/// One record of a reply.
#[derive(Clone, Debug)]
pub(crate) struct Rr<'a> {
    /// In wire form, uncompressed.
    pub owner: &'a [u8],
    pub kind: u16,
    pub ttl_s: u32,
    pub rdata: Cow<'a, [u8]>,
}

/// What a reply should hold.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    pub rcode: Rcode,
    pub is_authoritative: bool,
    pub answers: Vec<Rr<'a>>,
    pub authorities: Vec<Rr<'a>>,
    /// Additional records without which the reply is of no use (RFC 9471, section 2.1).
    pub glue: Vec<Rr<'a>>,
    /// Additional records that save a question; left out when they do not fit.
    pub extras: Vec<Rr<'a>>,
    /// For how much of the client's subnet the answer holds (RFC 7871, section 7.2.1).
    pub scope_len: u8,
    pub ede: Option<Ede>,
}

impl Draft<'_> {
    pub(crate) fn new(rcode: Rcode) -> Self {
        Draft {
            rcode,
            is_authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            glue: Vec::new(),
            extras: Vec::new(),
            scope_len: 0,
            ede: None,
        }
    }

    pub(crate) fn refused(ede: Ede) -> Self {
        Draft { ede: Some(ede), ..Draft::new(Rcode::Refused) }
    }
}

/// What a reply says of its server, not of the question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature<'a> {
    /// Sent to those who ask for it (RFC 5001).
    pub nsid: &'a [u8],
    /// Over TCP: how long a connection may idle, in units of 100 ms (RFC 7828, section 3.1).
    pub keepalive: Option<u16>,
}

/// The largest reply to `query`; `is_udp` says how it came.
pub(crate) fn bytes_max(edns: Option<&Edns>, is_udp: bool) -> usize {
    match (is_udp, edns) {
        (false, _) => usize::from(u16::MAX),
        (true, None) => UDP_BYTES_PLAIN,
        (true, Some(edns)) => usize::from(edns.payload_bytes).clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX),
    }
}

/// Makes the packet, at most `bytes_max` bytes long.
pub(crate) fn write(
    query: &Query<'_>,
    draft: &Draft<'_>,
    signature: Signature<'_>,
    bytes_max: usize,
) -> Vec<u8> {
    let opt = query.edns.as_ref().map_or_else(Vec::new, |edns| opt(edns, draft, signature));
    let mut packet = Packet::new(query, draft.rcode);
    let opt_count = u16::from(!opt.is_empty());
    let body_max = bytes_max.saturating_sub(opt.len());
    let required = [(0, &draft.answers), (1, &draft.authorities), (2, &draft.glue)].into_iter();
    let fits = required
        .flat_map(|(section, rrs)| rrs.iter().map(move |rr| (section, rr)))
        .all(|(section, rr)| packet.push(section, rr, body_max));
    if fits {
        packet.set_flags(draft.is_authoritative, false);
        packet.push_extras(&draft.extras, body_max);
    } else {
        packet.truncate();
        packet.set_flags(draft.is_authoritative, true);
    }
    packet.bytes.extend_from_slice(&opt);
    packet.counts[2] += opt_count;
    if let Some(ede) = draft.ede
        && opt_count == 1
    {
        packet.push_ede(opt.len(), ede, bytes_max);
    }
    packet.finish()
}

/// The reply to a packet that was not understood: a header, and the question when there was one.
pub(crate) fn write_told(told: &Told<'_>) -> Vec<u8> {
    let mut packet = Packet::start(told.header, told.question, told.rcode);
    if told.has_edns {
        push_opt_head(&mut packet.bytes, told.rcode, false);
        packet.bytes.extend_from_slice(&[0, 0]);
        packet.counts[2] = 1;
    }
    packet.finish()
}

struct Packet {
    bytes: Vec<u8>,
    /// Bytes of header and question.
    head_len: usize,
    /// Bytes of the name in the question, which starts after the header.
    name_len: usize,
    /// Answer, authority, additional.
    counts: [u16; 3],
}

impl Packet {
    fn new(query: &Query<'_>, rcode: Rcode) -> Self {
        Self::start(query.header, query.question, rcode)
    }

    fn start(header: crate::query::Header, question: &[u8], rcode: Rcode) -> Self {
        let mut bytes = Vec::with_capacity(UDP_BYTES_PLAIN);
        bytes.extend_from_slice(&header.id.to_be_bytes());
        bytes.push(0x80 | header.opcode << 3 | u8::from(header.rd));
        bytes.push(u8::from(header.cd) << 4 | (rcode.bits() & 0xf) as u8);
        bytes.extend_from_slice(&[0, u8::from(!question.is_empty()), 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(question);
        Self {
            head_len: bytes.len(),
            name_len: question.len().saturating_sub(4),
            bytes,
            counts: [0; 3],
        }
    }

    fn set_flags(&mut self, is_authoritative: bool, is_truncated: bool) {
        self.bytes[2] |= u8::from(is_authoritative) << 2 | u8::from(is_truncated) << 1;
    }

    /// Empties every section.
    fn truncate(&mut self) {
        self.bytes.truncate(self.head_len);
        self.counts = [0; 3];
    }

    /// Whether the record was added; the packet never grows past `bytes_max`.
    fn push(&mut self, section: usize, rr: &Rr<'_>, bytes_max: usize) -> bool {
        let before = self.bytes.len();
        self.push_name(rr.owner);
        self.bytes.extend_from_slice(&rr.kind.to_be_bytes());
        self.bytes.extend_from_slice(&class::IN.to_be_bytes());
        let ttl_s = if rr.ttl_s > TTL_MAX_S { 0 } else { rr.ttl_s };
        self.bytes.extend_from_slice(&ttl_s.to_be_bytes());
        let Ok(rdata_len) = u16::try_from(rr.rdata.len()) else {
            self.bytes.truncate(before);
            return false;
        };
        self.bytes.extend_from_slice(&rdata_len.to_be_bytes());
        self.bytes.extend_from_slice(&rr.rdata);
        let is_within = self.bytes.len() <= bytes_max && self.counts[section] < u16::MAX;
        if is_within {
            self.counts[section] += 1;
        } else {
            self.bytes.truncate(before);
        }
        is_within
    }

    /// Whole sets only (RFC 2181, section 5): what belongs to one owner and type is contiguous.
    fn push_extras(&mut self, extras: &[Rr<'_>], bytes_max: usize) {
        for set in extras.chunk_by(|a, b| a.owner == b.owner && a.kind == b.kind) {
            let (before, count) = (self.bytes.len(), self.counts[2]);
            if !set.iter().all(|rr| self.push(2, rr, bytes_max)) {
                self.bytes.truncate(before);
                self.counts[2] = count;
            }
        }
    }

    /// Writes `owner`, its tail as a pointer into the question where they agree (RFC 1035,
    /// section 4.1.4).
    fn push_name(&mut self, owner: &[u8]) {
        let asked = &self.bytes[HEADER_BYTES..HEADER_BYTES + self.name_len];
        let shared = name::ancestors(owner).find(|tail| {
            tail.len() > 1
                && tail.len() <= asked.len()
                && asked[asked.len() - tail.len()..].eq_ignore_ascii_case(tail)
                && is_label_start(asked, asked.len() - tail.len())
        });
        let Some(tail) = shared else {
            self.bytes.extend_from_slice(owner);
            return;
        };
        let pointer = 0xc000 | (HEADER_BYTES + self.name_len - tail.len()) as u16;
        self.bytes.extend_from_slice(&owner[..owner.len() - tail.len()]);
        self.bytes.extend_from_slice(&pointer.to_be_bytes());
    }

    /// Appends the reason to the OPT record, which is last, unless it does not fit: a reason must
    /// never cost the answer.
    fn push_ede(&mut self, opt_len: usize, ede: Ede, bytes_max: usize) {
        if self.bytes.len() + 6 > bytes_max {
            return;
        }
        let rdlen_at = self.bytes.len() - opt_len + OPT_HEAD_BYTES;
        let rdlen = (opt_len - OPT_HEAD_BYTES - 2 + 6) as u16;
        self.bytes[rdlen_at..rdlen_at + 2].copy_from_slice(&rdlen.to_be_bytes());
        push_option(&mut self.bytes, option::EXTENDED_ERROR, &ede.code().to_be_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        for (at, count) in [6, 8, 10].into_iter().zip(self.counts) {
            self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        self.bytes
    }
}

/// Whether a label starts at `at`: a tail that only happens to end alike is no tail.
fn is_label_start(name: &[u8], at: usize) -> bool {
    name::ancestors(name).any(|tail| name.len() - tail.len() == at)
}

/// Bytes of an OPT record before the length of its options.
const OPT_HEAD_BYTES: usize = 9;

/// The whole OPT record without the reason.
fn opt(edns: &Edns, draft: &Draft<'_>, signature: Signature<'_>) -> Vec<u8> {
    let mut options = Vec::with_capacity(32);
    if let Some(subnet) = edns.subnet {
        let mut value = Vec::with_capacity(20);
        subnet.write(draft.scope_len.min(subnet.source_len), &mut value);
        push_option(&mut options, option::CLIENT_SUBNET, &value);
    }
    if edns.wants_nsid {
        push_option(&mut options, option::NSID, signature.nsid);
    }
    if let Some(keepalive) = signature.keepalive.filter(|_| edns.wants_keepalive) {
        push_option(&mut options, option::TCP_KEEPALIVE, &keepalive.to_be_bytes());
    }
    let mut record = Vec::with_capacity(OPT_HEAD_BYTES + 2 + options.len());
    push_opt_head(&mut record, draft.rcode, edns.dnssec_ok);
    record.extend_from_slice(&(options.len() as u16).to_be_bytes());
    record.extend_from_slice(&options);
    record
}

fn push_opt_head(out: &mut Vec<u8>, rcode: Rcode, dnssec_ok: bool) {
    out.push(0);
    out.extend_from_slice(&kind::OPT.to_be_bytes());
    out.extend_from_slice(&(UDP_BYTES_MAX as u16).to_be_bytes());
    out.extend_from_slice(&[(rcode.bits() >> 4) as u8, 0, u8::from(dnssec_ok) << 7, 0]);
}

fn push_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}
