//! How soon do a thousand machines hear of an activation, and what does that cost control?

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, stream};
use nigh_proto::{ReleaseId, SiteName, api::NewSite};
use nigh_testkit::Fleet;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
    time::timeout,
};

use crate::{
    preload, process,
    simulated::{Applied, Counters, Simulated, WATCHED},
    summary::{percentile, seconds},
};

/// How long anything that all machines do may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Machines that join at once.
const JOINS: usize = 16;

/// How large the fleet is, and how often it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub machines: usize,
    pub sites: usize,
    pub releases: usize,
    pub rounds: usize,
}

/// Activates by turns, then starts control again; a Markdown table.
pub async fn measure(binary: &Path, size: Size) -> Result<String> {
    let mut fleet = Fleet::builder(binary)
        .edges(0)
        .dns_servers(0)
        .control_config("[variants]\nenabled = false")?
        .start()
        .await?;
    let began = Instant::now();
    preload::preload(fleet.client(), size.sites, size.releases).await?;
    let preloaded = began.elapsed();
    let (counters, began) = (Arc::new(Counters::default()), Instant::now());
    let (mut applied, _machines) = join_all(&fleet, size.machines, &counters).await?;
    connected(&fleet, size.machines).await?;
    let joined = began.elapsed();

    let site: SiteName = WATCHED.parse()?;
    fleet.client().create_site(&NewSite { name: site.clone(), hosts: Vec::new() }).await?;
    let mut releases = Vec::new();
    for page in ["one", "two"] {
        let release = preload::push(fleet.client(), &site, page).await?;
        all_serve(&mut applied, size.machines, &release).await?;
        releases.push(release);
    }
    all_acknowledged(&fleet, &site, &releases[1], size.machines).await?;
    let pid = fleet.control().pid().context("control is not running")?;
    let (bytes, cpu) = (counters.watched_bytes.load(Ordering::Relaxed), process::cpu_time(pid)?);
    let (mut heard, mut acknowledged) = (Vec::new(), Vec::new());
    for round in 0..size.rounds {
        let release = &releases[round % 2];
        let began = Instant::now();
        fleet.client().activate_release(&site, release.as_str()).await?;
        let times = all_serve(&mut applied, size.machines, release).await?;
        heard.extend(times.into_iter().map(|at| at.saturating_duration_since(began)));
        all_acknowledged(&fleet, &site, release, size.machines).await?;
        acknowledged.push(began.elapsed());
    }
    let cpu = (process::cpu_time(pid)? - cpu) / u32::try_from(size.rounds.max(1))?;
    let bytes = counters.watched_bytes.load(Ordering::Relaxed) - bytes;
    let quiet = quiet(pid).await?;
    let resident = process::resident_bytes(pid)?;
    let peak = process::resident_peak_bytes(pid)?;
    let restart = restart(&mut fleet, size.machines, &counters).await?;
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let at = |share| percentile(&heard, share).map_or_else(String::new, seconds);
    let table = [
        format!(
            "{} simulated machines, {} sites, {} releases, {} activations; preloaded in {}, joined in {}\n",
            size.machines,
            size.sites,
            size.sites * size.releases,
            size.rounds,
            seconds(preloaded),
            seconds(joined)
        ),
        "| | |".to_owned(),
        "| --- | --- |".to_owned(),
        format!("| from the call to applied, p50 | {} |", at(0.5)),
        format!("| from the call to applied, p99 | {} |", at(0.99)),
        format!("| from the call to applied, the last machine | {} |", at(1.0)),
        format!(
            "| from the call to acknowledged by all, median | {} |",
            percentile(&acknowledged, 0.5).map_or_else(String::new, seconds)
        ),
        format!(
            "| CPU of control per activation, its acknowledgements included | {} |",
            seconds(cpu)
        ),
        format!("| CPU of control with nothing to do | {:.1} % of a core |", quiet * 100.0),
        format!(
            "| sent per machine and activation | {} bytes |",
            bytes / (size.machines * size.rounds).max(1) as u64
        ),
        format!("| control, resident | {} |", mib(resident)),
        format!("| control, most ever resident | {} |", mib(peak)),
        format!("| after a restart of control, until all are back | {} |", seconds(restart.back)),
        format!("| CPU of control for that | {} |", seconds(restart.cpu)),
        format!("| whole states that it had to send | {} |", restart.whole_states),
        format!("| control after the restart, most ever resident | {} |", mib(restart.peak_bytes)),
    ];
    fleet.stop().await?;
    Ok(table.join("\n"))
}

async fn join_all(
    fleet: &Fleet,
    machines: usize,
    counters: &Arc<Counters>,
) -> Result<(UnboundedReceiver<Applied>, JoinSet<()>)> {
    let url = format!("https://{}", fleet.control_listener("machines")?);
    let ca_pem = std::fs::read_to_string(fleet.ca_file())?;
    let (sender, applied) = unbounded_channel();
    let mut running = JoinSet::new();
    let joins = (0..machines).map(|number| {
        let (sender, counters) = (sender.clone(), Arc::clone(counters));
        Simulated::join(fleet.client(), &url, &ca_pem, number, sender, counters)
    });
    let mut joining = stream::iter(joins).buffer_unordered(JOINS);
    while let Some(joined) = joining.next().await {
        running.spawn(joined?.run());
    }
    drop(joining);
    Ok((applied, running))
}

/// Waits until every machine is connected, and no site is without one: what joined lags at first.
async fn connected(fleet: &Fleet, machines: usize) -> Result<()> {
    let all = async {
        loop {
            let status = fleet.client().status().await?;
            let connected = status.machines.iter().filter(|machine| machine.is_connected).count();
            if connected == machines && status.warnings.is_empty() {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(DEADLINE, all).await.context("the machines are not all connected and current")?
}

/// Waits until every machine serves `release`; when each of them began to.
async fn all_serve(
    applied: &mut UnboundedReceiver<Applied>,
    machines: usize,
    release: &ReleaseId,
) -> Result<Vec<Instant>> {
    let (mut serving, mut times) = (BTreeSet::new(), Vec::new());
    let all = async {
        while serving.len() < machines {
            let applied = applied.recv().await.context("no machine is left")?;
            if applied.active.as_ref() == Some(release) && serving.insert(applied.machine) {
                times.push(applied.at);
            }
        }
        anyhow::Ok(())
    };
    let ended = timeout(DEADLINE, all).await;
    ended
        .with_context(|| format!("{} of {machines} machines serve {release}", serving.len()))??;
    Ok(times)
}

/// Waits until control knows that every machine serves `release`.
async fn all_acknowledged(
    fleet: &Fleet,
    site: &SiteName,
    release: &ReleaseId,
    machines: usize,
) -> Result<()> {
    let all = async {
        loop {
            let view = fleet.client().release(site, release.as_str()).await?;
            let active = nigh_proto::api::EdgeReleaseState::Active;
            if view.edges.iter().filter(|edge| edge.state == active).count() == machines {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, all).await.context("control does not hear that all serve it")?
}

/// The share of a core that control takes while nothing happens.
async fn quiet(pid: u32) -> Result<f64> {
    let (cpu, began) = (process::cpu_time(pid)?, Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    Ok((process::cpu_time(pid)? - cpu).as_secs_f64() / began.elapsed().as_secs_f64())
}

struct Restart {
    back: Duration,
    cpu: Duration,
    whole_states: u64,
    peak_bytes: u64,
}

async fn restart(fleet: &mut Fleet, machines: usize, counters: &Counters) -> Result<Restart> {
    let whole_states = counters.whole_states.load(Ordering::Relaxed);
    fleet.control_mut().stop().await?;
    ensure!(counters.connected.load(Ordering::Relaxed) <= machines as u64);
    fleet.control_mut().start().await?;
    let began = Instant::now();
    connected(fleet, machines).await?;
    let back = began.elapsed();
    let pid = fleet.control().pid().context("control is not running")?;
    Ok(Restart {
        back,
        cpu: process::cpu_time(pid)?,
        whole_states: counters.whole_states.load(Ordering::Relaxed) - whole_states,
        peak_bytes: process::resident_peak_bytes(pid)?,
    })
}
