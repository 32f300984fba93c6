//! A real PostgreSQL for tests, gone when they are.
//!
//! A small shell runs it and reads orders from a pipe that this process holds. When this process
//! ends, however it ends, the pipe closes, and the shell ends the server and removes its folder.
//! PostgreSQL refuses to run as root, so as root everything is run as its own user.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Where Debian keeps every major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The name of the one role there is, which may do everything.
const ROLE: &str = "nigh";
/// How long the server may take to accept connections; it may have a crash to recover from.
const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Prints the folder, then `ok` or `failed` for each order: `start`, `stop`.
///
/// Texts are compared by the rules of English unless a column says otherwise, as on most servers.
const SUPERVISOR: &str = r#"
bin=$1 dir=$(mktemp -d /tmp/nigh-postgres-XXXXXX) || exit 1
pid=
stop() { [ -z "$pid" ] || { kill -QUIT "$pid"; wait "$pid"; }; pid=; }
trap 'stop; rm -rf "$dir"' EXIT
cd "$dir"
"$bin/initdb" -D data -U nigh -A trust -E UTF8 --locale=C.UTF-8 --locale-provider=icu \
    --icu-locale=en-US --no-sync >log 2>&1 || { cat log >&2; exit 1; }
echo "$dir"
while read -r order; do
  case $order in
    start)
      "$bin/postgres" -D data -k "$dir" -c listen_addresses= -c max_connections=400 -c fsync=off \
          -c full_page_writes=off -c shared_buffers=64MB \
          </dev/null >>log 2>&1 &
      pid=$! ;;
    stop) stop ;;
  esac
  echo ok
done
"#;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatabaseKind {
    #[default]
    Sqlite,
    Postgres,
}

/// A server with databases of its own. Dropping it ends it.
pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    supervisor: Mutex<Supervisor>,
    databases_total: AtomicU32,
}

struct Supervisor {
    child: Child,
    /// Gone when the supervisor is to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// A database of its own in a [`Cluster`]. Dropping it removes it.
#[derive(Clone, Debug)]
pub struct Database(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    cluster: Arc<Cluster>,
    name: String,
}

impl DatabaseKind {
    /// What `NIGH_TEST_DATABASE` asks for; SQLite when it is not set.
    ///
    /// # Panics
    ///
    /// When it is something else: tests of the wrong database must not pass.
    pub fn of_tests() -> Self {
        match std::env::var("NIGH_TEST_DATABASE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("NIGH_TEST_DATABASE is {other}; it may be sqlite or postgres"),
        }
    }

    /// A database of its own, unless SQLite is asked for.
    pub fn make(self) -> Result<Option<Database>> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Postgres => Cluster::shared()?.database().map(Some),
        }
    }
}

impl Cluster {
    /// Starts a server.
    pub fn start() -> Result<Arc<Self>> {
        let bin = newest()?;
        let mut command = Command::new("/bin/sh");
        if rustix::process::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "/bin/sh"]);
        }
        let mut child = command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at a terminal is for the tests; the supervisor ends with their pipe.
            .process_group(0)
            .spawn()
            .context("cannot run PostgreSQL's supervisor")?;
        let orders = child.stdin.take();
        let stdout = child.stdout.take().context("the supervisor has no output")?;
        let mut supervisor = Supervisor { child, orders, answers: BufReader::new(stdout) };
        let dir = PathBuf::from(supervisor.answer()?);
        let cluster = Self {
            bin,
            dir,
            supervisor: Mutex::new(supervisor),
            databases_total: AtomicU32::new(0),
        };
        cluster.resume()?;
        Ok(Arc::new(cluster))
    }

    /// The server that all tests of this process share.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = &*shared {
            return Ok(Arc::clone(cluster));
        }
        Ok(Arc::clone(shared.insert(Self::start()?)))
    }

    /// Ends the server at once, as a power cut would, and keeps its folder.
    pub fn halt(&self) -> Result<()> {
        self.order("stop")
    }

    /// Starts the server again; returns when it answers.
    pub fn resume(&self) -> Result<()> {
        self.order("start")?;
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.run("postgres", "SELECT 1") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                    return Err(error.context(format!("PostgreSQL does not answer:\n{log}")));
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// A new, empty database.
    pub fn database(self: &Arc<Self>) -> Result<Database> {
        let number = self.databases_total.fetch_add(1, Ordering::Relaxed);
        let name = format!("fleet{number}");
        self.run("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(Database(Arc::new(Owned { cluster: Arc::clone(self), name })))
    }

    /// Runs statements in one database as `psql` does; returns what they answer, unaligned.
    fn run(&self, database: &str, sql: &str) -> Result<String> {
        let output = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", ROLE, "-d", database])
            .arg("-h")
            .arg(&self.dir)
            .args(["-c", sql])
            .stdin(Stdio::null())
            .output()
            .context("cannot run psql")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{sql}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn order(&self, order: &str) -> Result<()> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = supervisor.orders.as_mut().context("the supervisor has ended")?;
        writeln!(orders, "{order}").context("the supervisor has ended")?;
        match supervisor.answer()?.as_str() {
            "ok" => Ok(()),
            answer => bail!("the supervisor answered {answer:?} to {order}"),
        }
    }
}

impl Supervisor {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "PostgreSQL's supervisor ended; see above");
        line.pop();
        Ok(line)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Database {
    /// What control's `database.url` is to be.
    pub fn url(&self) -> String {
        self.url_as(ROLE)
    }

    /// The same as another role, which may be `name:password`.
    pub fn url_as(&self, role: &str) -> String {
        let Owned { cluster, name } = &*self.0;
        format!("postgres://{role}@localhost/{name}?host={}", cluster.dir.display())
    }

    /// Runs statements as `psql` does; returns what they answer, unaligned.
    pub fn run(&self, sql: &str) -> Result<String> {
        self.0.cluster.run(&self.0.name, sql)
    }

    /// Where it is.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // A server that was halted keeps it until it is dropped itself.
        let _ = self.cluster.run("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// The programs of the newest version that is installed.
fn newest() -> Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().filter_map(Result::ok);
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path));
    let bin = newest.map(|path| path.join("bin")).filter(|bin| bin.join("initdb").is_file());
    bin.with_context(|| format!("no PostgreSQL in {VERSIONS}: run tests/install"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_outlives_a_halt_of_its_server_and_nothing_outlives_the_cluster() {
        let cluster = Cluster::start().unwrap();
        let database = cluster.database().unwrap();
        database.run("CREATE TABLE a (b TEXT); INSERT INTO a VALUES ('x'), ('B'), ('a')").unwrap();
        cluster.halt().unwrap();
        assert!(database.run("SELECT 1").is_err());
        cluster.resume().unwrap();
        assert_eq!(database.run("SELECT b FROM a ORDER BY b").unwrap(), "a\nB\nx", "not by bytes");
        let dir = cluster.dir.clone();
        drop((database, cluster));
        assert!(!dir.exists());
    }
}
