//! Power cuts at random moments of a push lose nothing: afterwards the fleet converges, every file is
//! right on every edge, and every blob on every disk is whole.
//!
//! `NIGH_CHAOS_ROUNDS` says how many (100 otherwise), `NIGH_CHAOS_SEED` repeats a run.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use nigh_proto::api::EdgeReleaseState;
use nigh_testkit::tree::{self, Numbers, SampleSite};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, noise},
    eventually,
    patience::SOON,
    vault,
};
use rustix::process::Signal;

const ROUNDS: u64 = 100;
/// After so many rounds everything is looked at.
const LOOK_EVERY: u64 = 10;
/// A power cut comes up to so many thousandths of the time that a push takes after its start.
const MOMENT_MAX: usize = 1300;
const CONFIG: &str = "[sites]\nstage_deadline_ms = 3000\nkeep_releases = 5\ngrace_ms = 2000\n\
                      [blobs]\ncollect_interval_ms = 700\ncollect_young_ms = 3000";

#[derive(Clone, Copy, Debug)]
enum Victim {
    Control,
    Edge(&'static str),
    CommandLine,
    /// Control and every edge: the lights go out.
    Fleet,
}

impl Victim {
    fn of(number: usize) -> Self {
        match number {
            0 => Victim::Control,
            1 => Victim::Edge("fra"),
            2 => Victim::Edge("nyc"),
            3 => Victim::Fleet,
            _ => Victim::CommandLine,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

/// Changes a few files, adds one, removes one, and now and then replaces the large one.
fn change(dir: &Path, round: u64, numbers: &mut Numbers) -> Result<()> {
    for _ in 0..1 + numbers.below(20) {
        let page = format!("changed/{}.html", numbers.below(60));
        tree::write(dir, &page, format!("{page} in round {round}").as_bytes())?;
    }
    tree::write(dir, &format!("rounds/{round}.txt"), &noise(numbers.next(), 20_000))?;
    if let Some(gone) = round.checked_sub(5) {
        let _ = fs::remove_file(dir.join(format!("rounds/{gone}.txt")));
    }
    if round.is_multiple_of(4) {
        tree::write(dir, "large.bin", &noise(numbers.next(), 5 << 20 >> 1))?;
    }
    tree::write(dir, "index.html", format!("round {round}").as_bytes())
}

/// One push, in which something loses power; gives how it ended.
async fn round(cdn: &mut Cdn, dir: &Path, victim: Victim, moment: Duration) -> Result<Option<i32>> {
    let text = dir.to_string_lossy();
    let push = cdn.person.start(&["push", &text, "--site", SITE, "--timeout", "20s"])?;
    // The moment is what is tested: any line of the program may be the last.
    tokio::time::sleep(moment).await;
    match victim {
        Victim::CommandLine => push.send(Signal::KILL)?,
        Victim::Control => {
            cdn.fleet.control_mut().kill().await?;
            cdn.fleet.control_mut().start().await?;
        }
        Victim::Edge(name) => {
            cdn.kill(name).await?;
            cdn.restart(name).await?;
        }
        Victim::Fleet => {
            cdn.fleet.control_mut().kill().await?;
            for edge in ["fra", "nyc"] {
                cdn.kill(edge).await?;
            }
            for edge in ["fra", "nyc"] {
                cdn.restart(edge).await?;
            }
            cdn.fleet.control_mut().start().await?;
        }
    }
    let run = push.end().await?;
    ensure!(matches!(run.code, None | Some(0 | 1 | 5 | 7 | 8 | 9)), "{run}");
    Ok(run.code)
}

/// A push without trouble brings everything in line; gives how long it took.
async fn converge(cdn: &Cdn, dir: &Path) -> Result<Duration> {
    cdn.fleet.all_current().await?;
    let start = Instant::now();
    let pushed = cdn.push(dir).await?;
    let took = start.elapsed();
    eventually("the release is active on every edge", SOON, async || {
        let view = cdn.release(&pushed.release).await?;
        let live = view.edges.iter().filter(|edge| edge.state == EdgeReleaseState::Active).count();
        ensure!(view.state.label() == "active" && live == 2, "{view:?}");
        Ok(())
    })
    .await;
    cdn.serves(dir).await?;
    Ok(took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_anything_loses_power_at_any_moment() -> Result<()> {
    let seed = number("NIGH_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let rounds = number("NIGH_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    println!("{rounds} rounds; repeat them with NIGH_CHAOS_SEED={seed}");
    let mut numbers = Numbers::new(seed);
    let mut cdn = Cdn::of(fleet(2).control_config(CONFIG)?).await?;
    let dir = tempfile::tempdir()?;
    SampleSite { seed, files: 200, page_bytes: 1024 }.write(dir.path())?;
    cdn.push(dir.path()).await?;
    change(dir.path(), 0, &mut numbers)?;
    let mut usual = converge(&cdn, dir.path()).await?;

    let mut ends = BTreeMap::<Option<i32>, u64>::new();
    let start = Instant::now();
    for number in 1..=rounds {
        change(dir.path(), number, &mut numbers)?;
        let victim = Victim::of(numbers.below(6));
        let moment = usual * numbers.below(MOMENT_MAX) as u32 / 1000;
        let told = || format!("round {number} of seed {seed}: {victim:?} after {moment:?}");
        let code = round(&mut cdn, dir.path(), victim, moment).await.with_context(told)?;
        *ends.entry(code).or_insert(0) += 1;
        if number.is_multiple_of(LOOK_EVERY) {
            change(dir.path(), number, &mut numbers)?;
            usual = converge(&cdn, dir.path()).await.with_context(told)?;
        }
    }
    converge(&cdn, dir.path()).await.with_context(|| format!("at the end of seed {seed}"))?;
    println!("{rounds} rounds in {:?}; exit codes and how often: {ends:?}", start.elapsed());

    every_blob_is_whole(cdn, dir.path()).await.with_context(|| format!("seed {seed}"))
}

async fn every_blob_is_whole(cdn: Cdn, dir: &Path) -> Result<()> {
    let stores = [
        vault::of_control(&cdn.fleet),
        vault::of_machine(&cdn.fleet, "fra"),
        vault::of_machine(&cdn.fleet, "nyc"),
    ];
    let Cdn { mut fleet, .. } = cdn;
    for edge in ["fra", "nyc"] {
        fleet.machine_mut(edge)?.process.stop().await?;
    }
    fleet.control_mut().stop().await?;
    for store in &stores {
        let whole = vault::verify(store)?;
        for (path, digest) in &tree::contents(dir)? {
            ensure!(whole.contains(digest), "{path} is not in {}", store.display());
        }
    }
    Ok(())
}
