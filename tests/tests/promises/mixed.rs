//! A fleet of the last and the present protocol works, in either direction: real programs of both. The
//! older one is built from the history, which takes too long for every run: `tests/run --long` does it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nigh_proto::report::MachineRole;
use nigh_testkit::{Fleet, FleetBuilder, dig::Question, postgres::DatabaseKind, tree};
use nigh_tests::{
    Cdn, binary,
    cdn::{SITE, folder, noise},
    eventually,
    patience::SOON,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::visitors_resume_at_another_edge::a_session_goes_on;

/// Frankfurt, New York and Singapore: where somebody near each of [`EDGES`] is.
const NEAR: [&str; 3] = ["198.18.1.0/24", "192.0.2.0/24", "198.18.6.0/24"];
/// Who was answered before an edge left the answers has come by then.
const ON_THEIR_WAY: Duration = Duration::from_secs(1);
const EDGES: [&str; 3] = ["fra", "nyc", "sin"];
const MACHINES: [&str; 5] = ["fra", "nyc", "sin", "ns1", "ns2"];

/// Three edges and two DNS servers that run `machines`, and a control that runs `control`.
fn fleet(control: &std::path::Path, machines: &std::path::Path) -> FleetBuilder {
    let fleet = Fleet::builder(machines).edges(3).dns_servers(2).control_program(control);
    fleet.database(DatabaseKind::Sqlite)
}

/// A site whose page is `page`, with a file that edges bring each other in pieces.
fn site(page: &str, seed: u64) -> Result<tempfile::TempDir> {
    let dir = folder(&[("index.html", page), ("_headers", "/*\n  x-from: here\n")])?;
    tree::write(dir.path(), "game.patch", &noise(seed, 9 << 20))?;
    Ok(dir)
}

/// Waits until every edge serves `page`.
async fn everywhere(cdn: &Cdn, page: &str) {
    for edge in EDGES {
        cdn.shows(edge, "/", page).await;
    }
}

/// What a fleet does in a day: pushes, rollbacks, certificates, tickets and answers.
async fn a_day(cdn: &Cdn, name: &str) -> Result<()> {
    let (first, second) = (format!("hello one {name}"), format!("hello two {name}"));
    let dir = site(&first, 1)?;
    let before = cdn.push(dir.path()).await?;
    ensure!(before.live_on() == EDGES, "{before:?}");
    cdn.serves(dir.path()).await?;
    let dir = site(&second, 2)?;
    let after = cdn.push(dir.path()).await?;
    ensure!(after.live_on() == EDGES, "{after:?}");
    cdn.serves(dir.path()).await?;
    cdn.person.json(&["rollback", "--site", SITE]).await?;
    everywhere(cdn, &first).await;
    cdn.person.json(&["release", "activate", &after.release, "--site", SITE]).await?;
    everywhere(cdn, &second).await;

    // A host comes with a certificate that every edge has to be given and to prove.
    let host = format!("{name}.example");
    cdn.person.run(&["host", "add", &host, "--site", SITE]).await?.expect(0);
    for edge in EDGES {
        eventually(format!("{edge} has a certificate for {host}"), SOON, async || {
            let visit = cdn.fleet.visitor(&host, edge)?.get("/").await?;
            ensure!(visit.text() == second, "{}", visit.text());
            Ok(())
        })
        .await;
    }
    a_session_goes_on(cdn, "fra", "nyc", "-tls1_3").await;
    a_session_goes_on(cdn, "sin", "fra", "-tls1_2").await;

    for edge in EDGES {
        is_named(cdn, edge, true).await;
    }
    cdn.person.json(&["edge", "drain", "fra"]).await?;
    is_named(cdn, "fra", false).await;
    cdn.person.json(&["edge", "undrain", "fra"]).await?;
    is_named(cdn, "fra", true).await;
    cdn.fleet.all_current().await
}

/// Waits until every DNS server sends who is near `edge` there, or elsewhere.
async fn is_named(cdn: &Cdn, edge: &str, is_named: bool) {
    let near = EDGES.iter().position(|name| *name == edge).map_or(NEAR[0], |place| NEAR[place]);
    for server in cdn.fleet.dns_servers() {
        eventually(format!("{} names {edge}: {is_named}", server.name), SOON, async || {
            let question = Question::new(server.addr("dns")?, &cdn.host(), "A");
            let reply = question.seen_from(near).ask().await?;
            let (answers, address) = (reply.data("A"), cdn.address(edge)?);
            let is_so = answers.contains(&&*address) == is_named;
            ensure!(!answers.is_empty() && is_so, "{}", reply.text);
            Ok(())
        })
        .await;
    }
}

/// Every warning of `nigh status` about protocols.
async fn warnings(cdn: &Cdn) -> Result<Vec<String>> {
    let status = cdn.fleet.client().status().await?;
    Ok(status.warnings.into_iter().filter(|warning| warning.contains("protocol")).collect())
}

/// People everywhere who ask DNS for every visit, the other server when one does not answer, and count.
struct Audience {
    is_over: Arc<AtomicBool>,
    visits: JoinHandle<(u64, Vec<String>)>,
    total: watch::Receiver<u64>,
}

impl Audience {
    fn of(cdn: &Cdn) -> Result<Self> {
        let servers = cdn.fleet.dns_servers().iter().map(|server| server.addr("dns"));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let (host, ca) = (cdn.host(), fs::read(cdn.fleet.ca_file())?);
        let port = cdn.fleet.edge("fra")?.addr("https")?.port();
        let is_over = Arc::new(AtomicBool::new(false));
        let (stop, (counter, count)) = (Arc::clone(&is_over), watch::channel(0));
        let visit = async move |turn: usize| {
            let mut answer = Vec::new();
            for place in 0..servers.len() {
                let server = servers[(turn + place) % servers.len()];
                let near = NEAR[turn % NEAR.len()];
                let question = Question::new(server, &host, "A").seen_from(near);
                let Ok(reply) = question.ask().await else { continue };
                answer = reply.data("A").into_iter().map(str::to_owned).collect();
                if !answer.is_empty() {
                    break;
                }
            }
            let first = answer.first().context("no DNS server answers")?;
            let edge = (first.parse::<std::net::IpAddr>()?, port).into();
            let visitor = nigh_testkit::Visitor::https(&host, edge, &ca)?;
            let visit = visitor.get("/").await.with_context(|| format!("at {first}"))?;
            ensure!(visit.status == 200 && visit.text().starts_with("hello"), "{visit:?}");
            anyhow::Ok(())
        };
        let visits = tokio::spawn(async move {
            let mut failures = Vec::new();
            let mut total = 0;
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = visit(total).await {
                    failures.push(format!("visit {total}: {error:#}"));
                }
                total += 1;
                counter.send_replace(total as u64);
            }
            (total as u64, failures)
        });
        Ok(Self { is_over, visits, total: count })
    }

    /// Waits until some more have come.
    async fn go_on(&mut self) -> Result<()> {
        let now = *self.total.borrow();
        tokio::time::timeout(SOON, self.total.wait_for(|total| *total >= now + 5)).await??;
        Ok(())
    }

    async fn end(self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let (total, failures) = self.visits.await?;
        let first: Vec<_> = failures.iter().take(5).collect();
        ensure!(failures.is_empty(), "{} of {total} visits failed: {first:?}", failures.len());
        Ok(total)
    }
}

/// Has one machine run `program` as an operator would: out of the answers first when it is an edge.
async fn replace(cdn: &mut Cdn, name: &str, program: &std::path::Path) -> Result<()> {
    let is_edge = cdn.fleet.machine_mut(name)?.role == MachineRole::Edge;
    if is_edge {
        cdn.person.json(&["edge", "drain", name]).await?;
        is_named(cdn, name, false).await;
        tokio::time::sleep(ON_THEIR_WAY).await;
    }
    let process = &mut cdn.fleet.machine_mut(name)?.process;
    process.stop().await?;
    process.set_program(program);
    process.start().await?;
    cdn.fleet.all_current().await?;
    if is_edge {
        cdn.person.json(&["edge", "undrain", name]).await?;
        is_named(cdn, name, true).await;
    }
    Ok(())
}

async fn replace_control(cdn: &mut Cdn, program: &std::path::Path) -> Result<()> {
    let control = cdn.fleet.control_mut();
    control.stop().await?;
    control.set_program(program);
    control.start().await?;
    cdn.fleet.all_current().await
}

#[tokio::test]
#[ignore = "needs the program of the last protocol: tests/run --long"]
async fn machines_of_the_last_protocol_join_and_follow_a_new_control() -> Result<()> {
    let (last, here) = (binary::last(), binary::nigh());
    let cdn = Cdn::of(fleet(&here, &last)).await?;
    a_day(&cdn, "before").await?;
    let edges = cdn.person.json(&["edge", "list"]).await?;
    ensure!(edges["items"][0]["protocol"] == 1, "{edges}");
    let told = warnings(&cdn).await?.join("\n");
    ensure!(told.contains("fra, ns1, ns2, nyc, sin; upgrade them before control"), "{told}");

    cdn.person.json(&["ca", "rotate"]).await?;
    eventually("the new CA is the current one everywhere", 3 * SOON, async || {
        let ca = cdn.person.json(&["ca", "show"]).await?;
        ensure!(ca["authorities"][0]["stage"] == "current", "{ca}");
        Ok(())
    })
    .await;
    cdn.fleet.all_current().await?;
    a_day(&cdn, "after").await?;
    cdn.fleet.stop().await
}

#[tokio::test]
#[ignore = "needs the program of the last protocol: tests/run --long"]
async fn new_machines_join_and_follow_a_control_of_the_last_protocol() -> Result<()> {
    let (last, here) = (binary::last(), binary::nigh());
    let cdn = Cdn::of(fleet(&last, &here)).await?;
    a_day(&cdn, "new").await?;
    cdn.fleet.stop().await
}

#[tokio::test]
#[ignore = "needs the program of the last protocol: tests/run --long"]
async fn a_fleet_is_upgraded_machine_by_machine_and_no_visitor_notices() -> Result<()> {
    let (last, here) = (binary::last(), binary::nigh());
    let mut cdn = Cdn::of(fleet(&last, &last)).await?;
    a_day(&cdn, "old").await?;
    let mut audience = Audience::of(&cdn)?;
    audience.go_on().await?;
    replace_control(&mut cdn, &here).await?;
    for (round, name) in MACHINES.iter().enumerate() {
        audience.go_on().await?;
        replace(&mut cdn, name, &here).await?;
        // Old and new edges bring each other what is large.
        let page = format!("hello from round {round}");
        let dir = site(&page, 10 + round as u64)?;
        ensure!(cdn.push(dir.path()).await?.live_on() == EDGES);
        cdn.serves(dir.path()).await?;
    }
    cdn.person.json(&["rollback", "--site", SITE]).await?;
    everywhere(&cdn, "hello from round 3").await;
    let edges = cdn.person.json(&["edge", "list"]).await?;
    ensure!(edges["items"][0]["protocol"] == 2, "{edges}");
    ensure!(warnings(&cdn).await?.is_empty(), "{:?}", warnings(&cdn).await?);
    audience.go_on().await?;
    let total = audience.end().await?;
    println!("{total} visits, none failed");
    a_day(&cdn, "upgraded").await?;
    cdn.fleet.stop().await
}

/// Control's database is brought forward by an upgrade, so going back begins with the backup of before.
#[tokio::test]
#[ignore = "needs the program of the last protocol: tests/run --long"]
async fn control_goes_back_to_the_last_version_and_new_machines_stay_with_it() -> Result<()> {
    let (last, here) = (binary::last(), binary::nigh());
    let mut cdn = Cdn::of(fleet(&last, &last)).await?;
    let dir = site("hello before the upgrade", 1)?;
    cdn.push(dir.path()).await?;
    let backup = cdn.person.home().join("control.backup").to_string_lossy().into_owned();
    let made = cdn.person.program(&last).args(["backup", &backup]).output().await?;
    ensure!(made.status.success(), "{made:?}");

    replace_control(&mut cdn, &here).await?;
    for name in MACHINES {
        replace(&mut cdn, name, &here).await?;
    }
    let dir = site("hello after the upgrade", 2)?;
    cdn.push(dir.path()).await?;

    let mut audience = Audience::of(&cdn)?;
    audience.go_on().await?;
    // What a control of the last version says to the database of this one.
    let control = cdn.fleet.control_mut();
    control.stop().await?;
    control.set_program(&last);
    let refused = control.start().await.err().context("the old control took the new database")?;
    ensure!(refused.to_string().contains("newer"), "{refused}");
    let state = cdn.fleet.control_dir();
    let (key, ca) = (fs::read(state.join("secret.key"))?, fs::read(cdn.fleet.ca_file())?);
    fs::remove_dir_all(&state)?;
    fs::create_dir(&state)?;
    fs::write(cdn.fleet.ca_file(), ca)?;
    fs::write(state.join("secret.key"), key)?;
    let config = cdn.fleet.dir().join("config/control.toml").to_string_lossy().into_owned();
    let line = ["restore", &backup, "--config", &config];
    let restored = cdn.person.program(&last).args(line).output().await?;
    ensure!(restored.status.success(), "{restored:?}");
    cdn.fleet.control_mut().start().await?;
    cdn.fleet.all_current().await?;
    // It knows nothing of what was pushed since, and says what was live before.
    everywhere(&cdn, "hello before the upgrade").await;
    a_day(&cdn, "back").await?;
    audience.go_on().await?;
    replace_control(&mut cdn, &here).await?;
    a_day(&cdn, "forward").await?;
    let total = audience.end().await?;
    println!("{total} visits, none failed");
    cdn.fleet.stop().await
}
