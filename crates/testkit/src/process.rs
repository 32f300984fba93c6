//! One `nigh serve` child: started, watched, paused, killed, and never left behind.
//!
//! A child's standard input is a pipe that its parent holds. When the parent ends, however it ends, the
//! pipe closes and the child stops.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::listeners::{Listeners, Notifications};

/// How long a child may take until it is ready.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a child that was told to stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(40);
/// How long a child that was killed since it was dropped is waited for.
const DROP_DEADLINE: Duration = Duration::from_secs(1);
/// How much of a child's log an error shows.
const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 12;

/// What to run, and where its log goes.
#[derive(Clone, Debug)]
pub struct Program {
    /// What people call it: `control`, `edge fra`.
    pub name: String,
    pub binary: PathBuf,
    pub args: Vec<String>,
    pub log: PathBuf,
    /// Environment variables besides those of this process.
    pub environment: Vec<(String, String)>,
}

/// A child, running or not.
#[derive(Debug)]
pub struct Process {
    program: Program,
    notifications: Notifications,
    child: Option<Child>,
    /// Held apart from the child, whose `wait` would close it.
    stdin: Option<ChildStdin>,
    listeners: Listeners,
}

impl Process {
    /// A process that has not started yet.
    pub fn new(program: Program) -> Result<Self> {
        let notifications = Notifications::open().context("could not open a notify socket")?;
        Ok(Self {
            program,
            notifications,
            child: None,
            stdin: None,
            listeners: Listeners::default(),
        })
    }

    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// What the child bound when it was started last.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// What it runs from its next start on.
    pub fn set_program(&mut self, binary: impl Into<PathBuf>) {
        self.program.binary = binary.into();
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.program.log
    }

    /// Starts the child and waits until every listener is bound.
    pub async fn start(&mut self) -> Result<&Listeners> {
        if self.child.is_some() {
            bail!("{} runs already", self.name());
        }
        let child = self.child.insert(self.program.spawn(self.notifications.address())?);
        self.stdin = child.stdin.take();
        let pid = child.id().context("the child has ended before it was looked at")?;
        let ready = tokio::select! {
            ready = self.notifications.ready(pid) => Ok(ready?),
            status = child.wait() => Err(self.program.early_end(status?)),
            () = tokio::time::sleep(START_DEADLINE) => Err(self.program.not_ready()),
        };
        match ready {
            Ok(listeners) => self.listeners = listeners,
            Err(error) => {
                self.kill().await?;
                return Err(error);
            }
        }
        Ok(&self.listeners)
    }

    /// SIGKILL, as a power cut would; ends when the child is gone.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.with_context(|| format!("could not kill {}", self.name()))?;
        }
        Ok(())
    }

    /// SIGTERM, as an operator would; ends when the child is gone.
    pub async fn stop(&mut self) -> Result<()> {
        self.send(Signal::CONT)?;
        self.send(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match tokio::time::timeout(STOP_DEADLINE, child.wait()).await {
            Ok(status) => drop(status?),
            Err(_) => {
                child.kill().await?;
                bail!("{} did not stop within {STOP_DEADLINE:?}", self.name());
            }
        }
        Ok(())
    }

    /// SIGSTOP: it holds its sockets and answers nobody.
    pub fn pause(&self) -> Result<()> {
        self.send(Signal::STOP)
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.send(Signal::CONT)
    }

    /// Reads its configuration again.
    pub fn reload(&self) -> Result<()> {
        self.send(Signal::HUP)
    }

    fn send(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        match pid {
            Some(pid) => kill_process(pid, signal)
                .with_context(|| format!("could not signal {}", self.name())),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let _ = child.start_kill();
        // Its folder is removed next, so it must be gone by then; a killed process soon is.
        let deadline = Instant::now() + DROP_DEADLINE;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Program {
    fn spawn(&self, notify_socket: &str) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("could not open {}", self.log.display()))?;
        Command::new(&self.binary)
            .args(&self.args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("NOTIFY_SOCKET", notify_socket)
            .env_remove("WATCHDOG_USEC")
            .env_remove("LISTEN_FDS")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at a terminal is for the parent, which stops its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not run {}", self.binary.display()))
    }

    fn early_end(&self, status: ExitStatus) -> anyhow::Error {
        anyhow!("{} ended before it was ready ({status}):\n{}", self.name, self.tail())
    }

    fn not_ready(&self) -> anyhow::Error {
        anyhow!("{} was not ready after {START_DEADLINE:?}:\n{}", self.name, self.tail())
    }

    /// The last lines of the log.
    fn tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = VecDeque::with_capacity(TAIL_LINES);
    for line in text.lines() {
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    Ok(lines.into_iter().collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Process {
        Process::new(Program {
            name: "the child".to_owned(),
            binary: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            log: dir.join("log"),
            environment: Vec::new(),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_child_that_ends_early_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = shell("echo first; echo the port is taken >&2; exit 3", dir.path());
        let error = child.start().await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("first\nthe port is taken"), "{error}");
        assert_eq!(child.pid(), None);
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = shell("", dir.path());
        child.program.binary = "/nonexistent/nigh".into();
        let error = child.start().await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/nigh"), "{error}");
    }
}
