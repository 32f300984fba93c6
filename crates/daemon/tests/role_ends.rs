//! Roles that do not end by a signal: what `run` says, and that nothing is left behind.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::{error::Error as _, net::SocketAddr};

use nigh_daemon::{Context, Notify, Role, Setup, TcpListen, notify::Listener, role::RunError, run};
use tokio::sync::mpsc;

/// What goes wrong with a [`Doomed`] role.
#[derive(Clone, Copy, PartialEq)]
enum Doom {
    Start,
    VitalTask,
}

struct Doomed(Context);

#[derive(Debug, thiserror::Error)]
#[error("as the test wants")]
struct AsWanted;

impl Role for Doomed {
    const NAME: &'static str = "doomed";

    type Config = (Doom, mpsc::Sender<()>);
    type Error = AsWanted;

    async fn start((doom, alive): Self::Config, context: Context) -> Result<Self, AsWanted> {
        context.tasks.spawn("background", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        if doom == Doom::Start {
            return Err(AsWanted);
        }
        context.tasks.spawn_vital("accept", async {});
        Ok(Self(context))
    }

    fn listeners(&self) -> Vec<Listener> {
        Vec::new()
    }

    async fn reload(&mut self, _: Self::Config) -> Result<(), AsWanted> {
        Ok(())
    }

    async fn stop(self) {
        self.0.tasks.stop(std::time::Duration::ZERO).await;
    }
}

async fn run_doomed(doom: Doom) -> RunError {
    let (alive, mut background) = mpsc::channel(1);
    let setup = Setup {
        config: (doom, alive),
        reread: Box::new(|| Err("nobody reloads here".into())),
        ops: TcpListen::on(SocketAddr::from(([127, 0, 0, 1], 0))),
        context: Context::new("doomed", "0"),
        notify: Notify::none(),
    };
    let error = run::<Doomed>(setup).await.unwrap_err();
    assert_eq!(background.recv().await, None, "the role's tasks have ended");
    error
}

#[tokio::test]
async fn a_role_that_cannot_start_says_why_and_leaves_no_task() {
    let error = run_doomed(Doom::Start).await;
    assert_eq!(error.to_string(), "doomed could not start");
    assert!(error.source().unwrap().is::<AsWanted>());
}

#[tokio::test]
async fn a_role_that_loses_a_vital_task_stops_with_an_error() {
    let error = run_doomed(Doom::VitalTask).await;
    assert!(matches!(error, RunError::VitalTask { task: "accept", .. }), "{error}");
}

#[tokio::test]
async fn a_taken_operations_port_is_an_error_before_the_role_starts() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (alive, _background) = mpsc::channel(1);
    let setup = Setup {
        config: (Doom::Start, alive),
        reread: Box::new(|| Err("nobody reloads here".into())),
        ops: TcpListen::on(taken.local_addr().unwrap()),
        context: Context::new("doomed", "0"),
        notify: Notify::none(),
    };
    let error = run::<Doomed>(setup).await.unwrap_err();
    assert!(matches!(error, RunError::Ops(_)), "{error}");
}
