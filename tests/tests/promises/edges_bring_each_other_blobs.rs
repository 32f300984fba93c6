//! A release leaves control a few times, however many edges there are.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use nigh_proto::pack::PackHead;
use nigh_testkit::{
    FleetBuilder, Visitor,
    place::{PLACES, Place},
    tree,
};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, noise},
    eventually,
    patience::SOON,
    vault,
};

const FILES: u64 = 60;
const FILE_BYTES: usize = 300 << 10;
const FILM_BYTES: usize = 6 << 20;
const RELEASE_BYTES: u64 = FILES * FILE_BYTES as u64 + FILM_BYTES as u64;

/// Six edges in two regions, which make nothing of their own.
fn two_regions() -> Result<FleetBuilder> {
    let places = PLACES[..6].iter().enumerate().map(|(index, place)| {
        let near = PLACES[index % 2];
        Place { edge: place.edge, ..near }
    });
    fleet(0).places(places.collect()).control_config("[variants]\nenabled = false")
}

fn site(seed: u64) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    for index in 0..FILES {
        let name = format!("pictures/{index}.jpg");
        tree::write(dir.path(), &name, &noise(seed * 1000 + index, FILE_BYTES))?;
    }
    tree::write(dir.path(), "film.mp4", &noise(seed, FILM_BYTES))?;
    Ok(dir)
}

/// The sum of all counters of `name` whose labels contain `label`.
async fn counter(ops: SocketAddr, name: &str, label: &str) -> Result<u64> {
    let page = Visitor::http("localhost", ops)?.get("/metrics").await?.text();
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| Ok(line.rsplit_once(' ').context("no value")?.1.parse::<u64>()?)).sum()
}

async fn sent_by_control(cdn: &Cdn) -> Result<u64> {
    let ops = cdn.fleet.control().listeners().get("ops").context("control's pages")?;
    counter(ops, "nigh_control_blobs_sent_bytes_total", "").await
}

async fn fetched(cdn: &Cdn, edge: &str, source: &str) -> Result<u64> {
    let ops = cdn.fleet.edge(edge)?.addr("ops")?;
    counter(ops, "nigh_edge_fetched_bytes_total", &format!("source=\"{source}\"")).await
}

/// An edge that has fetched the last release from others.
async fn follower(cdn: &Cdn) -> Result<String> {
    for edge in cdn.edges() {
        if fetched(cdn, &edge, "peer").await? >= RELEASE_BYTES / 2 {
            return Ok(edge);
        }
    }
    anyhow::bail!("no edge fetched from others")
}

#[tokio::test]
async fn control_sends_a_release_to_a_few_edges_and_they_bring_it_to_the_others() -> Result<()> {
    let cdn = Cdn::of(two_regions()?).await?;
    let dir = site(1)?;
    cdn.push(dir.path()).await?;
    let sent = sent_by_control(&cdn).await?;
    let times = sent as f64 / RELEASE_BYTES as f64;
    ensure!(sent >= RELEASE_BYTES, "control has sent it once, or this counts nothing: {sent}");
    ensure!(times <= 3.0, "control sent the release {times:.2} times");
    let mut from_peers = 0;
    for edge in cdn.edges() {
        from_peers += fetched(&cdn, &edge, "peer").await?;
    }
    ensure!(from_peers >= 3 * RELEASE_BYTES, "{from_peers} bytes came from peers");
    cdn.serves(dir.path()).await?;

    // What is small comes from control at once.
    tree::write(dir.path(), "index.html", b"<h1>changed</h1>")?;
    cdn.push(dir.path()).await?;
    let mut later = 0;
    for edge in cdn.edges() {
        later += fetched(&cdn, &edge, "peer").await?;
    }
    assert_eq!(later, from_peers);
    cdn.fleet.stop().await
}

#[tokio::test]
async fn one_large_file_leaves_control_a_few_times_and_crosses_the_fleet_in_pieces() -> Result<()> {
    const PATCH_BYTES: usize = 40 << 20;
    let cdn = Cdn::of(two_regions()?).await?;
    let dir = tempfile::tempdir()?;
    tree::write(dir.path(), "game.patch", &noise(4, PATCH_BYTES))?;
    cdn.push(dir.path()).await?;
    cdn.serves(dir.path()).await?;
    let ops = cdn.fleet.control().listeners().get("ops").context("control's pages")?;
    let to_machines = "listener=\"machines\"";
    let sent = counter(ops, "nigh_control_sent_bytes_total", to_machines).await?;
    let times = sent as f64 / PATCH_BYTES as f64;
    ensure!((1.0..=3.0).contains(&times), "control sent it {times:.2} times, all bytes counted");
    let mut from_peers = 0;
    for edge in cdn.edges() {
        from_peers += fetched(&cdn, &edge, "peer").await?;
    }
    ensure!(from_peers >= 3 * PATCH_BYTES as u64, "{from_peers} bytes came from peers");
    cdn.fleet.stop().await
}

#[tokio::test]
async fn an_edge_that_dies_while_it_feeds_the_others_holds_nobody_up() -> Result<()> {
    let mut cdn = Cdn::of(two_regions()?).await?;
    let dir = site(2)?;
    let text = dir.path().to_string_lossy().into_owned();
    let pushed = cdn.person.run(&["push", &text, "--site", SITE, "--wait", "none"]).await?;
    drop(pushed);
    let mut fed = None;
    eventually("an edge fetches from control", SOON, async || {
        for edge in cdn.edges() {
            if fetched(&cdn, &edge, "control").await? > 1 << 20 {
                fed = Some(edge);
                return Ok(());
            }
        }
        anyhow::bail!("none does")
    })
    .await;
    let fed = fed.context("an edge was found")?;
    cdn.kill(&fed).await?;
    let contents = tree::contents(dir.path())?;
    for edge in cdn.edges().into_iter().filter(|edge| *edge != fed) {
        eventually(format!("{edge} serves all of it"), SOON, async || {
            let visitors = [cdn.visitor(&edge)?];
            let wrong = nigh_tests::audience::fetch_all(&visitors, &contents).await;
            ensure!(wrong.is_empty(), "{} files are not right", wrong.len());
            Ok(())
        })
        .await;
    }
    cdn.fleet.stop().await
}

/// Turns over a byte in every body of a pack, or of a large blob.
fn damage(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let mut places = Vec::new();
    match file.extension() {
        Some(extension) if extension == "pack" => {
            let head = PackHead::parse(&bytes)?;
            let mut body = PackHead::head_bytes(head.blobs.len());
            for blob in &head.blobs {
                let length = blob.stored_len as usize;
                // Documents stay whole: what is tested is what others are sent.
                places.extend((length > FILE_BYTES / 2).then_some(body + length / 2));
                body += length;
            }
        }
        Some(_) => {}
        None => places.push(bytes.len() / 2),
    }
    for place in places {
        bytes[place] ^= 0x40;
    }
    Ok(fs::write(file, bytes)?)
}

#[tokio::test]
async fn damage_from_other_edges_is_noticed_and_control_asked() -> Result<()> {
    let mut cdn = Cdn::of(two_regions()?).await?;
    let dir = site(3)?;
    cdn.push(dir.path()).await?;
    let edge = follower(&cdn).await?;
    for other in cdn.edges() {
        cdn.kill(&other).await?;
        let blobs = vault::of_machine(&cdn.fleet, &other);
        if other == edge {
            fs::remove_dir_all(&blobs)?;
        } else {
            vault::files(&blobs)?.iter().try_for_each(|file| damage(file))?;
        }
    }
    // The edge that has nothing comes last: the others are there to be asked.
    for other in cdn.edges().into_iter().filter(|other| *other != edge) {
        cdn.restart(&other).await?;
    }
    cdn.restart(&edge).await?;
    let contents = tree::contents(dir.path())?;
    eventually(format!("{edge} serves all of it"), SOON, async || {
        let visitors = [cdn.visitor(&edge)?];
        let wrong = nigh_tests::audience::fetch_all(&visitors, &contents).await;
        ensure!(wrong.is_empty(), "{} files are not right", wrong.len());
        Ok(())
    })
    .await;
    ensure!(fetched(&cdn, &edge, "peer").await? > 0, "nobody was asked who has damage");
    ensure!(fetched(&cdn, &edge, "control").await? >= RELEASE_BYTES / 2, "where is it from?");
    cdn.kill(&edge).await?;
    vault::verify(&vault::of_machine(&cdn.fleet, &edge))?;
    cdn.fleet.stop().await
}
