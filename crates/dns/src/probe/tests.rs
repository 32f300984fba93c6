use std::net::SocketAddr;

use nigh_proto::state::Location;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::interval,
};

use super::*;

/// How an edge of these tests treats a connection.
#[derive(Clone, Copy)]
enum Manner {
    Answers(&'static str),
    /// As a process that was stopped: the kernel accepts, nobody answers.
    Freezes,
    HangsUp,
}

struct TestEdge {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl TestEdge {
    async fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), manner).await
    }

    async fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut frozen = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                match manner {
                    Manner::Freezes => frozen.push(stream),
                    Manner::HangsUp => {}
                    Manner::Answers(status) => {
                        let mut request = [0; 512];
                        let len = stream.read(&mut request).await.unwrap();
                        let request = String::from_utf8_lossy(&request[..len]).into_owned();
                        assert!(request.starts_with("GET /.well-known/nigh/health HTTP/1.1\r\n"));
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            }
        });
        Self { address, serving }
    }

    async fn kill(mut self) -> SocketAddr {
        self.serving.abort();
        assert!((&mut self.serving).await.unwrap_err().is_cancelled());
        self.address
    }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn edge(name: &str, targets: &[SocketAddr]) -> DnsEdge {
    DnsEdge {
        name: name.parse().unwrap(),
        region: "r".parse().unwrap(),
        location: Location { latitude: 0.0, longitude: 0.0 },
        ipv4: Vec::new(),
        ipv6: Vec::new(),
        probes: targets
            .iter()
            .map(|address| ProbeTarget { ip: address.ip(), port: address.port() })
            .collect(),
        is_drained: false,
    }
}

/// Rounds of 20 ms, but with the default timeout, so that a slow machine makes no failures.
fn config() -> ProbeConfig {
    ProbeConfig { interval_ms: 20, ..ProbeConfig::default() }
}

struct Probing {
    probes: Probes,
    stopping: CancellationToken,
    running: JoinHandle<()>,
}

impl Probing {
    fn start(edges: &[DnsEdge], config: ProbeConfig) -> Self {
        let probes = Probes::new(DnsMetrics::default());
        probes.set_edges(edges);
        let stopping = CancellationToken::new();
        let (_, settings) = watch::channel(config);
        let running = tokio::spawn(probes.clone().run(settings, stopping.clone()));
        Self { probes, stopping, running }
    }

    async fn stop(self) {
        self.stopping.cancel();
        self.running.await.unwrap();
    }

    /// Waits for the verdict and returns how long that took.
    async fn until(&self, name: &str, is_up: bool) -> Duration {
        let health = self.probes.health(&name.parse().unwrap());
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(5));
        tokio::time::timeout(Duration::from_secs(20), async {
            while health.is_up() != is_up {
                ticks.tick().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{name} is not {is_up} after 20 s"));
        begun.elapsed()
    }
}

#[tokio::test]
async fn an_edge_that_answers_stays_up_and_one_that_does_not_goes_down() {
    let good = TestEdge::start(Manner::Answers("200 OK")).await;
    let stopping = TestEdge::start(Manner::Answers("503 Service Unavailable")).await;
    let broken = TestEdge::start(Manner::HangsUp).await;
    let gone = TestEdge::start(Manner::Freezes).await.kill().await;
    let probing = Probing::start(
        &[
            edge("good", &[good.address]),
            edge("stopping", &[stopping.address]),
            edge("broken", &[broken.address]),
            edge("gone", &[gone]),
        ],
        config(),
    );
    for name in ["stopping", "broken", "gone"] {
        probing.until(name, false).await;
    }
    assert!(probing.probes.health(&"good".parse().unwrap()).is_up());
    probing.stop().await;
}

#[tokio::test]
async fn a_frozen_edge_is_down_within_three_seconds_of_default_probes() {
    let frozen = TestEdge::start(Manner::Freezes).await;
    let probing = Probing::start(&[edge("frozen", &[frozen.address])], ProbeConfig::default());
    let took = probing.until("frozen", false).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    probing.stop().await;
}

#[tokio::test]
async fn a_killed_edge_is_down_within_three_seconds_and_up_again_when_it_is_back() {
    let edge_server = TestEdge::start(Manner::Answers("200 OK")).await;
    let probing = Probing::start(&[edge("e", &[edge_server.address])], ProbeConfig::default());
    let address = edge_server.kill().await;
    let took = probing.until("e", false).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let back = TestEdge::start_at(address, Manner::Answers("200 OK")).await;
    probing.until("e", true).await;
    assert_eq!(back.address, address);
    probing.stop().await;
}

#[tokio::test]
async fn one_address_that_answers_is_enough() {
    let good = TestEdge::start(Manner::Answers("200 OK")).await;
    let gone = TestEdge::start(Manner::Freezes).await.kill().await;
    let probing =
        Probing::start(&[edge("both", &[gone, good.address]), edge("gone", &[gone])], config());
    probing.until("gone", false).await;
    assert!(probing.probes.health(&"both".parse().unwrap()).is_up());
    probing.stop().await;
}

#[tokio::test]
async fn frozen_edges_do_not_hold_up_the_others() {
    let frozen = TestEdge::start(Manner::Freezes).await;
    let gone = TestEdge::start(Manner::Freezes).await.kill().await;
    let mut edges: Vec<_> =
        (0..50).map(|number| edge(&format!("f{number}"), &[frozen.address])).collect();
    edges.push(edge("gone", &[gone]));
    let probing = Probing::start(&edges, ProbeConfig::default());
    let took = probing.until("gone", false).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    probing.stop().await;
}

#[tokio::test]
async fn a_new_state_keeps_verdicts_and_forgets_who_left() {
    let gone = TestEdge::start(Manner::Freezes).await.kill().await;
    let probing = Probing::start(&[edge("gone", &[gone])], config());
    probing.until("gone", false).await;
    probing.probes.set_edges(&[edge("gone", &[gone]), edge("new", &[])]);
    assert!(!probing.probes.health(&"gone".parse().unwrap()).is_up());
    assert!(probing.probes.health(&"new".parse().unwrap()).is_up());
    probing.probes.set_edges(&[edge("new", &[])]);
    probing.probes.set_edges(&[edge("gone", &[])]);
    assert!(probing.probes.health(&"gone".parse().unwrap()).is_up());
    probing.stop().await;
}
