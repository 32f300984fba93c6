//! A role as a child process: what its supervisor, its visitors and its operator see.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Everything here takes milliseconds; a machine under load may need longer.
const DEADLINE: Duration = Duration::from_secs(30);

struct Echo {
    child: Child,
    manager: UnixDatagram,
    dir: tempfile::TempDir,
    echo: SocketAddr,
    ops: SocketAddr,
}

/// How to start the child.
struct Wish {
    grace_ms: u64,
    abstract_socket: bool,
    watchdog_usec: Option<u64>,
    stdin: Option<TcpListener>,
}

impl Default for Wish {
    fn default() -> Self {
        Wish { grace_ms: 20_000, abstract_socket: false, watchdog_usec: None, stdin: None }
    }
}

impl Echo {
    fn start(wish: Wish) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (manager, address) = manager(&dir, wish.abstract_socket);
        std::fs::write(dir.path().join("greeting"), "hello").unwrap();
        let mut command = Command::new(example());
        command.arg(dir.path().join("greeting")).arg(wish.grace_ms.to_string()).arg(address);
        command.args(wish.watchdog_usec.map(|usec| usec.to_string()));
        if let Some(listener) = wish.stdin {
            // Descriptor 0 is the one that std can hand to a child.
            command.stdin(Stdio::from(OwnedFd::from(listener)));
            command.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0");
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut role = Echo { child, manager, dir, echo: nowhere, ops: nowhere };
        let ready = role.hears("READY=1\n");
        let listeners = ready.lines().find_map(|line| line.strip_prefix("X_NIGH_LISTENERS="));
        let listeners: serde_json::Value = serde_json::from_str(listeners.unwrap()).unwrap();
        assert_eq!(listeners["role"], "echo");
        assert_eq!(listeners["pid"], role.child.id());
        role.echo = listeners["echo"].as_str().unwrap().parse().unwrap();
        role.ops = listeners["ops"].as_str().unwrap().parse().unwrap();
        role
    }

    /// The next message to the service manager that holds `text`.
    fn hears(&self, text: &str) -> String {
        let mut message = [0; 4096];
        loop {
            let length = self.manager.recv(&mut message).expect("a message before the deadline");
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            if message.contains(text) {
                return message;
            }
        }
    }

    /// Connects and reads what is said first.
    fn visit(&self) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.echo).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).unwrap();
        (stream, String::from_utf8(greeting.to_vec()).unwrap())
    }

    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.ops).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The exit code, the last word on stdout and the log.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut last_word, mut log) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut last_word).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), last_word, log)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn manager(dir: &tempfile::TempDir, is_abstract: bool) -> (UnixDatagram, std::ffi::OsString) {
    let path = dir.path().join("notify");
    let (manager, address) = if is_abstract {
        let name = format!("nigh-daemon-test-{}", dir.path().display());
        let address = UnixAddr::from_abstract_name(&name).unwrap();
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into())
    } else {
        (UnixDatagram::bind(&path).unwrap(), path.into_os_string())
    };
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    (manager, address)
}

/// Cargo builds examples beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let example = profile.join("examples/echo_role");
    assert!(example.exists(), "`cargo test -p nigh-daemon` builds {}", example.display());
    example
}

#[test]
fn a_started_role_serves_and_is_watched() {
    let role = Echo::start(Wish::default());
    assert_eq!(role.visit().1, "hello");
    assert!(role.page("/healthz").starts_with("HTTP/1.1 200 "));
    let metrics = role.page("/metrics");
    assert!(metrics.contains("nigh_process_tasks{task=\"accept\"} 1\n"), "{metrics}");
}

#[test]
fn a_role_that_said_it_is_ready_is_ready_until_it_says_it_stops() {
    let role = Echo::start(Wish::default());
    let (visitor, _) = role.visit();
    assert!(role.page("/readyz").starts_with("HTTP/1.1 200 "));
    role.signal(Signal::TERM);
    role.hears("STOPPING=1");
    let page = role.page("/readyz");
    assert!(page.starts_with("HTTP/1.1 503 ") && page.contains("stopping"), "{page}");
    drop(visitor);
    assert_eq!(role.end().0, Some(0));
}

#[test]
fn sigterm_waits_for_the_visitor_in_flight_and_takes_no_new_one() {
    let role = Echo::start(Wish::default());
    let (mut visitor, _) = role.visit();
    role.signal(Signal::TERM);
    role.hears("STOPPING=1");
    while TcpStream::connect(role.echo).is_ok() {}
    visitor.write_all(b"x").unwrap();
    let mut rest = String::new();
    visitor.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " bye");
    let (code, last_word, log) = role.end();
    assert_eq!((code, last_word.as_str()), (Some(0), "Drained\n"), "{log}");
}

#[test]
fn a_visitor_that_outlasts_the_grace_is_cut_off_and_named_in_the_log() {
    let role = Echo::start(Wish { grace_ms: 50, ..Wish::default() });
    let (mut visitor, _) = role.visit();
    role.signal(Signal::INT);
    let mut rest = Vec::new();
    let _ = visitor.read_to_end(&mut rest);
    let (code, last_word, log) = role.end();
    assert_eq!((code, last_word.as_str()), (Some(0), "CutShort\n"));
    assert!(log.contains("stopped with work in flight") && log.contains("visitor (1)"), "{log}");
}

#[test]
fn a_second_sigint_ends_the_drain_at_once() {
    let role = Echo::start(Wish { grace_ms: 3_600_000, ..Wish::default() });
    let _visitor = role.visit();
    role.signal(Signal::INT);
    role.hears("STOPPING=1");
    role.signal(Signal::INT);
    let (code, last_word, log) = role.end();
    assert_eq!((code, last_word.as_str()), (Some(0), "CutShort\n"), "{log}");
}

#[test]
fn sighup_takes_the_new_configuration_without_a_pause() {
    let role = Echo::start(Wish::default());
    let (mut old_visitor, _) = role.visit();
    std::fs::write(role.dir.path().join("greeting"), "salut").unwrap();
    role.signal(Signal::HUP);
    assert!(role.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    assert!(role.hears("READY=1").contains("reloaded"));
    assert_eq!(role.visit().1, "salut");
    old_visitor.write_all(b"x").unwrap();
    let mut rest = String::new();
    old_visitor.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " bye");
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let role = Echo::start(Wish::default());
    for spoil in [write_empty, remove] {
        spoil(&role.dir.path().join("greeting"));
        role.signal(Signal::HUP);
        let status = role.hears("READY=1");
        assert!(status.contains("reload failed"), "{status}");
        assert_eq!(role.visit().1, "hello");
    }
}

fn write_empty(file: &std::path::Path) {
    std::fs::write(file, "").unwrap();
}

fn remove(file: &std::path::Path) {
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_task_that_panics_is_counted_and_the_role_goes_on() {
    let role = Echo::start(Wish::default());
    let (mut visitor, _) = role.visit();
    visitor.write_all(b"p").unwrap();
    let mut rest = Vec::new();
    let _ = visitor.read_to_end(&mut rest);
    assert_eq!(role.visit().1, "hello");
    assert!(role.page("/metrics").contains("nigh_process_task_panics_total 1\n"));
    role.signal(Signal::TERM);
    let (_, _, log) = role.end();
    assert!(log.contains("task visitor panicked: the visitor wants a panic"), "{log}");
    assert!(log.contains("echo_role.rs"), "{log}");
}

#[test]
fn the_watchdog_is_fed_while_the_role_runs() {
    let role = Echo::start(Wish { watchdog_usec: Some(20_000), ..Wish::default() });
    for _ in 0..3 {
        role.hears("WATCHDOG=1");
    }
}

#[test]
fn a_service_manager_in_the_abstract_namespace_is_told_too() {
    let role = Echo::start(Wish { abstract_socket: true, ..Wish::default() });
    role.signal(Signal::TERM);
    role.hears("STOPPING=1");
}

#[test]
fn a_socket_that_was_handed_over_is_used_instead_of_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Queued before the role runs, as a visitor during a restart is.
    let mut early = TcpStream::connect(address).unwrap();
    let role = Echo::start(Wish { stdin: Some(listener), ..Wish::default() });
    assert_eq!(role.echo, address);
    let mut greeting = [0; 5];
    early.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello");
}

#[test]
fn a_role_outlives_whoever_read_its_log() {
    let mut role = Echo::start(Wish::default());
    drop(role.child.stderr.take());
    let (mut visitor, _) = role.visit();
    visitor.write_all(b"p").unwrap();
    let mut rest = Vec::new();
    let _ = visitor.read_to_end(&mut rest);
    assert_eq!(role.visit().1, "hello");
}
