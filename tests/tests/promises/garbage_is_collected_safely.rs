//! Blobs that nothing needs go, on control and on edges; nothing that is needed ever does.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, noise},
    eventually, vault,
};

const CONTROL: &str = "[blobs]\ncollect_interval_ms = 300\ncollect_young_ms = 1000\n\
                       [sites]\ngrace_ms = 500\n[variants]\nenabled = false";
const EDGE: &str = "[storage]\ncollect_every_ms = 300\ncollect_young_ms = 1000";
const ROUNDS: u64 = 8;

fn bytes_in(store: &Path) -> Result<u64> {
    let sizes = vault::files(store)?.into_iter().filter_map(|file| fs::metadata(file).ok());
    Ok(sizes.map(|data| data.len()).sum())
}

async fn shrinks(store: &Path, below: u64) {
    eventually(format!("{} shrinks", store.display()), Duration::from_secs(30), async || {
        let bytes = bytes_in(store)?;
        ensure!(bytes < below, "{bytes} bytes, not below {below}");
        Ok(())
    })
    .await;
}

/// A few small files and a large one that only this round has, and one that all rounds have.
fn write(dir: &Path, round: u64) -> Result<()> {
    tree::write(dir, "always.bin", &noise(0, 300 << 10))?;
    for file in 0..6 {
        tree::write(dir, &format!("{file}.bin"), &noise(round * 100 + file + 1, 100 << 10))?;
    }
    tree::write(dir, "large.bin", &noise(round * 100 + 99, 3 << 19))
}

#[tokio::test]
async fn deleted_releases_leave_no_blobs_and_live_ones_lose_none() -> Result<()> {
    let cdn = Cdn::of(fleet(1).control_config(CONTROL)?.edge_config(EDGE)?).await?;
    let dir = tempfile::tempdir()?;
    for round in 1..=ROUNDS {
        write(dir.path(), round)?;
        cdn.push(dir.path()).await?;
        cdn.serves(dir.path()).await?;
        cdn.person.json(&["release", "prune", "--keep", "0", "--site", SITE]).await?;
    }
    let one_release: u64 = 3 << 20;

    let stores = [vault::of_control(&cdn.fleet), vault::of_machine(&cdn.fleet, "fra")];
    for store in &stores {
        shrinks(store, 2 * one_release).await;
    }

    cdn.serves(dir.path()).await?;
    let live = tree::contents(dir.path())?;
    cdn.fleet.control_dir();
    let Cdn { mut fleet, .. } = cdn;
    fleet.machine_mut("fra")?.process.stop().await?;
    fleet.control_mut().stop().await?;
    for store in &stores {
        let whole = vault::verify(store)?;
        for (path, digest) in &live {
            assert!(whole.contains(digest), "{path} is not in {}", store.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_push_that_takes_long_keeps_what_it_has_sent() -> Result<()> {
    let cdn = Cdn::of(fleet(1).control_config(CONTROL)?).await?;
    let dir = tempfile::tempdir()?;
    write(dir.path(), 1)?;
    let api = cdn.fleet.control().listeners().get("api").expect("control has an API");
    let hold = nigh_tests::proxy::Line::HoldAfter(1 << 20);
    let proxy = nigh_tests::proxy::Proxy::to(api, hold).await?;
    let person = cdn.person.with("NIGH_API_URL", proxy.api_url());
    let push = person.start(&["push", &dir.path().to_string_lossy(), "--site", SITE, "--json"])?;
    proxy.has_sent(1 << 20, Duration::from_secs(30)).await?;

    // Other releases come and go, and collections with them, while this one is under way.
    let other = tempfile::tempdir()?;
    for round in 2..6 {
        write(other.path(), round)?;
        cdn.push(other.path()).await?;
        cdn.person.json(&["release", "prune", "--keep", "0", "--site", SITE]).await?;
    }
    proxy.set(nigh_tests::proxy::Line::Open);

    let run = push.end().await?;
    run.expect(0);
    cdn.serves(dir.path()).await?;
    cdn.fleet.stop().await
}
