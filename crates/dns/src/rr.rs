//! What do the numbers in records and headers mean?
//!
//! Only those that nigh treats in a way of their own; all others are served as "no such record".

/// Record and query types (IANA, "Resource Record (RR) TYPEs").
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const HTTPS: u16 = 65;
    /// No question may ask for it (RFC 9824, section 3.5).
    pub const NXNAME: u16 = 128;
    /// From here to ANY: types that only a question or a message's own records may have (RFC 6895,
    /// section 3.1).
    pub const META_FIRST: u16 = 129;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
    pub const CAA: u16 = 257;

    /// The value of the `type` metric label: a closed set, since strangers choose types.
    pub const fn label(kind: u16) -> &'static str {
        match kind {
            A => "A",
            NS => "NS",
            CNAME => "CNAME",
            SOA => "SOA",
            MX => "MX",
            TXT => "TXT",
            AAAA => "AAAA",
            DS => "DS",
            HTTPS => "HTTPS",
            ANY => "ANY",
            CAA => "CAA",
            _ => "other",
        }
    }
}

/// Classes (RFC 1035, section 3.2.4 and 3.2.5).
pub mod class {
    pub const IN: u16 = 1;
    pub const ANY: u16 = 255;
}

/// How a query was answered (IANA, "DNS RCODEs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    NoError,
    FormErr,
    NxDomain,
    NotImp,
    Refused,
    BadVers,
}

impl Rcode {
    /// The twelve bits, the upper eight of which travel in OPT (RFC 6891, section 6.1.3).
    pub const fn bits(self) -> u16 {
        match self {
            Rcode::NoError => 0,
            Rcode::FormErr => 1,
            Rcode::NxDomain => 3,
            Rcode::NotImp => 4,
            Rcode::Refused => 5,
            Rcode::BadVers => 16,
        }
    }

    /// The value of the `rcode` metric label; part of the public interface, so never reworded.
    pub const fn label(self) -> &'static str {
        match self {
            Rcode::NoError => "noerror",
            Rcode::FormErr => "formerr",
            Rcode::NxDomain => "nxdomain",
            Rcode::NotImp => "notimp",
            Rcode::Refused => "refused",
            Rcode::BadVers => "badvers",
        }
    }
}

/// Why, for people who debug (RFC 8914, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ede {
    NotReady,
    NotAuthoritative,
    NotSupported,
    InvalidQueryType,
}

impl Ede {
    pub const fn code(self) -> u16 {
        match self {
            Ede::NotReady => 14,
            Ede::NotAuthoritative => 20,
            Ede::NotSupported => 21,
            Ede::InvalidQueryType => 30,
        }
    }
}
