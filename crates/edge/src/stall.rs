//! Which connections are only taking up room, and how do they end?
//!
//! A connection on which no byte has moved for a while is given up, whoever is to blame: a client that
//! sends nothing, or one that does not read what it asked for. So is one that moves hardly any, by the
//! rule of [`Tally::is_worth_keeping`].
//!
//! When a connection is closed while bytes that nobody read are on their way, the kernel answers
//! those with a reset, and the client may lose an answer that it has not read yet. So after the last
//! byte out, what still comes in is read and thrown away, so much and for so long (RFC 9112,
//! section 9.6).

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::conduct::{Conduct, Tally};

/// How long a client may take to see that its connection is closed.
const LINGER: Duration = Duration::from_secs(2);
/// What it may send in that time.
const LINGER_BYTES: usize = 1 << 20;

/// What a connection must do to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// How long it may do nothing.
    pub(crate) window: Duration,
    /// What it has to take of its answers in that time; 0 for anything at all.
    pub(crate) sent_bytes_min: u64,
}

/// A stream that fails when it has stalled.
#[derive(Debug)]
pub(crate) struct Stall<S> {
    stream: S,
    demands: Demands,
    conduct: Arc<Conduct>,
    moved: Instant,
    /// Whether the last write could not be taken.
    is_blocked: bool,
    window: Window,
    alarm: Pin<Box<Sleep>>,
    /// What may still be thrown away, once nothing more is sent.
    lingering: Option<usize>,
}

/// The time over which a connection is judged.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    before: Tally,
    sent_bytes: u64,
}

impl<S> Stall<S> {
    pub(crate) fn new(stream: S, demands: Demands, conduct: Arc<Conduct>) -> Self {
        let now = Instant::now();
        Stall {
            stream,
            demands,
            moved: now,
            is_blocked: false,
            window: Window { began: now, before: conduct.tally(false), sent_bytes: 0 },
            alarm: Box::pin(sleep_until(now + demands.window)),
            lingering: None,
            conduct,
        }
    }

    /// After a poll that could not move anything. The alarm is set again only when it rings, so
    /// that moving bytes costs no timer.
    fn check(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.alarm.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if !self.is_worth_keeping(now) {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            let next = self.moved.min(self.window.began) + self.demands.window;
            self.alarm.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn is_worth_keeping(&mut self, now: Instant) -> bool {
        let Demands { window, sent_bytes_min } = self.demands;
        if self.moved + window <= now {
            return false;
        }
        if self.window.began + window > now {
            return true;
        }
        let Window { before, sent_bytes, .. } = self.window;
        let tally = self.conduct.tally(self.is_blocked);
        self.window = Window { began: now, before: tally, sent_bytes: 0 };
        sent_bytes_min == 0 || tally.is_worth_keeping(&before, sent_bytes, sent_bytes_min)
    }

    fn after<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        self.check(context).map(Err)
    }

    fn after_write(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.is_blocked = polled.is_pending();
        if let Poll::Ready(Ok(sent)) = &polled {
            self.window.sent_bytes += *sent as u64;
        }
        self.after(context, polled)
    }
}

impl<S: AsyncRead + Unpin> Stall<S> {
    /// Ready when the client has closed too, or has had its time.
    fn poll_linger(&mut self, context: &mut Context<'_>, mut bytes_left: usize) -> Poll<()> {
        while self.alarm.as_mut().poll(context).is_pending() {
            let mut room = [MaybeUninit::uninit(); 4096];
            let mut buffer = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 || bytes >= bytes_left {
                break;
            }
            bytes_left -= bytes;
            self.lingering = Some(bytes_left);
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.after(context, polled)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.after_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.after_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bytes_left = match self.lingering {
            Some(bytes_left) => bytes_left,
            None => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                self.alarm.as_mut().reset(Instant::now() + LINGER);
                *self.lingering.insert(LINGER_BYTES)
            }
        };
        self.poll_linger(context, bytes_left).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn stall(near: DuplexStream, sent_bytes_min: u64) -> (Stall<DuplexStream>, Arc<Conduct>) {
        let conduct = Arc::new(Conduct::default());
        let demands = Demands { window: WINDOW, sent_bytes_min };
        (Stall::new(near, demands, Arc::clone(&conduct)), conduct)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_given_up() {
        let (near, _far) = duplex(16);
        let began = Instant::now();
        let error = stall(near, 0).0.read_u8().await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (near, _far) = duplex(16);
        let began = Instant::now();
        let error = stall(near, 0).0.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_now_and_then_is_kept() {
        let (near, mut far) = duplex(16);
        let (mut near, conduct) = stall(near, 1000);
        for _ in 0..20 {
            tokio::time::sleep(WINDOW * 3 / 4).await;
            far.write_all(b"x").await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), b'x');
            conduct.begin();
            conduct.end();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_asks_is_given_up_however_much_it_beats() {
        let (near, mut far) = duplex(16);
        let (mut near, _conduct) = stall(near, 1000);
        let beats = async {
            loop {
                tokio::time::sleep(WINDOW / 4).await;
                far.write_all(b"x").await.unwrap();
            }
        };
        let reads = async { while near.read_u8().await.is_ok() {} };
        let began = Instant::now();
        tokio::select! { () = beats => {}, () = reads => {} }
        assert_eq!(began.elapsed(), WINDOW);
    }

    /// Reads `bytes` at a time, ten times in a window; when the writer was given up.
    async fn read_slowly(bytes: usize, windows: u32) -> Option<io::ErrorKind> {
        let (near, mut far) = duplex(64);
        let (mut near, conduct) = stall(near, 1000);
        conduct.begin();
        let writes = async {
            loop {
                if let Err(error) = near.write_all(&[0; 512]).await {
                    break error.kind();
                }
            }
        };
        let reads = async {
            let mut buffer = vec![0; bytes];
            for _ in 0..windows * 10 {
                tokio::time::sleep(WINDOW / 10).await;
                far.read_exact(&mut buffer).await.unwrap();
            }
        };
        tokio::select! { kind = writes => Some(kind), () = reads => None }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_move_at_a_rate() {
        assert_eq!(read_slowly(1, 10).await, Some(io::ErrorKind::TimedOut));
        assert_eq!(read_slowly(90, 10).await, Some(io::ErrorKind::TimedOut));
        assert_eq!(read_slowly(110, 10).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_the_client_but_not_for_ever() {
        let (near, mut far) = duplex(16);
        let (mut near, _conduct) = stall(near, 0);
        let began = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), LINGER);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0, "it was closed at once");

        let (near, far) = duplex(16);
        let (mut near, _conduct) = stall(near, 0);
        drop(far);
        let began = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_reads_only_so_much() {
        let (near, mut far) = duplex(4096);
        let (mut near, _conduct) = stall(near, 0);
        let sends = async {
            let mut bytes = 0;
            while let Ok(sent) = far.write(&[0; 4096]).await {
                bytes += sent;
            }
            bytes
        };
        let closes = async {
            near.shutdown().await.unwrap();
            drop(near);
        };
        let (sent, ()) = tokio::join!(sends, closes);
        assert!((LINGER_BYTES..LINGER_BYTES + 8192).contains(&sent), "{sent}");
    }
}
