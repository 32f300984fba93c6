//! How many reads does control answer per second of its CPU time?

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nigh_testkit::Fleet;
use reqwest::header::AUTHORIZATION;
use tokio::task::JoinSet;

use crate::{
    http::{builder, http},
    preload, process,
    summary::seconds,
};

const CONNECTIONS: usize = 8;
/// Requests of one connection under way at once.
const STREAMS: usize = 4;

const PATHS: [(&str, &str); 5] = [
    ("one site", "/v1/sites/site-0007"),
    ("sites, a page of 100", "/v1/sites"),
    ("releases of a site, a page of 10", "/v1/sites/site-0007/releases?limit=10"),
    ("superseded releases of a site", "/v1/sites/site-0007/releases?state=superseded&limit=10"),
    ("status", "/v1/status"),
];

/// Asks for each path in turn; a Markdown table.
pub async fn measure(
    binary: &Path,
    sites: usize,
    releases: usize,
    turn: Duration,
) -> Result<String> {
    let fleet = Fleet::builder(binary)
        .edges(0)
        .dns_servers(0)
        .control_config("[variants]\nenabled = false\n[sites]\nkeep_releases = 1000")?
        .start()
        .await?;
    let began = Instant::now();
    preload::preload(fleet.client(), sites, releases).await?;
    let mut table = vec![
        format!(
            "{sites} sites, {} releases (preloaded in {}), {CONNECTIONS} connections, {STREAMS} requests at once on each\n",
            sites * releases,
            seconds(began.elapsed())
        ),
        "| read | per CPU-second of control | per second | bytes |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    let pid = fleet.control().pid().context("control is not running")?;
    for (what, path) in PATHS {
        let cpu = process::cpu_time(pid)?;
        let (answers, bytes) = load(&fleet, path, turn).await?;
        let cpu = (process::cpu_time(pid)? - cpu).as_secs_f64();
        table.push(format!(
            "| {what} | {:.0} | {:.0} | {} |",
            answers as f64 / cpu.max(0.01),
            answers as f64 / turn.as_secs_f64(),
            bytes / answers.max(1)
        ));
    }
    fleet.stop().await?;
    Ok(table.join("\n"))
}

/// How many answers there were, and their bytes.
async fn load(fleet: &Fleet, path: &str, turn: Duration) -> Result<(u64, u64)> {
    let tls = builder(&std::fs::read_to_string(fleet.ca_file())?)?.with_no_client_auth();
    let (answers, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let http = http(&tls)?;
        for _ in 0..STREAMS {
            let request = http
                .get(format!("{}{path}", fleet.client().api_url().trim_end_matches('/')))
                .header(AUTHORIZATION, format!("Bearer {}", fleet.token()));
            let (answers, bytes, stop) =
                (Arc::clone(&answers), Arc::clone(&bytes), Arc::clone(&stop));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let request = request.try_clone().context("a GET can be repeated")?;
                    let body = request.send().await?.error_for_status()?.bytes().await?;
                    answers.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
    }
    tokio::time::sleep(turn).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok((answers.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed)))
}
