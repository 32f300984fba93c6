//! A machine that control no longer takes says why in its own log, and so does control in its.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use nigh_testkit::{
    config,
    process::{Process, Program},
};
use nigh_tests::{
    Cdn, binary,
    cdn::{SITE, fleet, folder},
    eventually,
    patience::SOON,
};

const LONG: Duration = Duration::from_secs(60);

/// Waits until the log has a line with all of `words`.
async fn says(log: &Path, words: &[&str]) {
    eventually(format!("{} says {words:?}", log.display()), SOON, async || {
        let text = fs::read_to_string(log)?;
        ensure!(text.lines().any(|line| words.iter().all(|word| line.contains(word))), "{text}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_machine_whose_certificate_was_revoked_and_control_both_say_so() -> Result<()> {
    let cdn = Cdn::of(fleet(2)).await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    cdn.person.json(&["edge", "revoke", "fra", "--yes"]).await?;
    let words = ["fra was removed or has joined again since", "join it with a new token"];
    says(cdn.fleet.edge("fra")?.process.log(), &words).await;
    says(cdn.fleet.control().log(), &["fra was turned away", words[0]]).await;
    // Visitors of that edge notice nothing.
    ensure!(cdn.text("fra", "/").await? == "hello");
    cdn.fleet.stop().await
}

/// A snapshot of an edge, restored beside the original.
struct Snapshot(Process);

impl Snapshot {
    /// What `edge` has on its disk now, started on other ports.
    async fn of(cdn: &Cdn, edge: &str) -> Result<Self> {
        let copy = cdn.fleet.dir().join(format!("{edge}-snapshot"));
        let done =
            Command::new("cp").arg("-a").arg(cdn.fleet.machine_dir(edge)).arg(&copy).status();
        ensure!(done?.success(), "{edge} cannot be copied");
        let file = cdn.fleet.dir().join(format!("config/{edge}.toml"));
        let mut table = config::table(&fs::read_to_string(file)?)?;
        let over = format!(
            "state_dir = {copy:?}\n[http]\nlisten = [\"127.0.0.1:0\"]\n[https]\nlisten = [\"127.0.0.1:0\"]\n[ops]\nlisten = \"127.0.0.1:0\""
        );
        config::merge(&mut table, &config::table(&over)?);
        let file = copy.join("edge.toml");
        fs::write(&file, table.to_string())?;
        let args = ["serve", "edge", "--exit-with-stdin", "--config", &file.to_string_lossy()];
        let mut process = Process::new(Program {
            name: format!("snapshot of {edge}"),
            binary: binary::nigh(),
            args: args.map(str::to_owned).to_vec(),
            log: copy.join("log"),
            environment: Vec::new(),
        })?;
        process.start().await?;
        Ok(Self(process))
    }
}

#[tokio::test]
async fn a_snapshot_that_is_restored_beside_its_original_is_seen_and_named_by_all_three()
-> Result<()> {
    let cdn = Cdn::of(fleet(2)).await?;
    let old = folder(&[("index.html", "old")])?;
    cdn.push(old.path()).await?;
    let mut snapshot = Snapshot::of(&cdn, "nyc").await?;
    let words = ["another machine goes by the identity of nyc"];
    says(cdn.fleet.edge("nyc")?.process.log(), &words).await;
    says(cdn.fleet.control().log(), &["nyc was turned away", words[0]]).await;
    eventually("people are warned", SOON, async || {
        let status = cdn.fleet.client().status().await?;
        let told = "two machines go by the identity of nyc";
        ensure!(status.warnings.iter().any(|warning| warning.contains(told)), "{status:?}");
        Ok(())
    })
    .await;
    // The original serves on, and is back when the copy is gone.
    ensure!(cdn.text("nyc", "/").await? == "old");
    snapshot.0.stop().await?;
    let new = folder(&[("index.html", "new")])?;
    // It may go live before the original is back, which then catches up.
    cdn.person.run(&["push", &new.path().to_string_lossy(), "--site", SITE]).await?;
    eventually("the original has caught up", LONG, async || {
        ensure!(cdn.text("nyc", "/").await? == "new");
        Ok(())
    })
    .await;
    cdn.fleet.stop().await
}
