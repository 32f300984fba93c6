//! A real site: the documentation of Rust's libraries, every file from every edge, byte for byte.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn, audience,
    cdn::{fleet, folder},
};

const RUST_DOC: &str = "/usr/share/doc/rust-doc/html";
/// About 30,000 files and 380 MB.
const FOLDERS: [&str; 3] = ["alloc", "core", "std"];
const FILES_MIN: usize = 10_000;
/// Keep-alive connections to each edge.
const CONNECTIONS: usize = 4;

/// Copies a folder, following links: a package's pages share files with others.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| from.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry has a name")?);
        // Some links lead to packages that are not installed.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_of_a_real_site_comes_back_from_every_edge() -> Result<()> {
    ensure!(Path::new(RUST_DOC).is_dir(), "{RUST_DOC} is not there; tests/install installs it");
    let dir = folder(&[("index.html", "<a href=core/>core</a>")])?;
    for name in FOLDERS {
        copy(&Path::new(RUST_DOC).join(name), &dir.path().join(name))?;
    }
    let contents = tree::contents(dir.path())?;
    ensure!(contents.len() >= FILES_MIN, "only {} files", contents.len());

    let cdn = Cdn::of(fleet(3)).await?;
    let start = Instant::now();
    let pushed = cdn.push(dir.path()).await?;
    println!("{} files pushed in {:?}", pushed.files_total, start.elapsed());

    assert_eq!(pushed.files_total, contents.len() as u64);
    assert_eq!(pushed.live_on().len(), 3);
    let start = Instant::now();
    let checks = cdn.edges().into_iter().map(async |edge| {
        let visitors = (0..CONNECTIONS).map(|_| cdn.visitor(&edge)).collect::<Result<Vec<_>>>()?;
        let wrong = audience::fetch_all(&visitors, &contents).await;
        ensure!(wrong.is_empty(), "at {edge}: {}", audience::told(&wrong));
        anyhow::Ok(())
    });
    for check in futures_util::future::join_all(checks).await {
        check?;
    }
    println!("{} files fetched in {:?}", 3 * contents.len(), start.elapsed());

    let again = cdn.push(dir.path()).await?;
    assert_eq!((again.files_new, again.bytes_sent), (0, 0));
    cdn.fleet.stop().await
}
