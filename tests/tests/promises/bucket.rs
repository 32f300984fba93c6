//! Blobs are kept in a bucket, and edges fetch them there.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use nigh_bucket::{
    PART_BYTES,
    server::{Fault, Server},
};
use nigh_testkit::{
    Visitor,
    tree::{self, SampleSite},
};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder, noise},
    eventually,
    patience::SOON,
};
use tempfile::TempDir;

/// A fleet of two edges whose blobs are in a bucket.
struct Bucketed {
    server: Server,
    cdn: Cdn,
    _dir: TempDir,
}

impl Bucketed {
    async fn start(more: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = Server::start(dir.path()).await?;
        let toml = format!("{}{more}", bucket_toml(&server));
        let cdn = Cdn::of(fleet(2).control_config(&toml)?).await?;
        Ok(Self { server, cdn, _dir: dir })
    }

    /// The value of one of control's metrics.
    async fn metric(&self, name: &str) -> Result<u64> {
        let listeners = self.cdn.fleet.control().listeners();
        let ops = listeners.get("ops").context("control's pages")?;
        let text = Visitor::http("localhost", ops)?.get("/metrics").await?.text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.split(' ').nth(1)).context("no such metric")?;
        Ok(value.parse()?)
    }
}

/// How control reaches the bucket.
pub(crate) fn bucket_toml(server: &Server) -> String {
    format!(
        "[blobs]\nbucket = {:?}\nendpoint = {:?}\npath_style = true\ncredentials_file = {:?}\n",
        server.config().name,
        server.endpoint(),
        server.credentials_file().display().to_string(),
    )
}

/// A site with many small files and a large one; how many bytes it has.
fn site(dir: &Path) -> Result<u64> {
    SampleSite::pages(80).write(dir)?;
    let noise: Vec<u8> =
        (0..3_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    tree::write(dir, "film.bin", &noise)?;
    tree::write(dir, "empty.txt", b"")?;
    bytes_below(dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_fetch_from_the_bucket_and_control_sends_next_to_nothing() -> Result<()> {
    let fleet = Bucketed::start("").await?;
    let dir = tempfile::tempdir()?;
    let bytes = site(dir.path())?;

    fleet.cdn.push(dir.path()).await?;

    fleet.cdn.serves(dir.path()).await?;
    assert!(fleet.server.gets() > 2, "{} objects were read", fleet.server.gets());
    let sent = fleet.metric("nigh_control_blobs_sent_bytes_total").await?;
    assert!(sent * 20 < bytes, "control sent {sent} bytes of {bytes} to each of two edges");
    // The next push finds everything there.
    let again = fleet.cdn.push(dir.path()).await?;
    assert_eq!(again.bytes_sent, 0);
    fleet.cdn.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_that_the_bucket_refuses_are_served_by_control() -> Result<()> {
    // A folder that forgets at once, so that control itself has to read from the bucket.
    let fleet = Bucketed::start("cache_bytes = 1").await?;
    fleet.server.set_fault(Fault::NoUrls);
    let dir = tempfile::tempdir()?;
    let bytes = site(dir.path())?;

    fleet.cdn.push(dir.path()).await?;

    fleet.cdn.serves(dir.path()).await?;
    assert!(fleet.metric("nigh_control_blobs_sent_bytes_total").await? > bytes / 2);
    fleet.cdn.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_never_notice_that_the_bucket_is_gone_and_pushes_say_so() -> Result<()> {
    let fleet = Bucketed::start("").await?;
    let (first, second) =
        (folder(&[("index.html", "first")])?, folder(&[("index.html", "second")])?);
    fleet.cdn.push(first.path()).await?;
    fleet.server.set_fault(Fault::Gone);

    let second_dir = second.path().display().to_string();
    let push = ["push", &second_dir, "--site", "docs", "--timeout", "8s", "--json"];
    let failed = fleet.cdn.person.run(&push).await?;
    assert_ne!(failed.code, Some(0), "{}", failed.stdout);
    assert!(
        failed.stderr.contains("bucket") || failed.stdout.contains("bucket"),
        "{}{}",
        failed.stdout,
        failed.stderr
    );
    fleet.cdn.serves(first.path()).await?;
    eventually("status says that the bucket cannot be used", SOON, async || {
        let status = fleet.cdn.fleet.client().status().await?;
        let bucket = status.bucket.context("there is a bucket")?;
        anyhow::ensure!(!bucket.is_usable && !status.warnings.is_empty(), "{bucket:?}");
        Ok(())
    })
    .await;

    fleet.server.set_fault(Fault::None);
    fleet.cdn.push(second.path()).await?;
    fleet.cdn.serves(second.path()).await?;
    fleet.cdn.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_bucket_that_fails_now_and_then_only_takes_longer() -> Result<()> {
    let fleet = Bucketed::start("").await?;
    let dir = folder(&[("index.html", "hello"), ("about.html", "about")])?;
    fleet.server.fail(Fault::Slow(Duration::from_millis(300)), 6);
    fleet.cdn.push(dir.path()).await?;
    fleet.cdn.serves(dir.path()).await?;
    let more = folder(&[("index.html", "hello again"), ("about.html", "about")])?;
    fleet.server.fail(Fault::SlowDown, 2);
    fleet.cdn.push(more.path()).await?;
    fleet.cdn.serves(more.path()).await?;
    fleet.cdn.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_lost_come_back_from_whoever_has_their_blobs() -> Result<()> {
    let mut fleet = Bucketed::start("").await?;
    let dir = folder(&[("index.html", "front"), ("about.html", "about")])?;
    fleet.cdn.push(dir.path()).await?;
    for pack in packs(&fleet.server).await? {
        fleet.server.lose(&pack).await?;
    }
    // An edge that has to fetch everything anew finds nothing in the bucket, and says so.
    fleet.cdn.kill("nyc").await?;
    fs::remove_dir_all(fleet.cdn.fleet.machine_dir("nyc").join("blobs"))?;
    fleet.cdn.restart("nyc").await?;
    eventually("the edge serves what control still has", SOON, async || {
        fleet.cdn.serves(dir.path()).await
    })
    .await;

    let more = folder(&[("index.html", "front"), ("about.html", "about"), ("new.html", "new")])?;
    fleet.cdn.push(more.path()).await?;
    fleet.cdn.serves(more.path()).await?;
    // Both objects of the first push, and both of the second.
    eventually("what was lost is in the bucket again", SOON, async || {
        let found = packs(&fleet.server).await?.len();
        anyhow::ensure!(found >= 3, "{found} objects");
        Ok(())
    })
    .await;
    fleet.cdn.fleet.stop().await
}

fn bytes_below(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

async fn packs(server: &Server) -> Result<Vec<String>> {
    let mut names = server.names().await?;
    names.retain(|name| name.starts_with("packs/"));
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn control_may_be_killed_in_the_middle_of_a_large_object() -> Result<()> {
    const PARTS: u64 = 7;
    let mut fleet = Bucketed::start("").await?;
    let dir = folder(&[("index.html", "a film")])?;
    let film = noise(1, ((PARTS - 1) * PART_BYTES) as usize + 12_345);
    tree::write(dir.path(), "film.mp4", &film)?;
    // Four parts are on their way at once: when seven have come in, three have been noted.
    fleet.server.set_fault(Fault::HeldParts(3));
    let text = dir.path().display().to_string();
    let push = ["push", &text, "--site", SITE, "--wait", "none"];
    let pushing = fleet.cdn.person.start(&push)?;
    fleet.server.has_parts(PARTS, SOON).await?;

    fleet.cdn.fleet.control_mut().kill().await?;
    let before = fleet.server.parts();
    fleet.server.set_fault(Fault::None);
    fleet.cdn.fleet.control_mut().start().await?;
    drop(pushing.end().await?);
    fleet.cdn.push(dir.path()).await?;

    fleet.cdn.serves(dir.path()).await?;
    assert_eq!(fleet.server.parts() - before, PARTS - 3, "three of seven parts were there");
    let films =
        fleet.server.names().await?.iter().filter(|name| name.starts_with("blobs/")).count();
    assert_eq!(films, 1);
    if fleet.server.kind().lists_uploads() {
        assert_eq!(fleet.server.uploads().await?, []);
    }
    fleet.cdn.fleet.stop().await
}

/// What the bucket does. A push has to fail, and to say why, but while it is only slow.
const TROUBLES: [Fault; 6] = [
    Fault::Slow(Duration::from_millis(200)),
    Fault::SlowDown,
    Fault::Internal,
    Fault::Denied,
    Fault::Clock,
    Fault::Gone,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_visitor_is_answered_whatever_the_bucket_does() -> Result<()> {
    let mut fleet = Bucketed::start("").await?;
    let page = |number: usize| format!("page {number}");
    let dir = folder(&[("index.html", &page(0))])?;
    fleet.cdn.push(dir.path()).await?;
    let crowd = Crowd::visit(&fleet.cdn)?;

    for (number, fault) in TROUBLES.into_iter().enumerate() {
        tree::write(dir.path(), "index.html", page(number + 1).as_bytes())?;
        fleet.server.set_fault(fault);
        let text = dir.path().display().to_string();
        let push = ["push", &text, "--site", SITE, "--timeout", "4s", "--json"];
        let pushed = fleet.cdn.person.run(&push).await?;
        if number > 0 {
            assert_ne!(pushed.code, Some(0), "{fault:?}: {}", pushed.stdout);
            let said = format!("{}{}", pushed.stdout, pushed.stderr);
            assert!(said.contains("bucket"), "{fault:?}: {said}");
        }
    }
    // An edge that starts while the bucket is gone has all it needs.
    fleet.cdn.kill("nyc").await?;
    fleet.cdn.restart("nyc").await?;
    assert!(fleet.cdn.text("nyc", "/").await?.starts_with("page "));
    // The bucket comes back without anything that was in it.
    fleet.server.set_fault(Fault::None);
    for name in packs(&fleet.server).await? {
        fleet.server.lose(&name).await?;
    }
    tree::write(dir.path(), "index.html", b"page 99")?;
    fleet.cdn.push(dir.path()).await?;
    fleet.cdn.serves(dir.path()).await?;

    let seen = crowd.leave().await?;
    assert!(seen.answered > 100, "{seen:?}");
    assert_eq!(seen.wrong, Vec::<String>::new(), "of {} answers", seen.answered);
    fleet.cdn.fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn control_refuses_a_bucket_of_another_fleet_and_touches_nothing_in_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    server.plant("nigh-fleet.json", r#"{"format":1,"fleet":"somebody-else"}"#).await?;
    server.plant("packs/000000000001-abababababababab", "theirs").await?;
    let before = server.names().await?;

    let refused = Cdn::of(fleet(0).dns_servers(0).control_config(&bucket_toml(&server))?).await;

    let error = format!("{:#}", refused.err().context("control started")?);
    assert!(error.contains("another fleet, somebody-else"), "{error}");
    assert!(error.contains("blobs.bucket"), "{error}");
    assert_eq!(server.names().await?, before);
    Ok(())
}

/// Visitors of one edge, who come back all the time.
struct Crowd {
    leaving: Arc<AtomicBool>,
    visitors: Vec<tokio::task::JoinHandle<Seen>>,
}

/// What visitors were answered.
#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    wrong: Vec<String>,
}

impl Crowd {
    fn visit(cdn: &Cdn) -> Result<Self> {
        let leaving = Arc::<AtomicBool>::default();
        let visitors = (0..3).map(|_| {
            let (visitor, leaving) = (cdn.visitor("fra")?, Arc::clone(&leaving));
            Ok::<_, anyhow::Error>(tokio::spawn(async move {
                let mut seen = Seen::default();
                while !leaving.load(Ordering::Relaxed) {
                    match visitor.get("/").await {
                        Ok(visit) if visit.status == 200 && visit.text().starts_with("page ") => {}
                        Ok(visit) => seen.wrong.push(format!("{}: {}", visit.status, visit.text())),
                        Err(error) => seen.wrong.push(format!("{error:#}")),
                    }
                    seen.answered += 1;
                    // Not to take from the fleet what it runs on.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                seen
            }))
        });
        Ok(Self { visitors: visitors.collect::<Result<_>>()?, leaving })
    }

    /// All answers of all visitors.
    async fn leave(self) -> Result<Seen> {
        self.leaving.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for visitor in self.visitors {
            let seen = visitor.await?;
            all.answered += seen.answered;
            all.wrong.extend(seen.wrong);
        }
        Ok(all)
    }
}
