use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn pages() -> Pages {
    Pages {
        role: "edge",
        version: "1.2.3",
        metrics: Metrics::new("edge", "1.2.3"),
        readiness: Readiness::new(),
    }
}

fn start(pages: Pages) -> Ops {
    Ops::start(&TcpListen::on("127.0.0.1:0".parse().unwrap()), pages).unwrap()
}

/// Sends `request` and returns all that comes back until the server closes.
async fn talk(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    // A reset after the reply is as good an end as any.
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8(reply).unwrap()
}

async fn ask(ops: &Ops, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    let reply = talk(ops.addr(), request.as_bytes()).await;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn every_page_is_served() {
    let ops = start(pages());
    assert_eq!(ask(&ops, "GET", "/healthz").await, (200, "ok\n".to_owned()));
    let version = "{\"role\":\"edge\",\"version\":\"1.2.3\"}\n".to_owned();
    assert_eq!(ask(&ops, "GET", "/version").await, (200, version));
    let (status, metrics) = ask(&ops, "GET", "/metrics?name=x").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("nigh_build_info{") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn readyz_gives_reasons_until_all_is_there() {
    let pages = pages();
    let state = pages.readiness.condition("state", "no state from control yet");
    let ops = start(pages);
    let (status, page) = ask(&ops, "GET", "/readyz").await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let reasons = [serde_json::json!({"name": "state", "reason": "no state from control yet"})];
    assert_eq!((status, page), (503, serde_json::json!({"ready": false, "reasons": reasons})));
    state.set_ready();
    let ready = "{\"ready\":true,\"reasons\":[]}\n".to_owned();
    assert_eq!(ask(&ops, "GET", "/readyz").await, (200, ready));
}

#[tokio::test]
async fn head_has_no_body_and_other_methods_and_paths_are_refused() {
    let ops = start(pages());
    assert_eq!(ask(&ops, "HEAD", "/healthz").await, (200, String::new()));
    assert_eq!(ask(&ops, "POST", "/healthz").await.0, 405);
    assert_eq!(ask(&ops, "GET", "/").await.0, 404);
    assert_eq!(ask(&ops, "POST", "/").await.0, 404);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let ops = start(pages());
    let large = "x".repeat(HEADER_BYTES_MAX);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: ops\r\nLarge: {large}\r\n\r\n");
    let reply = talk(ops.addr(), request.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
}

/// Every place is taken by `hold`; returns when one more client was served all the same.
async fn one_more_is_served(bounds: Bounds, hold: &[u8]) {
    let listen = TcpListen::on("127.0.0.1:0".parse().unwrap());
    let ops = Ops::start_within(bounds, &listen, pages()).unwrap();
    let mut held = Vec::new();
    for _ in 0..bounds.connections {
        let mut stream = TcpStream::connect(ops.addr()).await.unwrap();
        stream.write_all(hold).await.unwrap();
        held.push(stream);
    }
    let served = tokio::time::timeout(NEVER / 2, ask(&ops, "GET", "/healthz")).await;
    assert_eq!(served.expect("a place became free"), (200, "ok\n".to_owned()));
}

const NEVER: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn clients_that_do_not_finish_their_head_make_room() {
    let bounds = Bounds { connections: 3, header_timeout: SOON, connection_timeout: NEVER };
    one_more_is_served(bounds, b"GET /healthz HTTP/1.1\r\n").await;
    one_more_is_served(bounds, b"").await;
}

#[tokio::test]
async fn clients_that_stay_make_room() {
    let bounds = Bounds { connections: 3, header_timeout: NEVER, connection_timeout: SOON };
    one_more_is_served(bounds, b"GET /healthz HTTP/1.1\r\nHost: ops\r\n\r\n").await;
}

#[tokio::test]
async fn no_more_clients_are_served_than_there_are_places() {
    let bounds = Bounds { connections: 1, header_timeout: NEVER, connection_timeout: NEVER };
    let listen = TcpListen::on("127.0.0.1:0".parse().unwrap());
    let ops = Ops::start_within(bounds, &listen, pages()).unwrap();
    let mut first = TcpStream::connect(ops.addr()).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: ops\r\n\r\n").await.unwrap();
    first.readable().await.unwrap();
    let second = ask(&ops, "GET", "/healthz");
    tokio::pin!(second);
    assert!(tokio::time::timeout(SOON, second.as_mut()).await.is_err());
    drop(first);
    assert_eq!(second.await.0, 200);
}

#[tokio::test]
async fn after_the_stop_the_port_is_free() {
    let ops = start(pages());
    let addr = ops.addr();
    let _idle = TcpStream::connect(addr).await.unwrap();
    ops.stop().await;
    bind_tcp("ops", &TcpListen::on(addr)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_leave_the_listener_well(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ops = start(pages());
            let mut stream = TcpStream::connect(ops.addr()).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            assert_eq!(ask(&ops, "GET", "/healthz").await.0, 200);
            assert_eq!(ops.tasks.panicked(), 0);
        });
    }
}

proptest! {
    #[test]
    fn any_path_has_an_answer(method in "[A-Z]{1,9}", path in "/\\PC{0,40}") {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let status = answer(&method, &path, &pages()).status();
        prop_assert!([200, 404, 405].contains(&status.as_u16()), "{status}");
    }
}
