//! A network between a person and control that is slow to a byte, and breaks when it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What becomes of bytes on their way to control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Open,
    /// After so many bytes in all, further ones wait.
    HoldAfter(u64),
    /// After so many bytes in all, every connection is cut, and new ones at once.
    CutAfter(u64),
}

/// A TCP proxy on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    line: watch::Sender<Line>,
    sent: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Wire {
    target: SocketAddr,
    line: watch::Receiver<Line>,
    total: Arc<AtomicU64>,
    sent: Arc<watch::Sender<u64>>,
}

impl Proxy {
    /// Everything that reaches the proxy goes on to `target`.
    pub async fn to(target: SocketAddr, line: Line) -> Result<Self> {
        Self::at(([127, 0, 0, 1], 0).into(), target, line).await
    }

    /// The same at an address of the caller's choice.
    pub async fn at(addr: SocketAddr, target: SocketAddr, line: Line) -> Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (line, line_seen) = watch::channel(line);
        let (sent, sent_seen) = watch::channel(0);
        let wire = Wire {
            target,
            line: line_seen,
            total: Arc::new(AtomicU64::new(0)),
            sent: Arc::new(sent),
        };
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(wire.clone().connect(near));
            }
        });
        Ok(Self { addr, line, sent: sent_seen, task })
    }

    /// The address of control, as its clients are to know it.
    pub fn api_url(&self) -> String {
        format!("https://{}", self.addr)
    }

    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// How many bytes have gone towards control.
    pub fn sent(&self) -> u64 {
        *self.sent.borrow()
    }

    /// Waits until so many bytes have gone towards control.
    pub async fn has_sent(&self, bytes: u64, within: Duration) -> Result<()> {
        let mut sent = self.sent.clone();
        let waited = tokio::time::timeout(within, sent.wait_for(|&sent| sent >= bytes)).await;
        waited.with_context(|| format!("{} of {bytes} bytes were sent", self.sent()))??;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    async fn connect(self, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.target).await else { return };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = self.carry(near_in, far_out) => {}
            () = back(far_in, near_out) => {}
        }
    }

    /// Towards control, byte by byte as the line allows; ends when the line is cut.
    async fn carry(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 16 << 10];
        while let Some(length) = read(&mut from, &mut buffer).await {
            if !self.may_pass().await || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
            let total = self.total.fetch_add(length as u64, Ordering::SeqCst) + length as u64;
            self.sent.send_replace(total);
        }
    }

    async fn may_pass(&mut self) -> bool {
        loop {
            let (total, line) = (self.total.load(Ordering::SeqCst), *self.line.borrow_and_update());
            match line {
                Line::CutAfter(bytes) if total >= bytes => return false,
                Line::HoldAfter(bytes) if total >= bytes => {
                    if self.line.changed().await.is_err() {
                        return false;
                    }
                }
                _ => return true,
            }
        }
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn read(from: &mut OwnedReadHalf, buffer: &mut [u8]) -> Option<usize> {
    from.read(buffer).await.ok().filter(|&length| length > 0)
}
