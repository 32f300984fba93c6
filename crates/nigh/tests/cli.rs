//! What do shells and scripts see: exit codes, and what is printed where?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// `nigh ARGS`, with nothing of this user's environment.
fn nigh(args: &[&str], environment: &[(&str, &str)], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nigh"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn tree(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// Answers every request as `answer` says, given its method and path; the address it listens on.
fn fake_control(answer: impl Fn(&str, &str) -> (u16, Value) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), &answer);
        }
    });
    format!("http://{address}")
}

fn serve(stream: TcpStream, answer: &impl Fn(&str, &str) -> (u16, Value)) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
    let mut words = request.split(' ');
    let (status, mut body) = answer(words.next().unwrap(), words.next().unwrap());
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    if status >= 400 {
        body["status"] = json!(status);
    }
    let body = body.to_string();
    let length = body.len();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
}

fn problem(code: &str, detail: &str) -> Value {
    json!({ "type": "about:blank", "title": "", "detail": detail, "code": code })
}

fn site(name: &str) -> Value {
    json!({
        "name": name, "default_host": format!("{name}.nigh.test"),
        "hosts": [format!("{name}.nigh.test")], "url": format!("https://{name}.nigh.test"),
        "active": null, "releases_total": 0, "created_at": "2026-01-01T00:00:00Z",
    })
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let dir = tree(&[]);
    for args in
        [&["psuh"][..], &["push", "--no-such"], &[], &["site"], &["push", "--expires", "7d"]]
    {
        assert_eq!(code(&nigh(args, &[], dir.path())), 2, "{args:?}");
    }
    assert!(stderr(&nigh(&["psuh"], &[], dir.path())).contains("push"), "did you mean");
    for args in [&["help"][..], &["--version"], &["help", "push"], &["completions", "bash"]] {
        assert_eq!(code(&nigh(args, &[], dir.path())), 0, "{args:?}");
    }
    let help = stdout(&nigh(&["help", "exit-codes"], &[], dir.path()));
    for code in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "130"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(code)), "{code}: {help}");
    }
}

#[test]
fn a_command_about_a_site_needs_its_name() {
    let dir = tree(&[]);
    let output = nigh(&["release", "list"], &[], dir.path());
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--site NAME"), "{output:?}");
}

#[test]
fn control_that_is_away_is_9_and_says_what_to_try() {
    let dir = tree(&[]);
    let output = nigh(&["status"], &[("NIGH_API_URL", "http://127.0.0.1:9")], dir.path());
    assert_eq!(code(&output), 9);
    let text = stderr(&output);
    for part in ["error:", "why:", "try:", "NIGH_API_URL"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(stdout(&output), "");
}

#[test]
fn refusals_have_codes_of_their_own() {
    let dir = tree(&[]);
    for (status, expected) in [(401, 3), (403, 3), (404, 4), (409, 5), (422, 6), (413, 6), (507, 1)]
    {
        let url = fake_control(move |_, _| (status, problem("some_code", "no")));
        let output = nigh(&["status", "--json"], &[("NIGH_API_URL", &url)], dir.path());
        assert_eq!(code(&output), expected, "{status}: {output:?}");
        let report = json_of(&output);
        assert_eq!(report["exit_code"], expected);
        assert_eq!(report["error"]["code"], "some_code");
        assert_eq!(report["error"]["why"][0], "no");
    }
}

#[test]
fn a_site_that_is_not_there_is_looked_for_under_a_similar_name() {
    let url = fake_control(|_, path| match path {
        "/v1/sites" => (200, json!({ "items": [site("docs")] })),
        _ => (404, problem("site_unknown", "there is no site dcos")),
    });
    let dir = tree(&[("index.html", "hello")]);
    for args in [&["site", "show", "dcos"][..], &["push", ".", "-s", "dcos"]] {
        let output = nigh(args, &[("NIGH_API_URL", &url)], dir.path());
        assert_eq!(code(&output), 4, "{output:?}");
        let text = stderr(&output);
        assert!(text.contains("did you mean docs?"), "{text}");
        assert!(text.contains("nigh site create dcos"), "{text}");
    }
}

#[test]
fn a_folder_that_cannot_be_pushed_is_6() {
    let dir =
        tree(&[("file", "x"), ("empty/.nighignore", ""), ("bad/a.html", ""), ("bad/A.html", "")]);
    let url = fake_control(|_, _| (200, site("docs")));
    let environment = [("NIGH_API_URL", url.as_str()), ("NIGH_SITE", "docs")];
    for (folder, code_word, why) in [
        ("missing", "folder_missing", "No such file"),
        ("file", "not_a_folder", "not a folder"),
        ("empty", "folder_empty", "holds no files"),
        ("bad", "folder_refused", "differs from A.html only in case"),
    ] {
        let output = nigh(&["push", folder, "--json"], &environment, dir.path());
        assert_eq!(code(&output), 6, "{folder}: {output:?}");
        let report = json_of(&output);
        assert_eq!(report["error"]["code"], code_word, "{folder}");
        assert!(report.to_string().contains(why), "{folder}: {report}");
    }
}

#[test]
fn check_prints_rules_and_mistakes_in_the_shape_that_scripts_rely_on() {
    let dir = tree(&[
        ("index.html", ""),
        ("_redirects", "/a /b 302\n/c/* /d/:splat 301!\n"),
        ("_headers", "/*\n  X-A: b\n"),
    ]);
    let output = nigh(&["check", ".", "--json"], &[], dir.path());
    assert_eq!(code(&output), 0, "{output:?}");
    let report = json_of(&output);
    let first = &report["redirects"][0];
    for (key, value) in [
        ("from", json!("/a")),
        ("to", json!("/b")),
        ("status", json!(302)),
        ("force", json!(false)),
        ("line", json!(1)),
    ] {
        assert_eq!(first[key], value, "{key}");
    }
    assert!(first["query"].is_object() && first["conditions"].is_object());
    assert_eq!(report["redirects"][1]["force"], true);
    assert_eq!(report["headers"][0]["for"], "/*");
    assert_eq!(report["headers"][0]["set"], json!([["X-A", "b"]]));
    assert_eq!(report["headers"][0]["detach"], json!([]));
    assert_eq!((report["warnings"].is_array(), &report["errors"]), (true, &json!([])));
}

#[test]
fn an_unknown_key_of_a_configuration_is_refused_with_a_suggestion() {
    let dir = tree(&[
        ("control.toml", "state_dir = \"/tmp/x\"\n[sites]\ndomian = \"nigh.test\"\n"),
        ("nigh.toml", "[site]\nnmae = \"docs\"\n"),
    ]);
    let output =
        nigh(&["serve", "control", "--check", "--config", "control.toml"], &[], dir.path());
    assert_eq!(code(&output), 6, "{output:?}");
    let text = stderr(&output);
    assert!(text.contains("control.toml:3") && text.contains("did you mean domain?"), "{text}");

    let output = nigh(&["check", "."], &[], dir.path());
    assert_eq!(code(&output), 6, "{output:?}");
    assert!(stderr(&output).contains("did you mean name?"), "{output:?}");
}

#[test]
fn the_effective_configuration_can_be_read_back() {
    let dir = tree(&[("control.toml", "state_dir = \"/tmp/x\"\n")]);
    let args = ["serve", "control", "--config", "control.toml"];
    let printed = nigh(&[&args[..], &["--print-config"]].concat(), &[], dir.path());
    assert_eq!(code(&printed), 0, "{printed:?}");
    std::fs::write(dir.path().join("control.toml"), stdout(&printed)).unwrap();
    let checked = nigh(&[&args[..], &["--check"]].concat(), &[], dir.path());
    assert_eq!(code(&checked), 0, "{checked:?}");
}

#[test]
fn api_answers_are_passed_through_and_their_status_is_the_exit_code() {
    let url = fake_control(|method, path| match (method, path) {
        ("GET", "/v1/sites?limit=3") => (200, json!({ "items": [] })),
        _ => (409, problem("site_taken", "taken")),
    });
    let dir = tree(&[]);
    let environment = [("NIGH_API_URL", url.as_str())];
    let output = nigh(&["api", "get", "/v1/sites?limit=3"], &environment, dir.path());
    assert_eq!((code(&output), json_of(&output)), (0, json!({ "items": [] })));
    let output = nigh(&["api", "POST", "/v1/sites", "-d", "{}"], &environment, dir.path());
    assert_eq!(code(&output), 5);
    assert_eq!(json_of(&output)["code"], "site_taken");
}

#[test]
fn nothing_is_deleted_without_a_yes() {
    let url = fake_control(|_, _| (204, Value::Null));
    let dir = tree(&[]);
    let environment = [("NIGH_API_URL", url.as_str())];
    let output = nigh(&["site", "delete", "docs"], &environment, dir.path());
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stderr(&output).contains("--yes"), "{output:?}");
}

#[test]
fn wrong_usage_is_told_as_json_too() {
    let dir = tree(&[]);
    let output = nigh(&["push", "--no-such", "--json"], &[], dir.path());
    assert_eq!(code(&output), 2, "{output:?}");
    let report = json_of(&output);
    assert_eq!(report["exit_code"], 2);
    assert!(report["error"]["what"].as_str().unwrap().contains("--no-such"), "{report}");
}

#[test]
fn a_folder_after_preview_is_not_taken_for_its_name() {
    let dir = tree(&[("index.html", ""), ("public/index.html", "")]);
    let output = nigh(&["push", "--preview", "public", "-s", "docs"], &[], dir.path());
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stderr(&output).contains("nigh push public --preview"), "{output:?}");
    // With the folder said, the word after it is the name; nobody answers at this address.
    let nobody = [("NIGH_API_URL", "https://127.0.0.1:9"), ("NIGH_TOKEN", "nigh_pat_x")];
    let args = ["push", "public", "--preview", "spring", "-s", "docs", "--timeout", "1s"];
    let output = nigh(&args, &nobody, dir.path());
    assert_eq!(code(&output), 9, "{output:?}");
}

#[test]
fn a_geoip_file_that_cannot_be_used_is_found_before_it_is_in_use() {
    let config = "state_dir = \"/tmp/x\"\nname = \"ns1\"\n[control]\nurl = \"https://c:8444\"\n\
                  [geoip]\ncity = \"city.mmdb\"\n";
    let dir = tree(&[("dns.toml", config)]);
    let check = || nigh(&["serve", "dns", "--check", "--config", "dns.toml"], &[], dir.path());
    assert_eq!(code(&check()), 0, "a file may come later");
    let file = dir.path().join("city.mmdb");
    nigh_testkit::geo_fixture::write_mmdb(&file).unwrap();
    assert_eq!(code(&check()), 0, "{:?}", check());
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let output = check();
    assert_eq!(code(&output), 6, "{output:?}");
    assert!(stderr(&output).contains("city.mmdb is no whole MaxMind DB file"), "{output:?}");
}

#[test]
fn a_configuration_to_begin_with_is_printed_without_a_file() {
    let dir = tree(&[]);
    for role in ["control", "edge", "dns"] {
        let printed = nigh(&["serve", role, "--print-config"], &[], dir.path());
        assert_eq!(code(&printed), 0, "{printed:?}");
        let file = dir.path().join("role.toml");
        std::fs::write(&file, stdout(&printed)).unwrap();
        let args = ["serve", role, "--check", "--config", "role.toml"];
        assert_eq!(code(&nigh(&args, &[], dir.path())), 0, "{role}");
    }
}

#[test]
fn a_push_adds_the_hosts_and_keeps_the_releases_that_the_site_file_names() {
    let view = |state: &str| {
        json!({
            "id": "rel_01jd0000000000000000000000", "site": "docs", "state": state,
            "files_total": 1, "bytes_total": 2, "created_at": "2026-01-01T00:00:00Z",
            "activated_at": null, "message": null, "source": null, "preview": null, "url": null,
            "pushed_by": null, "failure": null, "progress": 1, "edges": [],
        })
    };
    let (told, calls) = std::sync::mpsc::channel();
    let url = fake_control(move |method, path| {
        told.send(format!("{method} {path}")).unwrap();
        match (method, path) {
            ("GET", "/v1/sites/docs") => (200, site("docs")),
            ("POST", "/v1/sites/docs/hosts") => (
                201,
                json!({ "host": "www.a.example", "site": "docs", "is_default": false, "is_in_zone": false }),
            ),
            ("POST", "/v1/sites/docs/releases") => {
                (201, json!({ "release": view("uploading"), "missing": [], "warnings": [] }))
            }
            ("POST", "/v1/sites/docs/releases/prune") => (200, json!({ "releases": [] })),
            _ => (200, view("active")),
        }
    });
    let dir = tree(&[
        ("public/index.html", "hi"),
        (
            "nigh.toml",
            "[site]\nname = \"docs\"\npublish = \"public\"\n[hosts]\naliases = [\"www.a.example\", \"docs.nigh.test\"]\n[release]\nkeep = 3\n",
        ),
    ]);
    let environment = [("NIGH_API_URL", url.as_str())];
    let output = nigh(&["push", "--json"], &environment, dir.path());
    assert_eq!(code(&output), 0, "{output:?}");
    let calls: Vec<String> = calls.try_iter().collect();
    let count = |call: &str| calls.iter().filter(|made| *made == call).count();
    assert_eq!(count("POST /v1/sites/docs/hosts"), 1, "{calls:?}");
    assert_eq!(calls.last().unwrap(), "POST /v1/sites/docs/releases/prune", "{calls:?}");

    let output = nigh(&["push", "--preview=x"], &environment, dir.path());
    assert_eq!(code(&output), 0, "{output:?}");
}
