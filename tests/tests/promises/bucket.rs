//! Blobs are kept in a bucket, and edges fetch them there.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use nigh_bucket::server::{Fault, Server};
use nigh_testkit::{
    Visitor,
    tree::{self, SampleSite},
};
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
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
        let toml = format!("{}{more}", bucket_toml(&server)?);
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

/// What control is told of a bucket on `server`.
pub(crate) fn bucket_toml(server: &Server) -> Result<String> {
    let config = server.config();
    let credentials = config.credentials_file.context("the server has credentials")?;
    Ok(format!(
        "[blobs]\nbucket = {:?}\nendpoint = {:?}\npath_style = true\ncredentials_file = {:?}\n",
        config.name,
        server.endpoint(),
        credentials.display().to_string(),
    ))
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
    fleet.server.fail(Fault::Slow(std::time::Duration::from_millis(300)), 6);
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
    for pack in packs(&fleet.server)? {
        fs::remove_file(pack)?;
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
        let found = packs(&fleet.server)?.len();
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

fn packs(server: &Server) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(server.objects().join("packs"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
