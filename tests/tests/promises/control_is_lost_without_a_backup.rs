//! A control that lost everything takes over what its machines hold, while visitors come; and until
//! somebody says so, nothing is taken from anybody.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use nigh_proto::api::NewSite;
use nigh_testkit::{
    Visitor,
    config::ZONE,
    postgres::DatabaseKind,
    tree::{self, SampleSite},
};
use nigh_tests::{
    Cdn, Person,
    cdn::{fleet, folder, noise},
    eventually,
};
use tokio::task::JoinHandle;

/// Machines wait up to a minute between two tries with a control that they do not know.
const LONG: Duration = Duration::from_secs(120);

/// A fleet whose machines know control by their join tokens alone.
async fn cdn(edges: usize) -> Result<Cdn> {
    let nowhere = "[control]\nca_file = \"/nowhere/ca.pem\"";
    let fleet = fleet(edges).database(DatabaseKind::Sqlite);
    Cdn::of(fleet.edge_config(nowhere)?.dns_config(nowhere)?).await
}

/// Control is lost with all it knew; one that knows nothing is in its place. People trust both CAs.
async fn lose_control(cdn: &mut Cdn) -> Result<()> {
    let old_ca = fs::read_to_string(cdn.fleet.ca_file())?;
    cdn.fleet.lose_control().await?;
    cdn.person = Person::of(&cdn.fleet)?;
    let both = format!("{}{old_ca}", fs::read_to_string(cdn.fleet.ca_file())?);
    fs::write(cdn.fleet.ca_file(), both)?;
    Ok(())
}

/// Puts a token of the new control into the token file of every machine.
async fn let_in(cdn: &Cdn, role: &str, name: &str) -> Result<()> {
    let file = cdn.fleet.join_token_file(name);
    let line = [role, "token", name, "--out", &*file.to_string_lossy()];
    cdn.person.run(&line).await?.expect(0);
    Ok(())
}

async fn are_held(cdn: &Cdn, machines: usize) {
    eventually(format!("{machines} machines are held"), LONG, async || {
        let view = cdn.fleet.client().takeover().await?;
        ensure!(view.machines.len() == machines, "{:?}", view.machines);
        Ok(())
    })
    .await;
}

/// Somebody who visits again and again, and counts.
struct Audience {
    is_over: Arc<AtomicBool>,
    visits: JoinHandle<(u64, Vec<String>)>,
}

impl Audience {
    fn of(visitors: Vec<(Visitor, &'static str, &'static str)>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let visits = tokio::spawn(async move {
            let (mut total, mut failures) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                for (visitor, path, text) in &visitors {
                    total += 1;
                    match visitor.get(path).await {
                        Ok(visit) if visit.status == 200 && visit.text().contains(text) => {}
                        Ok(visit) => {
                            failures.push(format!("{path}: {} {}", visit.status, visit.text()))
                        }
                        Err(error) => failures.push(format!("{path}: {error:#}")),
                    }
                }
                // Visitors leave some of this machine to the fleet.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (total, failures)
        });
        Self { is_over, visits }
    }

    async fn end(self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let (total, failures) = self.visits.await?;
        let first: Vec<_> = failures.iter().take(5).collect();
        ensure!(failures.is_empty(), "{} of {total} visits failed: {first:?}", failures.len());
        Ok(total)
    }
}

#[tokio::test]
async fn an_empty_control_takes_everything_over_from_its_machines_while_visitors_come() -> Result<()>
{
    let mut cdn = cdn(2).await?;
    let (docs, blog) = (tempfile::tempdir()?, folder(&[("index.html", "a blog")])?);
    SampleSite::pages(30).write(docs.path())?;
    tree::write(docs.path(), "stays.txt", b"it stays")?;
    tree::write(docs.path(), "game.patch", &noise(7, 9 << 20))?;
    let before = cdn.push(docs.path()).await?;
    let hosts = vec!["blog.example".parse()?];
    cdn.fleet.client().create_site(&NewSite { name: "blog".parse()?, hosts }).await?;
    cdn.person.push("blog", blog.path()).await?;
    tree::write(docs.path(), "index.html", b"after")?;
    let active = cdn.push(docs.path()).await?;

    let mut visitors = Vec::new();
    for edge in cdn.edges() {
        visitors.push((cdn.visitor(&edge)?, "/stays.txt", "it stays"));
        visitors.push((cdn.visitor(&edge)?, "/", "after"));
        visitors.push((cdn.fleet.visitor(&format!("blog.{ZONE}"), &edge)?, "/", "a blog"));
        visitors.push((cdn.fleet.visitor("blog.example", &edge)?, "/", "a blog"));
    }
    let audience = Audience::of(visitors);
    let answers = cdn.answers("198.51.100.0/24").await?;

    lose_control(&mut cdn).await?;
    for (role, name) in [("edge", "fra"), ("edge", "nyc"), ("dns", "ns1")] {
        let_in(&cdn, role, name).await?;
    }
    are_held(&cdn, 3).await;
    let status = cdn.person.run(&["status"]).await?.expect(0);
    for part in ["fra, ns1, nyc hold 2 sites", "--from-edges", "--drop", "held"] {
        ensure!(status.stdout.contains(part), "{part}: {status}");
    }
    let events = cdn.person.json(&["api", "GET", "/v1/events?kind=machine_held"]).await?;
    ensure!(events["items"].as_array().is_some_and(|items| items.len() == 3), "{events}");
    ensure!(cdn.answers("198.51.100.0/24").await? == answers, "DNS answers as before");

    let shown = cdn.person.run(&["restore", "--from-edges", "--dry-run"]).await?.expect(0);
    ensure!(shown.stdout.contains("2 sites (blog, docs)"), "{shown}");
    ensure!(cdn.fleet.client().sites().await?.is_empty(), "nothing is done yet");
    let taken = cdn.person.run(&["restore", "--from-edges"]).await?.expect(0);
    for part in
        ["taken over from", "2 sites (blog, docs)", "lost: API tokens", "gave back every file"]
    {
        ensure!(taken.stdout.contains(part), "{part}: {taken}");
    }
    cdn.fleet.all_current().await?;
    ensure!(cdn.active().await?.as_str() == active.release, "it is the same release");
    let again = cdn.person.run(&["restore", "--from-edges"]).await?.expect(0);
    ensure!(again.stdout.contains("nothing to take over"), "{again}");
    let log = cdn.person.run(&["audit", "--verb", "fleet.take_over"]).await?.expect(0);
    ensure!(log.stdout.contains("fleet.take_over"), "{log}");
    eventually("the files are counted", LONG, async || {
        let site = cdn.fleet.client().site(&cdn.site()).await?;
        ensure!(site.files_total == before.files_total && site.bytes_total > 9 << 20, "{site:?}");
        Ok(())
    })
    .await;
    ensure!(cdn.answers("198.51.100.0/24").await? == answers, "DNS answers as before");
    // Keys of certificates are sealed here as they were there.
    let key = "PRIVATE KEY".as_bytes();
    for file in ["control.db", "control.db-wal"] {
        let bytes = fs::read(cdn.fleet.control_dir().join(file)).unwrap_or_default();
        ensure!(!bytes.windows(key.len()).any(|window| window == key), "a key lies open in {file}");
    }
    let total = audience.end().await?;
    ensure!(total > 100, "only {total} visits");

    // Life goes on: what is there is not sent again, and what was live before can be.
    tree::write(docs.path(), "index.html", b"once more")?;
    let pushed = cdn.push(docs.path()).await?;
    ensure!(pushed.files_new == 1 && pushed.bytes_sent < 1 << 20, "{pushed:?}");
    cdn.serves(docs.path()).await?;
    cdn.person.run(&["rollback", &before.release, "--site", "docs"]).await?.expect(0);
    let first = tree::contents(docs.path())?.len();
    ensure!(first as u64 == before.files_total, "the same files");

    // A new machine gets everything from this control and its peers.
    cdn.kill("nyc").await?;
    fs::remove_dir_all(cdn.fleet.machine_dir("nyc"))?;
    let_in(&cdn, "edge", "nyc").await?;
    cdn.restart("nyc").await?;
    cdn.fleet.all_current().await?;
    eventually("nyc serves what it never had", LONG, async || {
        ensure!(cdn.text("nyc", "/stays.txt").await? == "it stays", "it shows something else");
        let blog = cdn.fleet.visitor(&format!("blog.{ZONE}"), "nyc")?.get("/").await?;
        ensure!(blog.text() == "a blog", "{}", blog.text());
        Ok(())
    })
    .await;
    cdn.fleet.stop().await
}

async fn is_served(visitor: &Visitor) -> Result<()> {
    let visit = visitor.get("/").await?;
    ensure!(visit.status == 200 && visit.text() == "it is served", "{}", visit.status);
    Ok(())
}

#[tokio::test]
async fn a_control_that_knows_nothing_takes_nothing_away_until_it_is_told_to() -> Result<()> {
    let mut cdn = cdn(1).await?;
    let dir = folder(&[("index.html", "it is served")])?;
    cdn.push(dir.path()).await?;
    // Somebody who trusts the lost control's CA, whatever becomes of it.
    let visitor = cdn.visitor("fra")?;
    lose_control(&mut cdn).await?;
    let_in(&cdn, "edge", "fra").await?;
    are_held(&cdn, 1).await;

    // Whatever is done here, and after a restart of either.
    let new = NewSite { name: "other".parse()?, hosts: Vec::new() };
    cdn.fleet.client().create_site(&new).await?;
    cdn.kill("fra").await?;
    cdn.restart("fra").await?;
    cdn.fleet.control_mut().kill().await?;
    cdn.fleet.control_mut().start().await?;
    are_held(&cdn, 1).await;
    eventually("fra serves on", LONG, async || is_served(&visitor).await).await;

    cdn.person.run(&["restore", "--from-edges", "--drop"]).await?.expect(2).says(&["--yes"]);
    eventually("fra serves on", LONG, async || is_served(&visitor).await).await;
    let line = ["restore", "--from-edges", "--drop", "--yes"];
    cdn.person.run(&line).await?.expect(0);
    eventually("fra has what this control says", LONG, async || {
        let visit = visitor.get("/").await;
        ensure!(!visit.is_ok_and(|visit| visit.status == 200), "it serves on");
        Ok(())
    })
    .await;
    let again = cdn.person.run(&line).await?.expect(0);
    ensure!(again.stdout.contains("no machine holds anything"), "{again}");
    cdn.fleet.stop().await
}
