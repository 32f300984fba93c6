//! What happens on a host when the package comes, changes and goes, and does an image of it run? On a real
//! Debian in a folder, which takes too long for every run: `tests/run --long` does it, as root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use nigh_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Output {
    let mut command = Command::new(&program);
    let output = command.args(args).current_dir(root()).output();
    output.unwrap_or_else(|error| panic!("{:?}: {error}", program.as_ref()))
}

#[track_caller]
fn succeed(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> String {
    let output = run(&program, args);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {args:?}:\n{said}\n{complaint}", program.as_ref());
    said + &complaint
}

/// The package of the program that tests run.
fn package(dir: &Path, revision: &str) -> PathBuf {
    let (binary, out) = (binary::nigh(), dir.to_str().unwrap());
    let binary = binary.to_str().unwrap();
    let args = ["--binary", binary, "--out", out, "--revision", revision, "--fast"];
    let output = run("deploy/package", &args);
    assert!(output.status.success(), "{output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// The Debian that hosts of the lab are made of.
fn debian() -> PathBuf {
    let output = run("tests/lab/base", &[]);
    assert!(output.status.success(), "tests/lab/base needs root and a mirror: {output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A Debian in a folder, whose `systemctl` writes down what it is told.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (debian(), dir.path().join("root"));
        succeed("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
        let host = Self(dir);
        fs::remove_file(host.path("usr/bin/systemctl")).unwrap();
        // Every role is up: whoever wants to stop or start one would.
        let recorder = "#!/bin/sh\necho \"$*\" >> /systemctl.log\n";
        fs::write(host.path("usr/bin/systemctl"), recorder).unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(host.path("usr/bin/systemctl"), mode).unwrap();
        fs::create_dir_all(host.path("run/systemd/system")).unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("root").join(path)
    }

    /// Runs a command there, with a `/proc` that goes with it.
    #[track_caller]
    fn chroot(&self, args: &[&str]) -> String {
        const ENTER: &str = "mount --bind /proc \"$0/proc\"; LC_ALL=C exec chroot \"$0\" \"$@\"";
        let path = self.path("");
        let enter = ["--mount", "sh", "-ec", ENTER, path.to_str().unwrap()];
        succeed("unshare", &[&enter[..], args].concat())
    }

    #[track_caller]
    fn install(&self, package: &Path) -> String {
        fs::copy(package, self.path("nigh.deb")).unwrap();
        self.chroot(&["dpkg", "--force-confdef", "--install", "/nigh.deb"])
    }

    /// What `systemctl` was told since this was asked last.
    fn told(&self) -> Vec<String> {
        let log = self.path("systemctl.log");
        let told = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        told.lines().map(str::to_owned).collect()
    }
}

/// Words of `systemctl` that neither stop nor start anything.
fn is_harmless(told: &str) -> bool {
    ["daemon-reload", "--quiet is-active "].iter().any(|word| told.starts_with(word))
}

#[test]
#[ignore = "takes a Debian: tests/run --long"]
fn a_package_is_installed_upgraded_removed_and_purged() {
    let (host, out) = (Host::new(), tempfile::tempdir().unwrap());
    host.install(&package(out.path(), "1"));
    let told = host.told();
    assert!(told.iter().all(|told| is_harmless(told)), "an installation starts nothing: {told:?}");
    let users = fs::read_to_string(host.path("etc/passwd")).unwrap();
    for role in ["control", "dns", "edge"] {
        assert!(users.contains(&format!("\nnigh-{role}:x:")), "{users}");
        assert!(host.path(&format!("etc/nigh/{role}.toml")).exists());
    }
    assert!(host.path("var/lib/nigh").is_dir(), "tmpfiles.d makes it");
    assert!(host.chroot(&["nigh", "--version"]).starts_with("nigh "));

    // An operator's own configuration stays as it is.
    let file = host.path("etc/nigh/edge.toml");
    fs::write(&file, "name = \"mine\"\n").unwrap();
    let said = host.install(&package(out.path(), "2"));
    assert!(said.contains("nigh-edge still runs version 0.1.0-1"), "{said}");
    let told = host.told();
    assert!(told.iter().all(|told| is_harmless(told)), "an upgrade restarts nothing: {told:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "name = \"mine\"\n");

    for (folder, name) in [("var/lib/nigh/edge", "state.json"), ("var/log/nigh", "access.log")] {
        fs::create_dir_all(host.path(folder)).unwrap();
        fs::write(host.path(folder).join(name), "").unwrap();
    }
    host.chroot(&["dpkg", "--remove", "nigh"]);
    let told = host.told().join("\n");
    for word in ["nigh-edge.service", "nigh-edge-https.socket", "disable nigh-dns.service"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(file.exists(), "configuration outlives a removal");
    assert!(!host.path("usr/bin/nigh").exists());

    let said = host.chroot(&["dpkg", "--purge", "nigh"]);
    assert!(said.contains("/var/lib/nigh is left in place"), "{said}");
    for gone in ["etc/nigh", "etc/logrotate.d/nigh", "var/log/nigh", "usr/share/doc/nigh"] {
        assert!(!host.path(gone).exists(), "{gone} is left");
    }
    assert!(host.path("var/lib/nigh/edge/state.json").exists());
}

#[test]
#[ignore = "takes lintian: tests/run --long"]
fn lintian_has_nothing_to_say() {
    let out = tempfile::tempdir().unwrap();
    let package = package(out.path(), "1");
    let output = run("lintian", &["--fail-on", "error,warning", package.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// `buildah` with a storage of its own, without a daemon or a registry.
struct Buildah(tempfile::TempDir);

impl Buildah {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(dir.path().join("policy.json"), policy).unwrap();
        Self(dir)
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let at = |name: &str| self.0.path().join(name).to_str().unwrap().to_owned();
        let mut all = vec!["--root".to_owned(), at("store"), "--runroot".to_owned(), at("run")];
        all.extend(["--storage-driver", "vfs"].map(str::to_owned));
        for (place, word) in args.iter().enumerate() {
            all.push((*word).to_owned());
            if place == 0 && ["build", "from", "commit"].contains(word) {
                all.extend(["--signature-policy".to_owned(), at("policy.json")]);
            }
        }
        all
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let args = self.args(args);
        let output = run("buildah", &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        let args = self.args(&["rm", "--all"]);
        run("buildah", &args.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// The process called `nigh` below `parent`, whichever thread began those between.
fn nigh_below(parent: u32) -> Option<i32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten();
    let children =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> =
        children.collect::<Vec<_>>().join(" ").split_whitespace().flat_map(str::parse).collect();
    children.into_iter().find_map(|child| {
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        if name.trim() == "nigh" { i32::try_from(child).ok() } else { nigh_below(child) }
    })
}

struct Running(Child);

impl Running {
    /// SIGTERM to nigh itself, as the image asks for; its exit code.
    fn stop(&mut self) -> Option<i32> {
        let pid = nigh_below(self.0.id()).expect("nigh runs");
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = nigh_below(self.0.id()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "takes buildah and a Debian: tests/run --long"]
fn an_image_is_built_of_the_package_and_runs_a_role_without_being_root() {
    let (buildah, context) = (Buildah::new(), tempfile::tempdir().unwrap());
    let package = package(context.path(), "1");
    let scratch = buildah.run(&["from", "scratch"]);
    buildah.run(&["add", "-q", &scratch, debian().to_str().unwrap(), "/"]);
    buildah.run(&["commit", "-q", "--rm", &scratch, "localhost/base"]);
    let named = format!("PACKAGE={}", package.file_name().unwrap().to_str().unwrap());
    let build = ["build", "--isolation", "chroot", "--format", "docker", "--pull-never"];
    let of = ["--build-arg", "BASE=localhost/base", "--build-arg", &named, "-t", "localhost/nigh"];
    let file = ["-f", "deploy/Containerfile", context.path().to_str().unwrap()];
    buildah.run(&[&build[..], &of, &file].concat());

    let shown = buildah.run(&["inspect", "--type", "image", "localhost/nigh"]);
    let config = serde_json::from_str::<Value>(&shown).unwrap()["Docker"]["config"].clone();
    assert_eq!(config["User"], "853:853", "{config}");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Healthcheck"]["Test"][1], "/usr/bin/nigh");
    assert_eq!(config["Entrypoint"][1], "serve");
    assert_eq!(config["Volumes"].as_object().unwrap().len(), 2);

    // What an operator gives it; its state is in a volume that is made of what the image has there.
    let etc = tempfile::tempdir().unwrap();
    let ops = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let any = "listen = \"127.0.0.1:0\"";
    let text = format!(
        "state_dir = \"/var/lib/nigh/control\"\n[api]\nlisten = [\"127.0.0.1:0\"]\n[machines]\n{any}\n[ops]\nlisten = \"{ops}\"\n"
    );
    fs::write(etc.path().join("control.toml"), text).unwrap();
    fs::set_permissions(etc.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let container = buildah.run(&["from", "--pull-never", "localhost/nigh"]);
    let volume = format!("{}:/etc/nigh:ro", etc.path().display());
    let inside = |args: &[&str]| {
        let run = ["run", "--isolation", "chroot", "-v", &volume];
        buildah.args(&[&run[..], &[&container, "--"], args].concat())
    };
    let ready = || Command::new("buildah").args(inside(&["/usr/bin/nigh", "ready"])).output();
    let before = ready().unwrap();
    let said = String::from_utf8_lossy(&before.stderr);
    assert!(!before.status.success() && said.contains("control does not answer"), "{said}");

    let serve = inside(&["/usr/bin/nigh", "serve", "control"]);
    let mut control = Running(Command::new("buildah").args(serve).spawn().unwrap());
    let deadline = Instant::now() + LONG;
    loop {
        let output = ready().unwrap();
        if output.status.success() {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ready: control");
            break;
        }
        assert!(Instant::now() < deadline, "{output:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let owner = inside(&["stat", "-c", "%u:%g", "/var/lib/nigh/control/admin-token"]);
    let owner = Command::new("buildah").args(owner).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&owner.stdout).trim(), "853:853", "it is not root");
    assert_eq!(control.stop(), Some(0), "it ends in order");
}
