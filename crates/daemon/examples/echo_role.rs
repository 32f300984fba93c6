//! A whole role: it says `hello` to whoever connects, with a greeting that a reload can change.
//!
//! `echo_role GREETING_FILE GRACE_MS [NOTIFY_SOCKET [WATCHDOG_USEC]]`. The tests of the crate run
//! it as a child process; read it to see what a role has to write itself.

use std::{
    error::Error,
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nigh_daemon::{
    BindError, Context, LogConfig, Notify, Role, Setup, Sockets, TcpListen, logging,
    notify::{Listener, watchdog_timeout},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Echo {
    addr: SocketAddr,
    greeting: watch::Sender<String>,
    context: Context,
}

#[derive(Debug, thiserror::Error)]
enum EchoError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the listener has no address")]
    Address(#[from] io::Error),
    #[error("a greeting must not be empty")]
    Empty,
}

impl Role for Echo {
    const NAME: &'static str = "echo";

    type Config = String;
    type Error = EchoError;

    async fn start(greeting: String, context: Context) -> Result<Self, EchoError> {
        let listener = context.sockets.tcp("echo", &TcpListen::on(LOOPBACK))?;
        let addr = listener.local_addr()?;
        let greeting = watch::Sender::new(greeting);
        context
            .tasks
            .spawn_vital("accept", accept(listener, greeting.subscribe(), context.clone()));
        Ok(Self { addr, greeting, context })
    }

    fn listeners(&self) -> Vec<Listener> {
        vec![("echo", self.addr)]
    }

    async fn reload(&mut self, greeting: String) -> Result<(), EchoError> {
        if greeting.is_empty() {
            return Err(EchoError::Empty);
        }
        self.greeting.send_replace(greeting);
        Ok(())
    }

    async fn stop(self) {
        self.context.tasks.stop(self.context.grace).await;
    }
}

async fn accept(listener: TcpListener, greeting: watch::Receiver<String>, context: Context) {
    let stopping = context.tasks.stopping();
    while let Some(Ok((stream, _))) = stopping.run_until_cancelled(listener.accept()).await {
        context.tasks.spawn("visitor", greet(stream, greeting.clone()));
    }
}

/// Greets at once, then waits for the visitor to say one byte: that is the work in flight.
async fn greet(mut stream: TcpStream, greeting: watch::Receiver<String>) {
    let greeting = greeting.borrow().clone();
    if stream.write_all(greeting.as_bytes()).await.is_err() {
        return;
    }
    match stream.read_u8().await {
        Ok(b'p') => panic!("the visitor wants a panic"),
        Ok(_) => drop(stream.write_all(b" bye").await),
        Err(error) => tracing::info!(%error, "the visitor left"),
    }
}

fn read(file: &Path) -> Result<String, Box<dyn Error + Send + Sync>> {
    Ok(fs::read_to_string(file)?)
}

fn notify(mut arguments: impl Iterator<Item = OsString>) -> Result<Notify, Box<dyn Error>> {
    let Some(socket) = arguments.next() else { return Ok(Notify::none()) };
    let usec = arguments.next();
    let usec = usec.as_deref().and_then(|usec| usec.to_str());
    Ok(Notify::to(&socket)?.with_watchdog(watchdog_timeout(usec, None, std::process::id())))
}

#[tokio::main(flavor = "current_thread")]
async fn serve(sockets: Sockets) -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("want GREETING_FILE")?);
    let grace = arguments.next().ok_or("want GRACE_MS")?;
    let grace = Duration::from_millis(grace.to_str().ok_or("want a number")?.parse()?);
    logging::init(&LogConfig::default(), logging::Colour::Auto)?;
    let setup = Setup {
        config: read(&file).map_err(|error| error.to_string())?,
        reread: Box::new(move || read(&file)),
        ops: TcpListen::on(LOOPBACK),
        context: Context { sockets, grace, ..Context::new(Echo::NAME, env!("CARGO_PKG_VERSION")) },
        notify: notify(arguments)?,
    };
    let ended = nigh_daemon::run::<Echo>(setup).await?;
    println!("{ended:?}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // Before there are threads, since it takes the variables out of the environment.
    serve(Sockets::from_systemd(""))
}
