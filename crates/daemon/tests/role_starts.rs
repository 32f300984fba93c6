//! A role that is told to stop while it starts. Alone in its process, since the signal is for all.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::{convert::Infallible, net::SocketAddr};

use nigh_daemon::{Context, Notify, Role, Setup, TcpListen, notify::Listener, role::Ended, run};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc;

/// Waits for ever for something it needs, and has a task running meanwhile.
struct Waiting;

impl Role for Waiting {
    const NAME: &'static str = "waiting";

    type Config = mpsc::Sender<&'static str>;
    type Error = Infallible;

    async fn start(alive: Self::Config, context: Context) -> Result<Self, Infallible> {
        alive.send("starting").await.unwrap();
        context.tasks.spawn("background", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        std::future::pending().await
    }

    fn listeners(&self) -> Vec<Listener> {
        Vec::new()
    }

    async fn reload(&mut self, _: Self::Config) -> Result<(), Infallible> {
        Ok(())
    }

    async fn stop(self) {}
}

#[tokio::test]
async fn sigterm_during_the_start_ends_it_and_leaves_no_task() {
    let (alive, mut heard) = mpsc::channel(1);
    let setup = Setup {
        config: alive,
        reread: Box::new(|| Err("nobody reloads here".into())),
        ops: TcpListen::on(SocketAddr::from(([127, 0, 0, 1], 0))),
        context: Context::new("waiting", "0"),
        notify: Notify::none(),
    };
    let running = tokio::spawn(run::<Waiting>(setup));
    assert_eq!(heard.recv().await, Some("starting"));
    // A reload during the start is not an end.
    kill_process(getpid(), Signal::HUP).unwrap();
    kill_process(getpid(), Signal::TERM).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Ended::CutShort);
    assert_eq!(heard.recv().await, None, "the role's tasks have ended");
}
