//! Do the units and the package hold what a host needs, and no more rights than that?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nigh_tests::binary;

/// What `systemd-analyze security` may say at most, in tenths: "OK" ends at 4.9.
const EXPOSURE_MAX_TENTHS: &str = "20";
const ROLES: [&str; 3] = ["control", "dns", "edge"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(program: &str, args: &[&str]) -> Output {
    let command = Command::new(program).args(args).current_dir(root()).output();
    command.unwrap_or_else(|error| panic!("{program}: {error}; tests/install installs it"))
}

fn succeed(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The unit files, by name.
fn units() -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join("deploy/systemd")).unwrap();
    let read = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    read.collect()
}

/// The values of a key in a unit, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn every_role_has_few_rights() {
    for role in ROLES {
        let unit = format!("deploy/systemd/nigh-{role}.service");
        let threshold = format!("--threshold={EXPOSURE_MAX_TENTHS}");
        let args = ["security", "--offline=true", "--no-pager", &threshold, &unit];
        let output = run("systemd-analyze", &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn systemd_finds_no_mistake_in_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let binary = binary::nigh();
    let mut paths = Vec::new();
    for (name, text) in units() {
        // The package puts the program there; here it is elsewhere.
        let text = text.replace("/usr/bin/nigh", binary.to_str().unwrap());
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        paths.push(path.to_str().unwrap().to_owned());
    }
    let mut args = vec!["verify", "--man=no", "--recursive-errors=no"];
    args.extend(paths.iter().map(String::as_str));
    let output = run("systemd-analyze", &args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("nigh-")).collect();
    assert!(output.status.success() && about_ours.is_empty(), "{said}");
}

/// A socket with another name would be one that nobody asks for, and its clients would wait for ever.
#[test]
fn sockets_have_the_names_and_addresses_that_roles_ask_for_by_default() {
    let mut found = BTreeSet::new();
    for (unit, text) in units().iter().filter(|(name, _)| name.ends_with(".socket")) {
        let [name] = values(text, "FileDescriptorName")[..] else { panic!("{unit}: one name") };
        let [service] = values(text, "Service")[..] else { panic!("{unit}: one service") };
        let role = service.trim_start_matches("nigh-").trim_end_matches(".service");
        let [address] = values(text, "ListenStream")[..] else { panic!("{unit}: one address") };
        let datagrams = values(text, "ListenDatagram");
        let expected: &[&str] = if role == "dns" { &[address] } else { &[] };
        assert_eq!(datagrams, expected, "{unit}");
        let (_, service) = units().into_iter().find(|(name, _)| name == service).unwrap();
        let sockets = values(&service, "Sockets");
        assert!(sockets.iter().any(|list| list.contains(unit.as_str())), "{unit}");
        found.insert((role.to_owned(), name.to_owned(), address.to_owned()));
    }

    let dir = tempfile::tempdir().unwrap();
    let mut expected = BTreeSet::new();
    for role in ROLES {
        let file = root().join(format!("deploy/{role}.toml"));
        let program = binary::nigh();
        let args = ["serve", role, "--print-config", "--json", "--config", file.to_str().unwrap()];
        let output = Command::new(&program).args(args).env("HOME", dir.path()).output().unwrap();
        let config: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let tables: &[&str] = match role {
            "control" => &["api", "machines"],
            "edge" => &["http", "https"],
            _ => &["dns"],
        };
        for name in tables {
            let listen = match &config[name]["listen"] {
                serde_json::Value::Array(list) if list.len() == 1 => &list[0],
                serde_json::Value::Array(list) => panic!("{role} {name}: {list:?}"),
                one => one,
            };
            let address = listen.as_str().or_else(|| listen["address"].as_str()).unwrap();
            expected.insert((role.to_owned(), (*name).to_owned(), address.to_owned()));
        }
    }
    assert_eq!(found, expected);
}

/// What an image says of itself is what its roles do and what hosts have.
#[test]
fn the_image_has_the_ports_of_the_units_and_starts_roles_as_they_do() {
    let file = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    let instructions = |word: &str| -> Vec<String> {
        let lines = file.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        lines.map(str::to_owned).collect()
    };
    let mut ports = BTreeSet::new();
    for (_, text) in units().iter().filter(|(name, _)| name.ends_with(".socket")) {
        for (key, protocol) in [("ListenStream", "tcp"), ("ListenDatagram", "udp")] {
            for address in values(text, key) {
                let port = address.rsplit(':').next().unwrap();
                ports.insert(format!("{port}/{protocol}"));
            }
        }
    }
    let exposed = instructions("EXPOSE").join(" ");
    assert_eq!(exposed.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), ports);

    let [entry] = &instructions("ENTRYPOINT")[..] else { panic!("one ENTRYPOINT") };
    let [user] = &instructions("USER")[..] else { panic!("one USER") };
    assert!(!user.starts_with('0') && user.contains(':'), "{user}");
    assert!(file.contains(&format!("--uid {} ", user.split(':').next().unwrap())), "{user}");
    for role in ROLES {
        let unit = fs::read_to_string(root().join(format!("deploy/systemd/nigh-{role}.service")));
        let command = values(&unit.unwrap(), "ExecStart")[0].to_owned();
        let words: Vec<String> = serde_json::from_str(entry).unwrap();
        assert_eq!(format!("{} {role}", words.join(" ")), command);
    }
    let check = file.lines().find(|line| line.starts_with("HEALTHCHECK")).unwrap();
    let check: Vec<String> = serde_json::from_str(check.split("CMD ").nth(1).unwrap()).unwrap();
    assert_eq!(check, ["/usr/bin/nigh", "ready"]);
}

/// The files of every command below `command`, as `man` names them.
fn pages(command: &serde_json::Value, above: &str, into: &mut Vec<String>) {
    let name = command["name"].as_str().unwrap();
    let name = if above.is_empty() { name.to_owned() } else { format!("{above}-{name}") };
    for below in command["commands"].as_array().unwrap() {
        pages(below, &name, into);
    }
    into.push(name);
}

/// Makes the package of the program that tests run, and says where it is.
fn package(dir: &Path) -> PathBuf {
    let (binary, out) = (binary::nigh(), dir.to_str().unwrap());
    let args = ["--binary", binary.to_str().unwrap(), "--out", out, "--revision", "7", "--fast"];
    root().join(succeed("deploy/package", &args).trim())
}

#[test]
fn the_package_has_all_that_a_host_needs() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path());
    let path = package.to_str().unwrap();

    let listed = succeed("dpkg-deb", &["--contents", path]);
    let has = |file: &str| listed.lines().any(|line| line.ends_with(&format!(" ./{file}")));
    for file in [
        "usr/bin/nigh",
        "usr/lib/sysusers.d/nigh.conf",
        "usr/lib/tmpfiles.d/nigh.conf",
        "usr/share/bash-completion/completions/nigh",
        "usr/share/zsh/vendor-completions/_nigh",
        "usr/share/fish/vendor_completions.d/nigh.fish",
    ] {
        assert!(has(file), "{file} is not in\n{listed}");
    }
    let help = Command::new(binary::nigh()).args(["help", "--json"]).output().unwrap();
    let mut commands = Vec::new();
    pages(&serde_json::from_slice(&help.stdout).unwrap(), "", &mut commands);
    assert!(commands.len() > 60, "{commands:?}");
    for command in commands {
        assert!(has(&format!("usr/share/man/man1/{command}.1.gz")), "{command}");
    }
    for (unit, _) in units() {
        assert!(has(&format!("lib/systemd/system/{unit}")), "{unit}");
    }
    let foreign: Vec<&str> = listed.lines().filter(|line| !line.contains("root/root")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");

    let control = dir.path().join("control");
    succeed("dpkg-deb", &["--control", path, control.to_str().unwrap()]);
    let conffiles = fs::read_to_string(control.join("conffiles")).unwrap();
    let expected = [
        "/etc/logrotate.d/nigh",
        "/etc/nigh/control.toml",
        "/etc/nigh/dns.toml",
        "/etc/nigh/edge.toml",
    ];
    assert_eq!(conffiles.lines().collect::<Vec<_>>(), expected);

    let field = |name: &str| succeed("dpkg-deb", &["--field", path, name]).trim().to_owned();
    let said = Command::new(binary::nigh()).arg("--version").output().unwrap();
    let version = String::from_utf8(said.stdout).unwrap();
    assert_eq!(field("Version"), format!("{}-7", version.trim().trim_start_matches("nigh ")));
    assert!(field("Depends").contains("libc6 (>= 2."), "{}", field("Depends"));

    // Whoever installs without a network compares this before anything else.
    let sum = fs::read_to_string(format!("{path}.sha256")).unwrap();
    assert_eq!(sum.split(' ').next(), succeed("sha256sum", &[path]).split(' ').next());
}

#[test]
fn a_package_without_a_program_is_refused_with_what_to_do() {
    let output = run("deploy/package", &["--binary", "/nowhere/nigh"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cargo build --release"), "{said}");
}
