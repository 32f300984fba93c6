use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    fixture::{Asked, packet, snapshot},
    metrics::DnsMetrics,
    rr::kind,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct TestServer {
    address: SocketAddr,
    tasks: Tasks,
}

impl TestServer {
    async fn start(connections_max: usize, idle: Duration) -> Self {
        let metrics = DnsMetrics::default();
        let responder = Arc::new(Responder::new(metrics.clone()));
        responder.publish(Arc::new(snapshot()));
        let tasks = Tasks::new();
        let seats = Seats::new(connections_max, metrics);
        let service = Service { responder, seats, idle, tasks: tasks.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn("listener", serve(listener, service));
        Self { address, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

/// The next whole message; `None` when the server has closed.
async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    tokio::time::timeout(PATIENCE, async {
        let len = stream.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(len)];
        stream.read_exact(&mut message).await.ok()?;
        Some(message)
    })
    .await
    .expect("the server answers or closes in time")
}

fn numbered(number: u16) -> Vec<u8> {
    let mut query = packet("big.nigh.test", kind::TXT);
    query[..2].copy_from_slice(&number.to_be_bytes());
    query
}

#[tokio::test]
async fn rfc_7766_6_2_1_1_pipelined_queries_are_all_answered_once() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    let queries: Vec<u8> = (0..50).flat_map(|number| framed(&numbered(number))).collect();
    stream.write_all(&queries).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..50 {
        let reply = read(&mut stream).await.unwrap();
        assert!(reply.len() > 4_000, "whole, since this is TCP");
        ids.push(u16::from_be_bytes([reply[0], reply[1]]));
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn rfc_7766_8_a_query_in_pieces_is_one_query() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in framed(&packet("docs.nigh.test", kind::A)) {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read(&mut stream).await.is_some());
}

#[tokio::test]
async fn rfc_7766_6_2_4_queries_before_a_half_close_are_answered() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    let queries: Vec<u8> = (0..3).flat_map(|number| framed(&numbered(number))).collect();
    stream.write_all(&queries).await.unwrap();
    stream.shutdown().await.unwrap();
    for _ in 0..3 {
        assert!(read(&mut stream).await.is_some());
    }
    assert_eq!(read(&mut stream).await, None, "then the server closes too");
}

#[tokio::test]
async fn rfc_7766_6_2_3_a_connection_without_a_whole_query_is_closed() {
    let server = TestServer::start(8, Duration::from_millis(50)).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(&[0, 40, 1, 2]).await.unwrap();
    assert_eq!(read(&mut silent).await, None);
    assert_eq!(read(&mut slow).await, None);
}

#[tokio::test]
async fn the_quietest_connection_makes_room_for_a_new_one() {
    let server = TestServer::start(2, PATIENCE).await;
    let mut first = server.connect().await;
    first.write_all(&framed(&numbered(1))).await.unwrap();
    read(&mut first).await.unwrap();
    let mut second = server.connect().await;
    second.write_all(&framed(&numbered(2))).await.unwrap();
    read(&mut second).await.unwrap();
    let mut third = server.connect().await;
    third.write_all(&framed(&numbered(3))).await.unwrap();
    assert!(read(&mut third).await.is_some());
    assert_eq!(read(&mut first).await, None);
    second.write_all(&framed(&numbered(4))).await.unwrap();
    assert!(read(&mut second).await.is_some());
}

#[tokio::test]
async fn garbage_is_told_so_or_ignored_and_the_connection_goes_on() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    let mut reply = numbered(7);
    reply[2] |= 0x80;
    let messages = [&b"short"[..], &reply, &numbered(1)[..14], &numbered(2)];
    let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    stream.write_all(&bytes).await.unwrap();
    let malformed = read(&mut stream).await.unwrap();
    assert_eq!((malformed[1], malformed[3] & 0xf), (1, 1), "format error");
    assert_eq!(read(&mut stream).await.unwrap()[1], 2);
}

#[tokio::test]
async fn a_message_of_no_length_ends_the_connection() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    stream.write_all(&[framed(b""), framed(&numbered(1))].concat()).await.unwrap();
    assert_eq!(read(&mut stream).await, None);
}

#[tokio::test]
async fn zone_transfers_are_refused() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    let query = Asked::new("nigh.test", kind::AXFR).packet();
    stream.write_all(&framed(&query)).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap()[3] & 0xf, 5);
}

#[tokio::test]
async fn a_stop_ends_quiet_connections_at_once() {
    let server = TestServer::start(8, PATIENCE).await;
    let mut stream = server.connect().await;
    stream.write_all(&framed(&numbered(1))).await.unwrap();
    assert!(read(&mut stream).await.is_some());
    assert_eq!(server.tasks.stop(PATIENCE).await, 0, "nothing had to be aborted");
    assert_eq!(read(&mut stream).await, None);
}
