use std::{net::IpAddr, time::Duration};

use nigh_proto::state::{DnsState, MachineState};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use super::*;
use crate::{
    config::{ListenConfig, OpsConfig},
    fixture::{Asked, packet, state},
    rr::kind,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose control is away for ever.
struct Alone {
    dir: TempDir,
    server: DnsServer,
    context: Context,
}

fn config(dir: &TempDir, listen: &[&str]) -> DnsConfig {
    DnsConfig {
        state_dir: dir.path().join("state"),
        name: "ns1".parse().unwrap(),
        control: nigh_replica::ControlConfig {
            url: "https://127.0.0.1:1".parse().unwrap(),
            ca_file: None,
            join_token_file: None,
        },
        dns: ListenConfig {
            listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
            ..ListenConfig::default()
        },
        geoip: GeoipConfig::default(),
        probe: ProbeConfig::default(),
        ops: OpsConfig { listen: nigh_daemon::TcpListen::on("127.0.0.1:0".parse().unwrap()) },
        log: nigh_daemon::LogConfig::default(),
    }
}

fn context() -> Context {
    Context { grace: PATIENCE, ..Context::new("dns", "0") }
}

/// As if the machine had received `state` before it was restarted.
fn put_state(dir: &TempDir, state: DnsState) {
    let state_dir = dir.path().join("state");
    nigh_durable::create_dir(&state_dir).unwrap();
    let bytes = serde_json::to_vec(&MachineState::Dns(state)).unwrap();
    nigh_durable::write_secret(&state_dir.join("state.json"), &bytes).unwrap();
}

impl Alone {
    async fn start(state: Option<DnsState>) -> Self {
        Self::start_on(state, &["127.0.0.1:0"]).await
    }

    async fn start_on(state: Option<DnsState>, listen: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        if let Some(state) = state {
            put_state(&dir, state);
        }
        let config = config(&dir, listen);
        Self::start_with(dir, config).await
    }

    async fn start_with(dir: TempDir, config: DnsConfig) -> Self {
        let context = context();
        let server = DnsServer::start(config, context.clone()).await.unwrap();
        Self { dir, server, context }
    }

    fn address(&self) -> SocketAddr {
        self.server.listeners()[0].1
    }

    async fn stop(self) {
        let tasks = self.context.tasks.clone();
        self.server.stop().await;
        assert_eq!(tasks.stop(Duration::ZERO).await, 0);
    }
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await.unwrap();
    socket.send_to(query, server).await.unwrap();
    let mut reply = vec![0; 65_535];
    let (len, from) =
        tokio::time::timeout(PATIENCE, socket.recv_from(&mut reply)).await.unwrap().unwrap();
    assert_eq!(from, server, "a reply comes from the address that was asked");
    reply.truncate(len);
    reply
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_u16(query.len() as u16).await.unwrap();
    stream.write_all(query).await.unwrap();
    let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn a_restarted_server_answers_from_its_disk_with_control_gone() {
    let alone = Alone::start(Some(state())).await;
    assert!(alone.context.readiness.is_ready());
    let query = Asked::new("docs.nigh.test", kind::A).subnet("203.0.113.0/24").packet();
    let reply = ask_udp(alone.address(), &query).await;
    assert_eq!(reply[..2], query[..2]);
    assert!(reply.windows(4).any(|bytes| bytes == [10, 0, 0, 3]));
    assert_eq!(ask_tcp(alone.address(), &query).await, reply, "the same bytes over TCP");
    alone.stop().await;
}

#[tokio::test]
async fn dig_sees_what_an_authority_looks_for() {
    let name = "_acme-challenge.docs.nigh.test";
    let challenge = |value: &str| nigh_proto::state::DnsChallenge {
        name: name.parse().unwrap(),
        value: value.to_owned(),
    };
    let challenges = vec![challenge("first-of_two"), challenge("second-of_two")];
    let alone = Alone::start(Some(DnsState { challenges, ..state() })).await;
    for option in ["+notcp", "+tcp"] {
        let question = nigh_testkit::dig::Question::new(alone.address(), name, "TXT");
        let reply = question.option(option).ask().await.unwrap();
        assert_eq!(reply.status, "NOERROR");
        assert!(reply.flags.contains("aa"));
        let mut texts = reply.data("TXT");
        texts.sort_unstable();
        assert_eq!(texts, ["\"first-of_two\"", "\"second-of_two\""]);
        assert!(reply.answers.iter().all(|record| record.ttl_s == 1));
    }
    alone.stop().await;
}

/// Puts a GeoIP file in place that has 198.51.101.0/24 at `longitude`.
fn put_geoip(path: &std::path::Path, longitude: f64) {
    use nigh_testkit::mmdb::{self, Record, RecordSize};
    let record = Record { latitude: 30.0, longitude, ..Record::default() };
    let network = "198.51.101.0/24".parse().unwrap();
    let bytes = mmdb::encode(&[(network, record)], RecordSize::Bits24, 0).unwrap();
    nigh_durable::write(path, &bytes).unwrap();
}

#[tokio::test]
async fn a_replaced_geoip_file_steers_without_a_restart() {
    let dir = TempDir::new().unwrap();
    put_state(&dir, state());
    let path = dir.path().join("city.mmdb");
    put_geoip(&path, 8.68);
    let mut config = config(&dir, &["127.0.0.1:0"]);
    config.geoip = GeoipConfig { city: Some(path.clone()), reload_ms: 5, ..config.geoip };
    let alone = Alone::start_with(dir, config).await;
    let query = Asked::new("docs.nigh.test", kind::A).subnet("198.51.101.0/24").packet();
    let names = |reply: &[u8], host| reply.windows(4).any(|bytes| bytes == [10, 0, 0, host]);
    assert!(
        names(&ask_udp(alone.address(), &query).await, 1),
        "Frankfurt from the first answer on"
    );
    put_geoip(&path, 103.82);
    let moved = async { while !names(&ask_udp(alone.address(), &query).await, 3) {} };
    tokio::time::timeout(PATIENCE, moved).await.expect("Singapore soon after");
    alone.stop().await;
}

#[tokio::test]
async fn an_edge_that_dies_leaves_the_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let mut state = state();
    state.edges[2].probes =
        vec![nigh_proto::state::ProbeTarget { ip: dead.ip(), port: dead.port() }];
    let alone = Alone::start(Some(state)).await;
    let query = Asked::new("docs.nigh.test", kind::A).subnet("203.0.113.0/24").packet();
    let left = async {
        while ask_udp(alone.address(), &query).await.windows(4).any(|bytes| bytes == [10, 0, 0, 3])
        {
        }
    };
    tokio::time::timeout(Duration::from_secs(3), left).await.expect("within three seconds");
    alone.stop().await;
}

#[tokio::test]
async fn without_a_state_queries_are_refused_and_the_server_is_not_ready() {
    let alone = Alone::start(None).await;
    assert_eq!(alone.context.readiness.report().reasons[0].name, "state");
    let query = Asked::new("docs.nigh.test", kind::A).edns().packet();
    let reply = ask_udp(alone.address(), &query).await;
    assert_eq!(reply[3] & 0xf, 5);
    assert!(reply.ends_with(&[0, 15, 0, 2, 0, 14]), "EDE 14, not ready");
    alone.stop().await;
}

#[tokio::test]
async fn a_large_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let alone = Alone::start(Some(state())).await;
    let query = packet("big.nigh.test", kind::TXT);
    let reply = ask_udp(alone.address(), &query).await;
    assert!(reply[2] & 2 != 0 && reply.len() <= 512);
    let reply = ask_tcp(alone.address(), &query).await;
    assert!(reply[2] & 2 == 0 && reply.len() > 4_000);
    alone.stop().await;
}

#[tokio::test]
async fn every_address_is_served_over_ipv4_and_ipv6() {
    let alone = Alone::start_on(Some(state()), &["127.0.0.1:0", "[::1]:0"]).await;
    let listeners = alone.server.listeners();
    assert_eq!(listeners.len(), 2);
    for (_, address) in listeners {
        let query = packet("docs.nigh.test", kind::A);
        assert_eq!(ask_udp(address, &query).await, ask_tcp(address, &query).await);
    }
    alone.stop().await;
}

#[tokio::test]
async fn packets_that_get_no_reply_do_not_hold_up_those_that_do() {
    let alone = Alone::start(Some(state())).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut reply = packet("docs.nigh.test", kind::A);
    reply[2] |= 0x80;
    for silent in [&b""[..], b"short", &reply, &reply[..14]] {
        socket.send_to(silent, alone.address()).await.unwrap();
    }
    let mut sound = packet("docs.nigh.test", kind::A);
    sound[0] = 99;
    socket.send_to(&sound, alone.address()).await.unwrap();
    let mut bytes = [0; 512];
    let (len, _) =
        tokio::time::timeout(PATIENCE, socket.recv_from(&mut bytes)).await.unwrap().unwrap();
    assert_eq!((bytes[0], len > 12), (99, true), "the first reply is to the sound query");
    alone.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_a_start_error_that_names_it() {
    let alone = Alone::start(None).await;
    let dir = TempDir::new().unwrap();
    let taken = alone.address().to_string();
    let error = DnsServer::start(config(&dir, &[&taken]), context()).await.unwrap_err();
    assert!(error.to_string().contains(&taken), "{error}");
    alone.stop().await;
}

#[tokio::test]
async fn two_servers_never_share_a_state_folder() {
    let alone = Alone::start(None).await;
    let error =
        DnsServer::start(config(&alone.dir, &["127.0.0.1:0"]), context()).await.unwrap_err();
    assert!(matches!(error, StartError::Lock(_)), "{error:?}");
    alone.stop().await;
}

#[tokio::test]
async fn metrics_count_queries_and_edges() {
    let alone = Alone::start(Some(state())).await;
    let query = Asked::new("docs.nigh.test", kind::A).subnet("203.0.113.0/24").packet();
    ask_udp(alone.address(), &query).await;
    let page = alone.context.metrics.encode().unwrap();
    for line in [
        r#"nigh_dns_queries_total{rcode="noerror",type="A",proto="udp"} 1"#,
        r#"nigh_dns_answer_edge_total{edge="sin"} 1"#,
        r#"nigh_dns_edge_up{edge="fra"} 1"#,
        "nigh_dns_revision 7",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    alone.stop().await;
}

#[tokio::test]
async fn a_reload_takes_probes_and_geoip_and_refuses_what_cannot_work() {
    let mut alone = Alone::start(None).await;
    let mut changed = config(&alone.dir, &["127.0.0.1:0"]);
    changed.probe.failures = 5;
    alone.server.reload(changed.clone()).await.unwrap();
    assert_eq!(alone.server.probe_config.borrow().failures, 5);
    changed.probe.interval_ms = 0;
    alone.server.reload(changed).await.unwrap_err();
    assert_eq!(alone.server.probe_config.borrow().interval_ms, 750);
    alone.stop().await;
}
