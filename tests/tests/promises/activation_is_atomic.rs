//! A visitor of one edge never sees two releases in one page, an error, or an older release again.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use nigh_proto::Digest;
use nigh_testkit::{Visitor, tree};
use nigh_tests::{Cdn, cdn::fleet};

const RELEASES: u64 = 50;
/// Keep-alive connections to each edge.
const READERS: usize = 2;
const ASSETS: [&str; 3] = ["app.js", "style.css", "logo.svg"];

fn asset(name: &str, release: u64) -> String {
    format!("/* {name} of release {release} */")
}

/// As bundlers do it: other content, other name.
fn hashed(name: &str, content: &str) -> String {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let hash = &Digest::of(content.as_bytes()).to_string()[..12];
    format!("assets/{stem}.{hash}a1.{extension}")
}

fn write(dir: &Path, release: u64) -> Result<()> {
    let _ = std::fs::remove_dir_all(dir.join("assets"));
    let mut page = format!("{release}\n");
    for name in ASSETS {
        let content = asset(name, release);
        let path = hashed(name, &content);
        tree::write(dir, &path, content.as_bytes())?;
        page += &format!("{path}\n");
    }
    tree::write(dir, "index.html", page.as_bytes())
}

/// Loads the page and what it names; gives the number of its release.
async fn load(visitor: &Visitor) -> Result<u64> {
    let page = visitor.get("/").await?;
    ensure!(page.status == 200, "the page: {}", page.status);
    let text = page.text();
    let (release, paths) = text.split_once('\n').context("the page is not whole")?;
    let release = release.parse()?;
    for (name, path) in ASSETS.iter().zip(paths.lines()) {
        let visit = visitor.get(&format!("/{path}")).await?;
        ensure!(visit.status == 200, "{path} of release {release}: {}", visit.status);
        let (found, wanted) = (visit.text(), asset(name, release));
        ensure!(found == wanted, "{path} of release {release} is {found:?}");
    }
    Ok(release)
}

/// Loads pages until told to stop; gives how many.
async fn read(visitor: Visitor, is_over: Arc<AtomicBool>) -> Result<u64> {
    let (mut newest, mut loads) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let release = load(&visitor).await?;
        ensure!(release >= newest, "release {release} after {newest}");
        (newest, loads) = (release, loads + 1);
    }
    Ok(loads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_fifty_releases_no_reader_sees_a_mixture_or_an_error() -> Result<()> {
    let cdn = Cdn::of(fleet(3)).await?;
    let dir = tempfile::tempdir()?;
    write(dir.path(), 0)?;
    cdn.push(dir.path()).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for edge in cdn.edges() {
        for _ in 0..READERS {
            let reader = tokio::spawn(read(cdn.visitor(&edge)?, Arc::clone(&is_over)));
            readers.push((edge.clone(), reader));
        }
    }

    for release in 1..=RELEASES {
        write(dir.path(), release)?;
        let pushed = cdn.push(dir.path()).await?;
        assert_eq!(pushed.live_on().len(), 3, "{}", pushed.json);
    }

    is_over.store(true, Ordering::Relaxed);
    for (edge, reader) in readers {
        let loads = reader.await?.with_context(|| format!("a reader at {edge}"))?;
        assert!(loads >= RELEASES / 2, "a reader at {edge} saw only {loads} pages");
        assert_eq!(load(&cdn.visitor(&edge)?).await?, RELEASES, "{edge}");
    }
    cdn.fleet.stop().await
}
