//! What does somebody at a terminal do and see?

use std::{
    ffi::OsStr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use nigh_testkit::Fleet;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::binary;

/// How long any command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);

/// Somebody with a home folder of their own, who types `nigh …`.
#[derive(Clone, Debug)]
pub struct Person {
    environment: Vec<(String, String)>,
    home: Arc<TempDir>,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Run {
    /// The line that was typed.
    pub line: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// What `nigh push --json` said.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub release: String,
    pub state: String,
    pub url: String,
    pub files_total: u64,
    pub files_new: u64,
    pub files_reused: u64,
    pub bytes_sent: u64,
    /// Name and state of every edge.
    pub edges: Vec<(String, String)>,
    pub json: Value,
}

/// A command that is still running.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
}

impl Person {
    /// Somebody who knows nothing of any control.
    pub fn stranger() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("nigh-home-").tempdir()?;
        Ok(Self { environment: Vec::new(), home: Arc::new(home) })
    }

    /// Somebody with the token that has every right.
    pub fn of(fleet: &Fleet) -> Result<Self> {
        let mut person = Self::stranger()?;
        person.environment = fleet.environment();
        Ok(person)
    }

    /// The same person with another value of one environment variable.
    pub fn with(&self, name: &str, value: impl Into<String>) -> Self {
        let mut person = self.clone();
        person.environment.retain(|(known, _)| known != name);
        person.environment.push((name.to_owned(), value.into()));
        person
    }

    /// Their home folder, in which they type.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What commands find in the environment.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Any program, run in their place.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("NIGH_") || text.starts_with("XDG_") || text.starts_with("CI") {
                command.env_remove(&name);
            }
        }
        command
            .env("HOME", self.home())
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts `nigh ARGS…`.
    pub fn start(&self, args: &[&str]) -> Result<Running> {
        let line = format!("nigh {}", args.join(" "));
        let child = self.program(binary::nigh()).args(args).spawn();
        Ok(Running { child: child.with_context(|| line.clone())?, line })
    }

    /// Types `nigh ARGS…` and waits for its end.
    pub async fn run(&self, args: &[&str]) -> Result<Run> {
        self.start(args)?.end().await
    }

    /// Types `nigh ARGS… --json`, which must succeed, and reads its result.
    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let args = [args, &["--json"]].concat();
        self.run(&args).await?.expect(0).json()
    }

    /// Pushes `dir`; it must be live on every edge.
    pub async fn push(&self, site: &str, dir: &Path) -> Result<Pushed> {
        self.push_with(site, dir, &[]).await
    }

    /// Pushes `dir` with further arguments; it must be live on every edge.
    pub async fn push_with(&self, site: &str, dir: &Path, args: &[&str]) -> Result<Pushed> {
        let dir = dir.to_string_lossy();
        let args = [&["push", &dir, "--site", site], args].concat();
        Pushed::read(self.json(&args).await?)
    }
}

impl Running {
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal, if it still runs.
    pub fn send(&self, signal: Signal) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Its standard output, to read before the end.
    pub fn take_stdout(&mut self) -> Result<tokio::process::ChildStdout> {
        self.child.stdout.take().context("standard output was taken already")
    }

    /// Waits for the end, and gives up after two minutes.
    pub async fn end(self) -> Result<Run> {
        let line = self.line;
        let output = tokio::time::timeout(COMMAND_DEADLINE, self.child.wait_with_output()).await;
        let output = output.with_context(|| format!("{line}: still running"))??;
        Ok(Run {
            line,
            code: ExitStatus::code(&output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl Run {
    /// The same run, if it ended with `code`.
    ///
    /// # Panics
    ///
    /// With everything that was printed, when it did not.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The same run, if people were told every one of `words`.
    ///
    /// # Panics
    ///
    /// With everything that was printed, when they were not.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in what people read:\n{self}");
        }
        self
    }

    /// The one JSON document on standard output.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON document: {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Run { line, code, stdout, stderr } = self;
        write!(f, "$ {line}\n[{code:?}]\n-- stdout\n{stdout}\n-- stderr\n{stderr}")
    }
}

impl Pushed {
    /// Reads the document, whose shape scripts rely on.
    pub fn read(json: Value) -> Result<Self> {
        let text = |name: &str| {
            let text = json[name].as_str().with_context(|| format!("no {name:?}: {json}"))?;
            anyhow::Ok(text.to_owned())
        };
        let count = |name: &str| {
            json["files"][name].as_u64().with_context(|| format!("no files.{name}: {json}"))
        };
        let edges = json["edges"].as_array().with_context(|| format!("no edges: {json}"))?;
        let edge = |edge: &Value| {
            let name = edge["name"].as_str().context("an edge has no name")?;
            let state = edge["state"].as_str().context("an edge has no state")?;
            anyhow::Ok((name.to_owned(), state.to_owned()))
        };
        Ok(Self {
            release: text("release")?,
            state: text("state")?,
            url: text("url")?,
            files_total: count("total")?,
            files_new: count("new")?,
            files_reused: count("reused")?,
            bytes_sent: count("bytes_sent")?,
            edges: edges.iter().map(edge).collect::<Result<_>>()?,
            json,
        })
    }

    /// The names of all edges that serve it.
    pub fn live_on(&self) -> Vec<&str> {
        let live = self.edges.iter().filter(|(_, state)| state == "active");
        let mut names: Vec<&str> = live.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}
