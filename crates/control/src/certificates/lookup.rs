//! What does DNS say, asked of one server or of resolvers?
//!
//! A small client over UDP, and over TCP where an answer does not fit. Every question has a deadline;
//! an answer that is not to this question, or from somewhere else, is not listened to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use nigh_proto::zone::{Caa, DnsName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

/// How long one server may take for one question.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A datagram that is lost is sent once more.
const TRIES: u32 = 2;
const ANSWER_MAX_BYTES: usize = 64 << 10;
const UDP_MAX_BYTES: u16 = 1232;
/// Addresses of one host that are looked at.
const ADDRESSES_MAX: usize = 8;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLVERS_MAX: usize = 3;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    #[error("{server} answers {name} with {code}")]
    Refused { server: SocketAddr, name: DnsName, code: String },
    #[error("there is no resolver; set certificates.resolvers")]
    NoResolver,
}

/// Asks `server` for one type of `name`; an answer without records is an empty one.
pub(crate) async fn ask(
    server: SocketAddr,
    name: &DnsName,
    kind: RecordType,
    is_recursive: bool,
) -> Result<Vec<RData>, LookupError> {
    let silent = || LookupError::Silent(server);
    let mut question = Message::query();
    question.metadata.recursion_desired = is_recursive;
    let owner = Name::from_ascii(format!("{name}.")).map_err(|_| silent())?;
    question.add_query(Query::query(owner, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX_BYTES);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(|_| silent())?;
    let mut answer = None;
    for _ in 0..TRIES {
        let asked = tokio::time::timeout(PATIENCE, by_udp(server, &question, &bytes)).await;
        if let Ok(Ok(found)) = asked {
            answer = Some(found);
            break;
        }
    }
    let mut answer = answer.ok_or_else(silent)?;
    if answer.metadata.truncation {
        let asked = tokio::time::timeout(PATIENCE, by_tcp(server, &question, &bytes)).await;
        answer = asked.ok().and_then(Result::ok).ok_or_else(silent)?;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError => {
            let records = answer.answers.into_iter().filter(|record| record.record_type() == kind);
            Ok(records.map(|record| record.data).collect())
        }
        ResponseCode::NXDomain => Ok(Vec::new()),
        code => Err(LookupError::Refused { server, name: name.clone(), code: code.to_string() }),
    }
}

fn is_to(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}

async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; ANSWER_MAX_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if is_to(&answer, question) => return Ok(answer),
            _ => {}
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if is_to(&answer, question) { Ok(answer) } else { Err(io::Error::other("another answer")) }
}

/// The texts of TXT records, each with its strings joined.
pub(crate) fn texts(records: &[RData]) -> Vec<String> {
    let text = |data: &RData| match data {
        RData::TXT(txt) => {
            let bytes: Vec<u8> =
                txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
            String::from_utf8(bytes).ok()
        }
        _ => None,
    };
    records.iter().filter_map(text).collect()
}

/// Recursive resolvers: those that are configured, else the system's.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
}

impl Resolver {
    pub(crate) async fn new(configured: &[SocketAddr]) -> Self {
        if !configured.is_empty() {
            return Self { servers: configured.to_vec() };
        }
        let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
        Self { servers: system_resolvers(&text) }
    }

    /// The first answer of any resolver.
    pub(crate) async fn ask(
        &self,
        name: &DnsName,
        kind: RecordType,
    ) -> Result<Vec<RData>, LookupError> {
        let mut failed = LookupError::NoResolver;
        for server in &self.servers {
            match ask(*server, name, kind, true).await {
                Ok(records) => return Ok(records),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    pub(crate) async fn caa(&self, name: &DnsName) -> Result<Vec<Caa>, LookupError> {
        let records = self.ask(name, RecordType::CAA).await?;
        let caa = |data: RData| match data {
            RData::CAA(caa) => Some(Caa {
                flags: if caa.issuer_critical { 128 } else { 0 },
                tag: caa.tag,
                value: String::from_utf8_lossy(&caa.value).into_owned(),
            }),
            _ => None,
        };
        Ok(records.into_iter().filter_map(caa).collect())
    }

    /// Where a host is.
    pub(crate) async fn addresses(&self, host: &DnsName) -> Result<Vec<IpAddr>, LookupError> {
        let (v4, v6) =
            tokio::join!(self.ask(host, RecordType::A), self.ask(host, RecordType::AAAA));
        // One family may be refused where the other one is answered.
        let records = match (v4, v6) {
            (Ok(v4), v6) => [v4, v6.unwrap_or_default()].concat(),
            (Err(_), Ok(v6)) => v6,
            (Err(error), Err(_)) => return Err(error),
        };
        let address = |data: &RData| match data {
            RData::A(v4) => Some(IpAddr::V4(v4.0)),
            RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
            _ => None,
        };
        Ok(records.iter().filter_map(address).take(ADDRESSES_MAX).collect())
    }
}

/// The `nameserver` lines of resolv.conf(5).
fn system_resolvers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let rest = line.trim().strip_prefix("nameserver")?;
        let ip: IpAddr = rest.split_whitespace().next()?.parse().ok()?;
        rest.starts_with(char::is_whitespace).then_some(SocketAddr::new(ip, 53))
    };
    text.lines().filter_map(server).take(RESOLVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Record, rdata::TXT};

    use super::*;

    #[test]
    fn the_systems_resolvers_are_read_as_the_system_reads_them() {
        let text = "# a\nsearch x\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserverx 1\nnameserver fe80::1%eth0\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(system_resolvers(text), expected);
    }

    /// A server on UDP and TCP; over UDP it first sends what must not be listened to.
    async fn server(is_truncated: bool) -> SocketAddr {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(at).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = answer_to(&question);
            udp.send_to(b"\0", from).await.unwrap();
            answer.metadata.id ^= 1;
            udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            answer.metadata.id ^= 1;
            if is_truncated {
                answer = answer.truncate();
            }
            udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        });
        tokio::spawn(async move {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut buffer = vec![0; length.into()];
            stream.read_exact(&mut buffer).await.unwrap();
            let answer = answer_to(&Message::from_vec(&buffer).unwrap()).to_vec().unwrap();
            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        });
        at
    }

    fn answer_to(question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_queries(question.queries.iter().cloned());
        let owner = question.queries[0].name().clone();
        let data = RData::TXT(TXT::new(vec!["one ".to_owned(), "text".to_owned()]));
        answer.add_answer(Record::from_rdata(owner, 1, data));
        answer
    }

    #[tokio::test]
    async fn only_the_answer_to_the_question_is_taken_and_a_long_one_comes_by_tcp() {
        let name = "_acme-challenge.nigh.test".parse().unwrap();
        for is_truncated in [false, true] {
            let server = server(is_truncated).await;
            let records = ask(server, &name, RecordType::TXT, false).await.unwrap();
            assert_eq!(texts(&records), ["one text"]);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_given_up() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let name = "nigh.test".parse().unwrap();
        let refused = ask(closed, &name, RecordType::TXT, false).await;
        assert_eq!(refused, Err(LookupError::Silent(closed)));
        let nobody = Resolver { servers: Vec::new() };
        assert_eq!(nobody.caa(&name).await, Err(LookupError::NoResolver));
    }
}
