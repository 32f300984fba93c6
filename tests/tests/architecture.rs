//! Do the crates still depend on each other only downwards, and does every dependency say why?

use std::{collections::BTreeSet, fs, path::PathBuf};

/// Every arrow that is allowed: crate → what it may use, in tests too where a `dev:` stands before.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("durable", &[]),
    ("daemon", &[]),
    ("core", &["proto", "durable"]),
    ("bucket", &["dev:bucket"]),
    ("dial", &[]),
    ("replica", &["proto", "durable", "dial"]),
    ("client", &["proto", "dial"]),
    ("dns", &["proto", "durable", "daemon", "replica", "dev:testkit"]),
    ("edge", &["proto", "durable", "daemon", "core", "replica", "dev:testkit"]),
    ("control", &["proto", "durable", "daemon", "core", "bucket", "dev:testkit"]),
    ("testkit", &["proto", "durable", "client"]),
    ("bench", &["proto", "client", "testkit", "core", "dns"]),
    (
        "nigh",
        &["proto", "durable", "daemon", "core", "client", "dns", "edge", "control", "testkit"],
    ),
    ("tests", &["proto", "client", "testkit", "core", "bucket"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifest(path: &str) -> toml::Table {
    let path = root().join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The crates of this workspace that `table` of a manifest names, without their prefix.
fn arrows(manifest: &toml::Table, table: &str, prefix: &str) -> BTreeSet<String> {
    let names = manifest.get(table).and_then(toml::Value::as_table);
    names
        .into_iter()
        .flat_map(|names| names.keys())
        .filter_map(|name| name.strip_prefix("nigh-"))
        .map(|name| format!("{prefix}{name}"))
        .collect()
}

#[test]
fn arrows_point_down_only() {
    let mut found: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.insert("tests".to_owned());
    let known: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known, "a crate was added or removed: say what it may use");

    for (name, allowed) in ARROWS {
        let path = if *name == "tests" { name.to_string() } else { format!("crates/{name}") };
        let manifest = manifest(&format!("{path}/Cargo.toml"));
        let allowed: BTreeSet<String> = allowed.iter().map(|&arrow| arrow.to_owned()).collect();
        let used =
            &arrows(&manifest, "dependencies", "") | &arrows(&manifest, "build-dependencies", "");
        let new: Vec<_> = used.difference(&allowed).collect();
        assert!(new.is_empty(), "{name} may not use {new:?}");
        let in_tests = arrows(&manifest, "dev-dependencies", "");
        let new: Vec<_> = in_tests
            .iter()
            .filter(|arrow| !allowed.contains(*arrow) && !allowed.contains(&format!("dev:{arrow}")))
            .collect();
        assert!(new.is_empty(), "{name} may not use {new:?} in its tests");
    }
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = text.split_once("[workspace.dependencies]\n").unwrap();
    let (table, _) = table.split_once("\n[").unwrap();
    let silent: Vec<&str> = table
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with(['#', ' ']))
        .filter(|line| !line.starts_with("nigh-") && !line.contains(" # "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(silent.is_empty(), "no reason beside {silent:?} in Cargo.toml");
}

#[test]
fn every_crate_keeps_the_workspace_lints() {
    for (name, _) in ARROWS {
        let path = if *name == "tests" { name.to_string() } else { format!("crates/{name}") };
        let manifest = manifest(&format!("{path}/Cargo.toml"));
        assert_eq!(manifest["lints"]["workspace"], toml::Value::Boolean(true), "{name}");
    }
}

#[test]
fn proto_and_core_read_no_clock_no_environment_and_no_socket() {
    for crate_name in ["proto", "core"] {
        let files = rust_files(&root().join("crates").join(crate_name).join("src"));
        for file in files.into_iter().filter(|file| !is_of_tests(file)) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for banned in [
                "SystemTime::now",
                "Instant::now",
                "std::env",
                "env::var",
                "TcpStream",
                "UdpSocket",
            ] {
                assert!(!code.contains(banned), "{file:?} uses {banned}");
            }
        }
    }
}

#[test]
fn sql_lives_in_the_store_of_control_only() {
    for file in rust_files(&root().join("crates")) {
        let text = fs::read_to_string(&file).unwrap();
        // A test may tamper with a database behind control's back.
        let may = file.to_string_lossy().contains("control/src/store") || is_of_tests(&file);
        assert!(may || !text.contains("sqlx::query"), "{file:?} speaks SQL");
    }
}

/// Whether a file is `tests.rs` or lies in a folder `tests`: what measures time is not the crate.
fn is_of_tests(file: &std::path::Path) -> bool {
    let inside = file.strip_prefix(root()).expect("it was found below the root");
    inside.with_extension("").iter().any(|name| name == "tests")
}

fn rust_files(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
