//! How long from `nigh push` to served on three edges, and how long do three `rsync -a` take?

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use nigh_testkit::Fleet;

use crate::{
    command::Nigh,
    peer::{self, RsyncDaemon},
    summary::{median, seconds},
    tree::Tree,
};

/// Times of one kind of push, nigh's and rsync's by turns.
#[derive(Debug, Default)]
struct Turns {
    nigh: Vec<Duration>,
    rsync: Vec<Duration>,
}

impl Turns {
    fn row(&self, what: &str) -> Result<String> {
        let nigh = median(&self.nigh).context("no turn")?;
        let rsync = median(&self.rsync).context("no turn")?;
        let ratio = nigh.as_secs_f64() / rsync.as_secs_f64();
        Ok(format!("| {what} | {} | {} | {ratio:.2} |", seconds(nigh), seconds(rsync)))
    }
}

/// Measures first pushes, pushes of one changed file and pushes of nothing new; a Markdown table.
pub async fn measure(binary: &Path, tree: &Tree, rounds: usize) -> Result<String> {
    let (mut first, mut changed, mut same) = <(Turns, Turns, Turns)>::default();
    for round in 0..rounds {
        let home = tempfile::tempdir()?;
        let fleet = Fleet::start(binary).await?;
        let cache = home.path().join("cache");
        let nigh = Nigh { binary, fleet: &fleet, cache: &cache };
        nigh.run(&["site", "create", "bench"])?;
        let daemons = (0..3)
            .map(|index| {
                let home = home.path().join(format!("rsync{index}"));
                fs::create_dir_all(&home)?;
                RsyncDaemon::start(&home)
            })
            .collect::<Result<Vec<_>>>()?;

        // By turns: whoever comes second finds the files in the page cache, so it is not always one.
        let dir = tree.dir.as_path();
        if round % 2 == 0 {
            first.rsync.push(peer::rsync_all(&daemons, dir)?);
            first.nigh.push(nigh.push(dir)?.1);
        } else {
            first.nigh.push(nigh.push(dir)?.1);
            first.rsync.push(peer::rsync_all(&daemons, dir)?);
        }
        for turn in 0..5 {
            change_one_file(dir, round * 100 + turn)?;
            let (report, elapsed) = nigh.push(dir)?;
            ensure!(report["files"]["new"] == 1, "one file changed, and nigh sent {report}");
            changed.nigh.push(elapsed);
            changed.rsync.push(peer::rsync_all(&daemons, dir)?);
        }
        for _ in 0..5 {
            same.nigh.push(nigh.push(dir)?.1);
            same.rsync.push(peer::rsync_all(&daemons, dir)?);
        }
        fleet.stop().await?;
    }
    Ok([
        format!(
            "{} files, {} MB, three edges, {rounds} rounds, medians\n",
            tree.files,
            tree.bytes / 1_000_000
        ),
        "| push | nigh, until all edges serve it | three `rsync -a` at once | ratio |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
        first.row("first")?,
        changed.row("one file changed")?,
        same.row("nothing changed")?,
    ]
    .join("\n"))
}

fn change_one_file(dir: &Path, turn: usize) -> Result<()> {
    Ok(fs::write(dir.join("changed-by-the-benchmark.html"), format!("<p>turn {turn}</p>\n"))?)
}
