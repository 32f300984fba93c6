//! How often does a large release leave control when many edges want it at once?

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use nigh_testkit::{
    Fleet, Machine, Visitor,
    place::{PLACES, Place},
    tree::Numbers,
};

use crate::{command::Nigh, summary::seconds};

/// Regions that the edges stand in.
const REGIONS: usize = 5;
const FILE_BYTES: usize = 512 << 10;

/// What is pushed.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub edges: usize,
    pub megabytes: usize,
    /// All of it in one file.
    pub one_file: bool,
}

/// Pushes so many megabytes to so many edges; a Markdown table.
pub async fn measure(binary: &Path, size: Size) -> Result<String> {
    let Size { edges, megabytes, one_file } = size;
    let home = tempfile::tempdir()?;
    let site = home.path().join("site");
    let all = megabytes * 1_000_000;
    let bytes = write_noise(&site, all, if one_file { all } else { FILE_BYTES })?;
    let fleet = Fleet::builder(binary)
        .places(places(edges))
        .control_config("[variants]\nenabled = false\n[sites]\nstage_deadline_ms = 600000")?
        .start()
        .await?;
    let cache = home.path().join("cache");
    let nigh = Nigh { binary, fleet: &fleet, cache: &cache };
    nigh.run(&["site", "create", "bench"])?;
    let (_, elapsed) = nigh.push_within(&site, Duration::from_secs(1200))?;
    let control = fleet.control().listeners().get("ops").context("control's pages")?;
    let machines = "listener=\"machines\"";
    let sent = counter(control, "nigh_control_sent_bytes_total", machines).await?;
    let of_blobs = counter(control, "nigh_control_blobs_sent_bytes_total", "").await?;
    // A counter that stands still would pass every bar: each edge's bytes came from somewhere.
    ensure!(
        of_blobs >= bytes && sent >= of_blobs,
        "control sent {sent} bytes, {of_blobs} of blobs"
    );
    let (mut from_control, mut from_peers) = (0, 0);
    for edge in fleet.edges() {
        from_control += fetched(edge, "control").await?;
        from_peers += fetched(edge, "peer").await?;
    }
    fleet.stop().await?;
    let arrived = from_control + from_peers;
    ensure!(arrived >= bytes * edges as u64, "edges fetched only {arrived} bytes in all");
    let files = if one_file { "one file" } else { "files of 512 KiB" };
    let times = |count: u64| format!("{:.2}", count as f64 / bytes as f64);
    Ok([
        format!("{edges} edges in {REGIONS} regions, {} MB in {files}\n", bytes / 1_000_000),
        "| | |".to_owned(),
        "| --- | --- |".to_owned(),
        format!("| sent by control to machines, all bytes, times the release | {} |", times(sent)),
        format!("| of these bytes of blobs, times the release | {} |", times(of_blobs)),
        format!("| fetched by edges from control, times the release | {} |", times(from_control)),
        format!("| fetched by edges from edges, times the release | {} |", times(from_peers)),
        format!("| the push, until all edges serve it | {} |", seconds(elapsed)),
    ]
    .join("\n"))
}

/// Edges `e0`, `e1`, … by turns in the regions.
fn places(edges: usize) -> Vec<Place> {
    let place = |index: usize| {
        // Names live as long as the program: there are few, and they are made once.
        let edge: &'static str = Box::leak(format!("e{index}").into_boxed_str());
        Place { edge, ..PLACES[index % REGIONS] }
    };
    (0..edges).map(place).collect()
}

fn write_noise(dir: &Path, bytes: usize, file_bytes: usize) -> Result<u64> {
    fs::create_dir_all(dir)?;
    let mut numbers = Numbers::new(7);
    let mut written = 0;
    for index in 0..bytes.div_ceil(file_bytes) {
        let mut file = Vec::with_capacity(file_bytes + 8);
        while file.len() < file_bytes {
            file.extend_from_slice(&numbers.next().to_le_bytes());
        }
        fs::write(dir.join(format!("{index}.jpg")), &file)?;
        written += file.len() as u64;
    }
    Ok(written)
}

async fn fetched(edge: &Machine, source: &str) -> Result<u64> {
    let label = format!("source=\"{source}\"");
    counter(edge.addr("ops")?, "nigh_edge_fetched_bytes_total", &label).await
}

async fn counter(ops: std::net::SocketAddr, name: &str, label: &str) -> Result<u64> {
    let page = Visitor::http("localhost", ops)?.get("/metrics").await?.text();
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| Ok(line.rsplit_once(' ').context("no value")?.1.parse::<u64>()?)).sum()
}
