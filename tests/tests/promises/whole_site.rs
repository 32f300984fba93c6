//! A real site: the documentation of Rust's libraries, every file from every edge, byte for byte.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn, audience,
    cdn::{fleet, folder},
};

const RUST_DOC: &str = "/usr/share/doc/rust-doc/html";
/// About 30,000 files and 380 MB. `NIGH_WHOLE_SITE=all` takes every one of them.
const FOLDERS: [&str; 3] = ["alloc", "core", "std"];
/// Enough for a promise about more than 10,000 files, and quick enough for every day.
const FILES_MIN: usize = 12_000;
/// Keep-alive connections to each edge.
const CONNECTIONS: usize = 4;

/// Copies a folder, following links: a package's pages share files with others.
fn copy(from: &Path, to: &Path, left: &mut usize) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| from.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let target = to.join(path.file_name().context("an entry has a name")?);
        // Some links lead to packages that are not installed.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            copy(&path, &target, left)?;
        } else if *left > 0 {
            fs::copy(&path, &target)?;
            *left -= 1;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_of_a_real_site_comes_back_from_every_edge() -> Result<()> {
    ensure!(Path::new(RUST_DOC).is_dir(), "{RUST_DOC} is not there; tests/install installs it");
    let is_whole = env::var("NIGH_WHOLE_SITE").is_ok_and(|value| value == "all");
    let mut left = if is_whole { usize::MAX } else { FILES_MIN };
    let dir = folder(&[("index.html", "<a href=core/>core</a>")])?;
    for name in FOLDERS {
        copy(&Path::new(RUST_DOC).join(name), &dir.path().join(name), &mut left)?;
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
