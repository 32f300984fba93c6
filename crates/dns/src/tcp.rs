//! How are queries over TCP received (RFC 7766)?
//!
//! hickory frames the messages and times quiet connections; nigh accepts, so that there is a bound
//! on connections, and answers the bytes itself. Queries of one connection are answered in turn;
//! while a reply cannot be sent, no further query is read. A connection that brings no whole query
//! for the idle time is closed, whether it is silent, slow to send or slow to read.

mod seats;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use hickory_server::{
    net::{
        BufDnsStreamHandle, DnsStreamHandle as _, runtime::iocompat::AsyncIoTokioAsStd,
        tcp::TcpStream as DnsStream,
    },
    proto::op::SerialMessage,
    server::TimeoutStream,
};
use nigh_daemon::Tasks;
use tokio::net::{TcpListener, TcpStream};

use self::seats::Seat;
pub(crate) use self::seats::Seats;
use crate::{answer::Transport, responder::Responder};

/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Replies that wait for the socket. One is made at a time.
const REPLIES_MAX: usize = 2;

/// What every connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub responder: Arc<Responder>,
    pub seats: Seats,
    pub idle: Duration,
    pub tasks: Tasks,
}

/// Accepts until the tasks are told to stop.
pub(crate) async fn serve(listener: TcpListener, service: Service) {
    let stopping = service.tasks.stopping().clone();
    while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, source)) => {
                let seat = service.seats.take();
                let connection = converse(stream, source, seat, service.clone());
                service.tasks.spawn("dns tcp connection", connection);
            }
            Err(error) => {
                tracing::warn!(%error, "the DNS listener could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, source: SocketAddr, mut seat: Seat, service: Service) {
    // A reply is one write; waiting to fill a segment only delays it.
    let _ = stream.set_nodelay(true);
    let (stream, mut replies) =
        DnsStream::from_stream_with_buffer_size(AsyncIoTokioAsStd(stream), source, REPLIES_MAX);
    let mut queries = TimeoutStream::new(stream, service.idle);
    let stopping = service.tasks.stopping().clone();
    loop {
        let query = tokio::select! {
            query = queries.next() => query,
            () = seat.taken_away() => return,
            () = stopping.cancelled() => break,
        };
        // An end, a broken connection or an idle one: nothing more can be said.
        let Some(Ok(query)) = query else { return };
        seat.keep();
        respond(&service, &query, source, &mut replies);
    }
    // Queries that have arrived are answered; polling once more sends the last reply.
    while let Some(Some(Ok(query))) = queries.next().now_or_never() {
        respond(&service, &query, source, &mut replies);
    }
}

fn respond(
    service: &Service,
    query: &SerialMessage,
    source: SocketAddr,
    replies: &mut BufDnsStreamHandle,
) {
    let idle_100ms = u16::try_from(service.idle.as_millis() / 100).unwrap_or(u16::MAX);
    let transport = Transport::Tcp { idle_100ms };
    if let Some(reply) = service.responder.respond(query.bytes(), source, transport)
        && let Err(error) = replies.send(SerialMessage::new(reply, source))
    {
        tracing::debug!(%error, "a reply was dropped");
    }
}
