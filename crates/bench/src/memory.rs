//! How much memory do control and an edge need, and how fast does an edge start?

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nigh_testkit::Fleet;

use crate::{
    command::Nigh,
    process,
    summary::{median, seconds},
    tree,
};

/// Pushes sites of 10,000 and 100,000 files to one edge; a Markdown table.
pub async fn measure(binary: &Path) -> Result<String> {
    let small = one_site(binary, 10_000).await?;
    let large = one_site(binary, 100_000).await?;
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let mut table =
        vec!["| | 10,000 files | 100,000 files |".to_owned(), "| --- | --- | --- |".to_owned()];
    type Figure = fn(&Figures) -> u64;
    let rows: [(&str, Figure); 4] = [
        ("control, most ever resident during the push", |f| f.control_peak_bytes),
        ("edge, resident after the push", |f| f.edge_after_push_bytes),
        ("edge, most ever resident during the push", |f| f.edge_peak_bytes),
        ("edge, resident after a restart", |f| f.edge_idle_bytes),
    ];
    for (what, figure) in rows {
        table.push(format!("| {what} | {} | {} |", mib(figure(&small)), mib(figure(&large))));
    }
    table.push(format!(
        "| edge, from start to ready | {} | {} |",
        seconds(small.edge_start),
        seconds(large.edge_start)
    ));
    table.push(format!("| the push | {} | {} |", seconds(small.push), seconds(large.push)));
    Ok(table.join("\n"))
}

struct Figures {
    push: Duration,
    control_peak_bytes: u64,
    edge_peak_bytes: u64,
    edge_after_push_bytes: u64,
    edge_idle_bytes: u64,
    edge_start: Duration,
}

async fn one_site(binary: &Path, files: u64) -> Result<Figures> {
    let home = tempfile::tempdir()?;
    let tree = tree::small_files(&home.path().join("site"), files)?;
    let mut fleet = Fleet::builder(binary)
        .edges(1)
        .control_config("[variants]\nenabled = false")?
        .start()
        .await?;
    let nigh = Nigh { binary, fleet: &fleet, cache: &home.path().join("cache") };
    nigh.run(&["site", "create", "bench"])?;
    let (_, push) = nigh.push(&tree.dir)?;

    let control = fleet.control().pid().context("control is not running")?;
    let edge = fleet.edges()[0].process.pid().context("the edge is not running")?;
    let mut figures = Figures {
        push,
        control_peak_bytes: process::resident_peak_bytes(control)?,
        edge_peak_bytes: process::resident_peak_bytes(edge)?,
        edge_after_push_bytes: process::resident_bytes(edge)?,
        edge_idle_bytes: 0,
        edge_start: Duration::ZERO,
    };

    let name = fleet.edges()[0].name.clone();
    let mut starts = Vec::new();
    for _ in 0..3 {
        let process = &mut fleet.machine_mut(&name)?.process;
        process.stop().await?;
        let start = Instant::now();
        process.start().await?;
        starts.push(start.elapsed());
    }
    figures.edge_start = median(&starts).context("no start")?;
    let edge = fleet.edges()[0].process.pid().context("the edge is not running")?;
    figures.edge_idle_bytes = process::resident_bytes(edge)?;
    fleet.stop().await?;
    Ok(figures)
}
