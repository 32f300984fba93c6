//! Runs `nigh` as a person would, against a fleet.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nigh_testkit::Fleet;
use serde_json::Value;

/// The binary, the fleet's environment and a cache of its own.
#[derive(Debug)]
pub struct Nigh<'a> {
    pub binary: &'a Path,
    pub fleet: &'a Fleet,
    /// Where digests of files are remembered between pushes.
    pub cache: &'a Path,
}

impl Nigh<'_> {
    /// Runs one command to its end: what it printed as JSON, and how long it took.
    pub fn run(&self, args: &[&str]) -> Result<(Value, Duration)> {
        let start = Instant::now();
        let output = Command::new(self.binary)
            .args(args)
            .arg("--json")
            .envs(self.fleet.environment())
            .env("XDG_CACHE_HOME", self.cache)
            .stdin(Stdio::null())
            .output()
            .context("could not run nigh")?;
        let elapsed = start.elapsed();
        if !output.status.success() {
            bail!("nigh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("nigh {args:?} printed no JSON"))?;
        Ok((value, elapsed))
    }

    /// `nigh push`, and the time until every edge serves it.
    pub fn push(&self, dir: &Path) -> Result<(Value, Duration)> {
        self.push_within(dir, Duration::from_secs(600))
    }

    /// The same for a push that may take so long.
    pub fn push_within(&self, dir: &Path, timeout: Duration) -> Result<(Value, Duration)> {
        let dir = dir.to_str().context("the folder's name is not UTF-8")?;
        let timeout = format!("{}s", timeout.as_secs());
        let (report, elapsed) =
            self.run(&["push", dir, "--site", "bench", "--timeout", &timeout])?;
        let edges = report["edges"].as_array().context("no edges in the report")?;
        for edge in edges {
            if edge["state"] != "active" {
                bail!("edge {} is {} after the push", edge["name"], edge["state"]);
            }
        }
        Ok((report, elapsed))
    }
}
