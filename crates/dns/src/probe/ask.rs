//! Does an edge answer that it serves?

use std::{io, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use nigh_proto::state::ProbeTarget;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Addresses of one edge that are asked at once; one that answers is enough.
const TARGETS_MAX: usize = 8;
/// `HTTP/1.1 200`: all that is read of an answer.
const STATUS_BYTES: usize = 12;

/// Why an edge counts as failing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the answer was {0:?}, not HTTP 200")]
    Status(String),
}

/// Asks every address at once; the first good answer counts, else the last failure.
pub(crate) async fn ask(targets: &[ProbeTarget], limit: Duration) -> Result<(), Failure> {
    let mut answers: FuturesUnordered<_> =
        targets.iter().take(TARGETS_MAX).map(|target| ask_one(*target, limit)).collect();
    let mut result = Ok(());
    while let Some(answer) = answers.next().await {
        if answer.is_ok() {
            return answer;
        }
        result = answer;
    }
    result
}

async fn ask_one(target: ProbeTarget, limit: Duration) -> Result<(), Failure> {
    timeout(limit, exchange(target)).await.unwrap_or(Err(Failure::Timeout(limit)))
}

async fn exchange(target: ProbeTarget) -> Result<(), Failure> {
    let address = std::net::SocketAddr::new(target.ip, target.port);
    let mut stream = TcpStream::connect(address).await.map_err(Failure::Connect)?;
    let request = format!(
        "GET /.well-known/nigh/health HTTP/1.1\r\nHost: {address}\r\nUser-Agent: nigh-probe\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(Failure::Broken)?;
    let mut status = [0; STATUS_BYTES];
    stream.read_exact(&mut status).await.map_err(Failure::Broken)?;
    match &status {
        b"HTTP/1.1 200" | b"HTTP/1.0 200" => Ok(()),
        other => Err(Failure::Status(String::from_utf8_lossy(other).into_owned())),
    }
}
