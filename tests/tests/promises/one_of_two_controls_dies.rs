//! One of two controls may die in the middle of a push: the push ends well, and nobody notices when it
//! comes back.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use nigh_bucket::server::Server;
use nigh_proto::api::ReleaseState;
use nigh_testkit::{Visitor, postgres::DatabaseKind, tree};
use nigh_tests::{
    Cdn, Person,
    cdn::{SITE, fleet, folder, noise},
    eventually,
    patience::SOON,
    person::Running,
    proxy::{Line, Proxy},
};
use tempfile::TempDir;

/// More than one part of an upload.
const LARGE_BYTES: usize = 24 << 20;
/// Within the second part.
const HOLD_AFTER: u64 = 18 << 20;

/// Two controls on one PostgreSQL with one bucket, and two edges that know both.
struct Pair {
    cdn: Cdn,
    _server: Server,
    _dir: TempDir,
}

impl Pair {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = Server::start(dir.path()).await?;
        let fleet = fleet(2)
            .database(DatabaseKind::Postgres)
            .controls(2)
            .control_config(&crate::bucket::bucket_toml(&server))?;
        Ok(Self { cdn: Cdn::of(fleet).await?, _server: server, _dir: dir })
    }

    /// Which of the two leads.
    async fn leader(&self) -> usize {
        eventually("one of two controls leads", SOON, async || {
            for (index, control) in self.cdn.fleet.controls().iter().enumerate() {
                let ops = control.listeners().get("ops").context("control's pages")?;
                // One that was killed has no pages.
                let Ok(page) = Visitor::http("localhost", ops)?.get("/metrics").await else {
                    continue;
                };
                if page.text().lines().any(|line| line == "nigh_control_leader 1") {
                    return Ok(index);
                }
            }
            anyhow::bail!("neither")
        })
        .await
    }

    fn api(&self, control: usize) -> Result<std::net::SocketAddr> {
        let listeners = self.cdn.fleet.controls()[control].listeners();
        listeners.get("api").context("control has an API")
    }

    /// Somebody who knows of these addresses, in this order.
    fn person(&self, urls: &[String]) -> Person {
        self.cdn.person.with("NIGH_API_URL", urls.join(", "))
    }

    fn url(&self, control: usize) -> Result<String> {
        Ok(format!("https://{}", self.api(control)?))
    }

    /// Edges start anew and ask these controls, in this order.
    async fn edges_know(&mut self, controls: &[usize]) -> Result<()> {
        let urls = controls.iter().map(|&control| {
            let listeners = self.cdn.fleet.controls()[control].listeners();
            let machines = listeners.get("machines").context("control's port for machines")?;
            Ok(format!("\"https://{machines}\""))
        });
        let urls = urls.collect::<Result<Vec<_>>>()?.join(", ");
        for edge in self.cdn.edges() {
            self.cdn.reconfigure(&edge, &format!("[control]\nurl = [{urls}]")).await?;
        }
        Ok(())
    }

    async fn kill(&mut self, control: usize) -> Result<()> {
        self.cdn.fleet.controls_mut()[control].kill().await
    }

    /// The state of the newest release, as `control` sees it.
    async fn newest(&self, control: usize) -> Result<ReleaseState> {
        let client = self.cdn.fleet.client_of(control)?;
        let releases = client.releases(&self.cdn.site(), Some(1)).await?;
        Ok(releases.first().context("nothing was begun")?.state)
    }

    async fn is_staging(&self, control: usize) {
        eventually("the release is finalized and waits for a leader", 3 * SOON, async || {
            let state = self.newest(control).await?;
            ensure!(state == ReleaseState::Staging, "it is {}", state.label());
            Ok(())
        })
        .await;
    }

    /// The push ends well, and every edge serves what was pushed.
    async fn ends_well(&self, push: Running, dir: &Path) -> Result<()> {
        let run = push.end().await?.expect(0);
        let pushed = run.json()?;
        assert_eq!(pushed["state"], "active", "{pushed}");
        self.cdn.serves(dir).await
    }

    /// The killed control comes back and is as good as the other.
    async fn comes_back(mut self, control: usize) -> Result<()> {
        self.cdn.fleet.controls_mut()[control].start().await?;
        self.cdn.fleet.all_current().await?;
        let dir = folder(&[("index.html", "through the one that came back")])?;
        self.person(&[self.url(control)?]).push(SITE, dir.path()).await?;
        self.cdn.serves(dir.path()).await?;
        self.cdn.fleet.stop().await
    }
}

fn push(person: &Person, dir: &Path) -> Result<Running> {
    person.start(&["push", &dir.to_string_lossy(), "--site", SITE, "--json"])
}

/// The control that the command talks to dies while a large file is on its way.
async fn dies_during_the_upload(is_leader: bool) -> Result<()> {
    let mut pair = Pair::start().await?;
    let leader = pair.leader().await;
    let (dying, other) = if is_leader { (leader, 1 - leader) } else { (1 - leader, leader) };
    let proxy = Proxy::to(pair.api(dying)?, Line::HoldAfter(HOLD_AFTER)).await?;
    let person = pair.person(&[proxy.api_url(), pair.url(other)?]);
    let dir = tempfile::tempdir()?;
    tree::write(dir.path(), "index.html", b"<h1>a film</h1>")?;
    tree::write(dir.path(), "film.mp4", &noise(5, LARGE_BYTES))?;
    let push = push(&person, dir.path())?;
    proxy.has_sent(HOLD_AFTER, Duration::from_secs(60)).await?;
    assert_eq!(pair.newest(other).await?, ReleaseState::Uploading);

    pair.kill(dying).await?;
    proxy.set(Line::CutAfter(0));

    pair.ends_well(push, dir.path()).await?;
    pair.comes_back(dying).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_while_a_file_is_uploaded_to_it() -> Result<()> {
    dies_during_the_upload(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_than_the_leader_dies_while_a_file_is_uploaded_to_it() -> Result<()> {
    dies_during_the_upload(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_while_edges_stage_what_the_other_was_given() -> Result<()> {
    let mut pair = Pair::start().await?;
    let leader = pair.leader().await;
    let dir = folder(&[("index.html", "staged"), ("about.html", "about")])?;
    pair.edges_know(&[1 - leader, leader]).await?;
    pair.cdn.fleet.all_current().await?;
    // Nothing goes live while the leader hangs.
    pair.cdn.fleet.controls()[leader].pause()?;
    let person = pair.person(&[pair.url(1 - leader)?, pair.url(leader)?]);
    let push = push(&person, dir.path())?;
    pair.is_staging(1 - leader).await;

    pair.kill(leader).await?;

    pair.ends_well(push, dir.path()).await?;
    assert_eq!(pair.leader().await, 1 - leader);
    pair.comes_back(leader).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_that_was_pushed_to_dies_while_edges_stage() -> Result<()> {
    let mut pair = Pair::start().await?;
    let leader = pair.leader().await;
    let dir = folder(&[("index.html", "staged"), ("about.html", "about")])?;
    pair.edges_know(&[1 - leader, leader]).await?;
    pair.cdn.fleet.all_current().await?;
    pair.cdn.fleet.controls()[leader].pause()?;
    let person = pair.person(&[pair.url(1 - leader)?, pair.url(leader)?]);
    let push = push(&person, dir.path())?;
    pair.is_staging(1 - leader).await;

    pair.kill(1 - leader).await?;
    pair.cdn.fleet.controls()[leader].resume()?;

    pair.ends_well(push, dir.path()).await?;
    pair.comes_back(1 - leader).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_that_hangs_is_passed_over_by_commands_and_machines() -> Result<()> {
    let mut pair = Pair::start().await?;
    let leader = pair.leader().await;
    let hanging = 1 - leader;
    // It accepts connections and says nothing.
    pair.cdn.fleet.controls()[hanging].pause()?;
    pair.edges_know(&[hanging, leader]).await?;
    let dir = folder(&[("index.html", "past the one that hangs")])?;
    let person = pair.person(&[pair.url(hanging)?, pair.url(leader)?]);
    eventually("both edges are with the other", 3 * SOON, async || {
        let machines = pair.cdn.fleet.client_of(leader)?.machines(None).await?;
        ensure!(machines.iter().all(|machine| machine.is_connected), "not yet");
        Ok(())
    })
    .await;
    let push = push(&person, dir.path())?;
    pair.ends_well(push, dir.path()).await?;
    pair.cdn.fleet.controls()[hanging].resume()?;
    pair.cdn.fleet.stop().await
}
