//! What does a packet ask, and if it asks nothing that makes sense, what is it told?
//!
//! One pass over the bytes, no allocation. Nothing here knows zones.

use crate::{
    edns::Edns,
    name::{self, NAME_BYTES_MAX},
    rr::{Rcode, class, kind},
};

/// Bytes of a header (RFC 1035, section 4.1.1).
pub(crate) const HEADER_BYTES: usize = 12;

/// The parts of a header that a reply repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub id: u16,
    pub opcode: u8,
    /// Recursion desired: copied, though nigh never recurses.
    pub rd: bool,
    /// Checking disabled: copied (RFC 4035, section 3.1.6).
    pub cd: bool,
}

/// A well-formed query of opcode QUERY with one question.
#[derive(Clone, Debug)]
pub(crate) struct Query<'p> {
    pub header: Header,
    /// Name, type and class as they were sent: a reply repeats them byte for byte.
    pub question: &'p [u8],
    pub name: LowerName,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
}

/// A packet that is not such a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable<'p> {
    /// No reply: not a whole header, or itself a reply. Answering one could go on for ever.
    Silence,
    Told(Told<'p>),
}

/// The little that can be said to a packet that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told<'p> {
    pub header: Header,
    /// Empty when it was not understood either.
    pub question: &'p [u8],
    pub rcode: Rcode,
    /// Whether the packet had an OPT record, so that the reply must have one (RFC 6891, section 7).
    pub has_edns: bool,
}

/// A name in lower case, in wire form, on the stack.
#[derive(Clone)]
pub(crate) struct LowerName {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl LowerName {
    fn new(wire: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..wire.len()].copy_from_slice(wire);
        // Lengths of labels are at most 63 and so are no letters.
        bytes[..wire.len()].make_ascii_lowercase();
        Self { bytes, len: u8::try_from(wire.len()).expect("a name has at most 255 bytes") }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for LowerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&name::to_text(self.as_bytes()))
    }
}

impl<'p> Query<'p> {
    /// Reads a whole packet (RFC 1035, section 4; RFC 9619 for the number of questions).
    pub(crate) fn read(packet: &'p [u8]) -> Result<Self, Unusable<'p>> {
        let Some((head, body)) = packet.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Unusable::Silence);
        };
        if head[2] & 0x80 != 0 {
            return Err(Unusable::Silence);
        }
        let header = Header {
            id: u16::from_be_bytes([head[0], head[1]]),
            opcode: head[2] >> 3 & 0xf,
            rd: head[2] & 0x01 != 0,
            cd: head[3] & 0x10 != 0,
        };
        let told =
            |question, rcode| Unusable::Told(Told { header, question, rcode, has_edns: false });
        if header.opcode != 0 {
            return Err(told(&[], Rcode::NotImp));
        }
        let counts = [4, 6, 8, 10].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
        let [1, answers, authorities, additionals] = counts else {
            return Err(told(&[], Rcode::FormErr));
        };
        let (question, rest) = split_question(body).ok_or(told(&[], Rcode::FormErr))?;
        if answers != 0 || authorities != 0 {
            return Err(told(question, Rcode::FormErr));
        }
        let rcode = Rcode::FormErr;
        let edns = read_additional(rest, additionals)
            .map_err(|has_edns| Unusable::Told(Told { header, question, rcode, has_edns }))?;
        Ok(Self::new(header, question, edns))
    }

    fn new(header: Header, question: &'p [u8], edns: Option<Edns>) -> Self {
        let (name, [k0, k1, c0, c1]) =
            question.split_last_chunk::<4>().expect("a question ends with type and class");
        Self {
            header,
            question,
            name: LowerName::new(name),
            kind: u16::from_be_bytes([*k0, *k1]),
            class: u16::from_be_bytes([*c0, *c1]),
            edns,
        }
    }

    /// Whether the class is one that nigh answers for; ANY means the only one there is.
    pub(crate) fn is_internet(&self) -> bool {
        matches!(self.class, class::IN | class::ANY)
    }
}

fn split_question(body: &[u8]) -> Option<(&[u8], &[u8])> {
    body.split_at_checked(name::wire_len(body)? + 4)
}

/// Reads `count` records to the very end of the packet. The only one of interest is OPT, of which
/// there may be one, owned by the root (RFC 6891, section 6.1.1).
///
/// When malformed: whether an OPT record was seen.
fn read_additional(mut rest: &[u8], count: u16) -> Result<Option<Edns>, bool> {
    let mut edns = None;
    for _ in 0..count {
        let (record, next) = Record::split(rest).ok_or(edns.is_some())?;
        if record.kind == kind::OPT {
            if edns.is_some() || !record.is_root {
                return Err(true);
            }
            edns = Some(Edns::read(record.class, record.ttl, record.rdata).map_err(|_| true)?);
        }
        rest = next;
    }
    if rest.is_empty() { Ok(edns) } else { Err(edns.is_some()) }
}

struct Record<'p> {
    is_root: bool,
    kind: u16,
    class: u16,
    ttl: u32,
    rdata: &'p [u8],
}

impl<'p> Record<'p> {
    fn split(bytes: &'p [u8]) -> Option<(Self, &'p [u8])> {
        let owner_len = owner_len(bytes)?;
        let (fixed, body) = bytes.get(owner_len..)?.split_first_chunk::<10>()?;
        let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *fixed;
        let (rdata, next) = body.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        let record = Record {
            is_root: bytes[0] == 0,
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([t0, t1, t2, t3]),
            rdata,
        };
        Some((record, next))
    }
}

/// Length of a record's owner, which unlike a question's name may end in a pointer. Where that
/// leads is of no interest.
fn owner_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            len @ 1..=63 if at < NAME_BYTES_MAX => at += usize::from(len) + 1,
            _ => return None,
        }
    }
}
