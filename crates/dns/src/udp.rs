//! How do datagrams come in and replies go out?
//!
//! hickory reads and writes the socket; nigh answers the bytes itself. hickory's `Server` is not
//! used: it answers what it cannot parse before any handler is asked, even packets with QR=1, spawns
//! a task per datagram without a bound, and logs every reply at `info`. Here one task per socket
//! receives, answers and sends in turn, so nothing queues up but in the kernel's buffer.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use hickory_server::{
    net::{
        BufDnsStreamHandle, DnsStreamHandle as _, runtime::TokioRuntimeProvider, udp::UdpStream,
    },
    proto::op::SerialMessage,
};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::{answer::Transport, responder::Responder};

/// After a failed receive; the socket itself stays usable.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Answers datagrams until `stopping`, then those that have arrived by then.
pub(crate) async fn serve(
    socket: UdpSocket,
    responder: Arc<Responder>,
    stopping: CancellationToken,
) {
    // The address is replaced by each query's source.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let (mut stream, replies) = UdpStream::<TokioRuntimeProvider>::with_bound(socket, nobody);
    while let Some(received) = stopping.run_until_cancelled(stream.next()).await {
        let Some(received) = received else { break };
        match received {
            Ok(query) => respond(&responder, &query, &replies),
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
    // Polling once more sends the last reply, which hickory holds until then.
    while let Some(Some(Ok(query))) = stream.next().now_or_never() {
        respond(&responder, &query, &replies);
    }
}

fn respond(responder: &Responder, query: &SerialMessage, replies: &BufDnsStreamHandle) {
    let source = query.addr();
    if !is_answerable(source) {
        return;
    }
    if let Some(reply) = responder.respond(query.bytes(), source, Transport::Udp) {
        // It holds 32 and is emptied before the next datagram is read, so it is never full.
        if let Err(error) = replies.with_remote_addr(source).send(SerialMessage::new(reply, source))
        {
            tracing::debug!(%error, "a reply was dropped");
        }
    }
}

/// Not the ports of services that answer anything: two of them would never stop (RFC 768, echo and
/// character generator), and not what no single host can have sent: hickory would log a warning for
/// every reply that the kernel refuses to send.
fn is_answerable(source: SocketAddr) -> bool {
    let ip = source.ip().to_canonical();
    let is_one_host =
        !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    is_one_host && !matches!(source.port(), 0 | 7 | 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_cannot_be_resolvers_get_no_reply() {
        for (source, expected) in [
            ("192.0.2.1:5353", true),
            ("192.0.2.1:53", true),
            ("[2001:db8::1]:1024", true),
            ("192.0.2.1:0", false),
            ("192.0.2.1:7", false),
            ("[2001:db8::1]:19", false),
            ("0.0.0.0:1024", false),
            ("255.255.255.255:1024", false),
            ("[::ffff:224.0.0.1]:1024", false),
            ("[ff02::1]:1024", false),
        ] {
            assert_eq!(is_answerable(source.parse().unwrap()), expected, "{source}");
        }
    }
}
