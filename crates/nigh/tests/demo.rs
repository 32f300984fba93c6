//! `nigh demo`, as a newcomer and as a script meets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nigh_testkit::{Visitor, dig::Question, geo_fixture, tree};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

/// A demo that is killed when the test fails before its end.
struct Demo {
    child: Child,
    ready: Value,
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Already ended when the test came to its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    fn start(args: &[&str], home: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(["demo", "--json"])
            .args(args)
            .env("TMPDIR", home)
            .env_remove("NIGH_CONFIG")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, ready }
    }

    fn text(&self, pointer: &str) -> String {
        let value =
            self.ready.pointer(pointer).unwrap_or_else(|| panic!("{pointer}: {}", self.ready));
        value.as_str().unwrap_or_else(|| panic!("{pointer}: {value}")).to_owned()
    }

    fn addr(&self, pointer: &str) -> SocketAddr {
        self.text(pointer).parse().unwrap()
    }

    fn pid(&self, pointer: &str) -> Pid {
        let pid = self.ready.pointer(pointer).and_then(Value::as_i64).unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    fn pids(&self) -> Vec<Pid> {
        let machines =
            (0..self.ready["edges"].as_array().unwrap().len()).map(|i| format!("/edges/{i}/pid"));
        machines
            .chain(["/control/pid".into(), "/dns/0/pid".into()])
            .map(|at| self.pid(&at))
            .collect()
    }

    fn nigh(&self, args: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(args)
            .arg("--json")
            .env("NIGH_API_URL", self.text("/control/url"))
            .env("NIGH_TOKEN", self.text("/control/token"))
            .env("NIGH_CA_FILE", self.text("/control/ca_file"))
            .env("NIGH_SITE", self.text("/site/name"))
            .env("XDG_CACHE_HOME", self.text("/state_dir"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn front_page(&self, edge: usize) -> String {
        let ca_pem = std::fs::read(self.text("/control/ca_file")).unwrap();
        let address = self.addr(&format!("/edges/{edge}/https"));
        let visitor = Visitor::https(&self.text("/site/host"), address, &ca_pem).unwrap();
        visitor.get("/").await.unwrap().text()
    }

    /// The nearest edge to `city`, as dig sees it.
    async fn nearest(&self, city: &str) -> Vec<String> {
        let city = geo_fixture::find(city).unwrap();
        let question = Question::new(self.addr("/dns/0/addr"), &self.text("/site/host"), "A");
        let reply = question.seen_from(city.ipv4).ask().await.unwrap();
        reply.answers.into_iter().map(|record| record.data).collect()
    }

    fn edge_ip(&self, edge: usize) -> String {
        self.addr(&format!("/edges/{edge}/https")).ip().to_string()
    }

    /// Ctrl-C; ends when the demo has.
    fn interrupt(&mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the demo does not end");
            std::thread::yield_now();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_takes_the_tour_and_leaves_nothing_behind() {
    let (home, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree::write_all(site.path(), &[("index.html", "first"), ("a.html", "a")]).unwrap();
    let dir = site.path().to_str().unwrap();
    let mut demo = Demo::start(&[dir], home.path());
    assert_eq!(demo.ready["ready"], true);
    assert_eq!(demo.ready["edges"].as_array().unwrap().len(), 3);
    for edge in 0..3 {
        assert_eq!(demo.front_page(edge).await, "first");
    }
    assert_eq!(demo.nearest("Berlin").await[0], demo.edge_ip(0), "Frankfurt");
    assert_eq!(demo.nearest("Tokyo").await[0], demo.edge_ip(2), "Singapore");

    tree::write_all(site.path(), &[("index.html", "second")]).unwrap();
    let pushed = demo.nigh(&["push", dir]);
    assert_eq!(pushed["files"]["new"], 1, "{pushed}");
    assert_eq!(pushed["edges"].as_array().unwrap().len(), 3);
    for edge in 0..3 {
        assert_eq!(demo.front_page(edge).await, "second");
    }
    demo.nigh(&["rollback"]);
    assert_eq!(demo.front_page(1).await, "first");

    kill_process(demo.pid("/edges/0/pid"), Signal::KILL).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while demo.nearest("Berlin").await.contains(&demo.edge_ip(0)) {
        assert!(Instant::now() < deadline, "DNS still names the dead edge");
    }

    let pids = demo.pids();
    demo.interrupt();
    for pid in pids {
        assert!(test_kill_process(pid).is_err(), "{pid:?} is left behind");
    }
    let left: Vec<_> =
        std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_fleet_comes_back_with_its_ports_and_its_site() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("kept");
    let args = ["--edges", "1", "--state", state.to_str().unwrap()];
    let mut first = Demo::start(&args, home.path());
    let page = first.front_page(0).await;
    first.interrupt();
    let mut second = Demo::start(&args, home.path());
    for pointer in ["/control/url", "/control/token", "/edges/0/https", "/dns/0/addr"] {
        assert_eq!(second.text(pointer), first.text(pointer), "{pointer}");
    }
    assert_eq!(second.front_page(0).await, page);
    second.interrupt();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_the_demo_itself_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&["--edges", "1"], home.path());
    let pids = demo.pids();
    demo.child.kill().unwrap();
    demo.child.wait().unwrap();
    let deadline = Instant::now() + DEADLINE;
    while pids.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        assert!(Instant::now() < deadline, "children outlive the demo");
        tokio::task::yield_now().await;
    }
}
