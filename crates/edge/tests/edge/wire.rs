//! A visitor that sends exactly the bytes it is told to.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::fixture::DEADLINE;

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a field, empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Reply {
            status,
            headers: lines.filter_map(field).collect(),
            body: bytes[end + 4..].to_vec(),
        })
    }
}

/// Sends `request` and reads until the edge closes.
pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> Reply {
    let bytes = raw(address, request).await;
    Reply::parse(&bytes)
        .unwrap_or_else(|| panic!("no answer in {:?}", String::from_utf8_lossy(&bytes)))
}

/// Everything that the edge sends in answer to `request`, until it closes. That it must do without
/// a reset, which on some systems takes away what was not read yet; all is sent before any is read.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let written = timeout(DEADLINE, stream.write_all(request)).await.expect("the edge reads on");
    written.expect("no reset while it is sent");
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the edge closes");
    read.expect("no reset");
    bytes
}
