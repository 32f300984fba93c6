//! Is what the documents say still so?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nigh_testkit::{Fleet, tree};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `nigh ARGS` with nothing of this user's environment.
fn nigh(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nigh"));
    command.args(args).current_dir(dir).env_clear().env("HOME", dir).output().unwrap()
}

fn stdout_of(args: &[&str], dir: &Path) -> String {
    let output = nigh(args, dir);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The fenced blocks that begin with this line.
fn blocks<'a>(markdown: &'a str, fence: &str) -> Vec<&'a str> {
    let mut blocks = Vec::new();
    let mut rest = markdown;
    let begin = format!("\n```{fence}\n");
    while let Some(at) = rest.find(&begin) {
        let body = &rest[at + begin.len()..];
        let end = body.find("\n```").expect("a block ends");
        blocks.push(&body[..=end]);
        rest = &body[end..];
    }
    blocks
}

/// The cells of every row of every table, heads left out.
fn rows(markdown: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = markdown.lines().collect();
    let is_rule = |line: &str| line.starts_with("| ---");
    let is_row = |at: usize| {
        lines[at].starts_with('|')
            && !is_rule(lines[at])
            && !lines.get(at + 1).is_some_and(|next| is_rule(next))
    };
    let cells = |line: &str| {
        let line = line.replace("\\|", "\u{0}");
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    };
    (0..lines.len()).filter(|&at| is_row(at)).map(|at| cells(lines[at])).collect()
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every command that does something, with its own long flags.
fn commands(tree: &Value, path: &str, into: &mut BTreeMap<String, BTreeSet<String>>) {
    for command in tree["commands"].as_array().unwrap() {
        let path = format!("{path} {}", command["name"].as_str().unwrap());
        if command["commands"].as_array().unwrap().is_empty() {
            let flags = command["arguments"].as_array().unwrap().iter();
            let flags = flags.filter_map(|flag| Some(format!("--{}", flag["long"].as_str()?)));
            into.insert(path, flags.collect());
        } else {
            commands(command, &path, into);
        }
    }
}

/// The flags in a line of usage.
fn flags(usage: &str) -> BTreeSet<String> {
    let words = usage.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn the_page_of_commands_has_every_command_and_flag_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let tree: Value = serde_json::from_str(&stdout_of(&["help", "--json"], dir.path())).unwrap();
    let mut expected = BTreeMap::new();
    commands(&tree, "nigh", &mut expected);

    let page = document("docs/reference/cli.md");
    let mut described = BTreeMap::new();
    for row in rows(&page) {
        let Some(usage) = row[0].strip_prefix("`nigh ") else { continue };
        let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        let names: Vec<&str> = usage.trim_end_matches('`').split(' ').take_while(is_name).collect();
        described.insert(format!("nigh {}", names.join(" ")), flags(usage));
    }
    assert_eq!(described, expected);

    let everywhere = page.split("\n## ").find(|part| part.starts_with("Every command")).unwrap();
    let described: BTreeSet<String> =
        rows(everywhere).iter().flat_map(|row| flags(&row[0])).collect();
    let global = tree["arguments"].as_array().unwrap().iter();
    let global = global.map(|flag| format!("--{}", flag["long"].as_str().unwrap())).collect();
    assert_eq!(described, global);
}

#[test]
fn the_page_of_commands_has_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let codes: Value =
        serde_json::from_str(&stdout_of(&["help", "exit-codes", "--json"], dir.path())).unwrap();
    let page = document("docs/reference/cli.md");
    for code in codes.as_array().unwrap() {
        let row = format!("| {} | {} |", code["code"], code["meaning"].as_str().unwrap());
        assert!(page.contains(&row), "{row} is missing");
    }
}

#[test]
fn the_page_of_configurations_shows_what_is_printed_and_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let page = document("docs/reference/configuration.md");
    for role in ["control", "edge", "dns"] {
        let printed = stdout_of(&["serve", role, "--print-config"], dir.path());
        let shown = blocks(&page, &format!("toml {role}"));
        assert_eq!(
            shown,
            [printed.as_str()],
            "put the output of `nigh serve {role} --print-config` there"
        );
        std::fs::write(dir.path().join("role.toml"), shown[0]).unwrap();
        stdout_of(&["serve", role, "--check", "--config", "role.toml"], dir.path());
    }
}

#[test]
fn the_files_to_deploy_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["control", "edge", "dns"] {
        let file = root().join(format!("deploy/{role}.toml"));
        stdout_of(&["serve", role, "--check", "--config", file.to_str().unwrap()], dir.path());
    }
}

#[test]
fn the_site_file_that_is_shown_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let page = document("docs/reference/nigh-toml.md");
    let [shown] = blocks(&page, "toml nigh")[..] else { panic!("one example") };
    tree::write_all(dir.path(), &[("nigh.toml", shown), ("public/new/a.html", "")]).unwrap();
    stdout_of(&["check"], dir.path());
    // Every key of every table, in the words of the program that refuses another.
    for table in ["site", "html", "rules", "hosts", "release"] {
        std::fs::write(dir.path().join("nigh.toml"), format!("[{table}]\nzzz = 1\n")).unwrap();
        let output = nigh(&["check"], dir.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let known = said.split_once("expected").unwrap_or_else(|| panic!("{said}")).1;
        for key in code_spans(known.lines().next().unwrap()) {
            let is_shown = shown.lines().any(|line| line.starts_with(&format!("{key} = ")));
            assert!(is_shown, "[{table}] {key} is not shown");
        }
    }
}

#[test]
fn the_rules_that_are_shown_have_no_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let page = document("docs/reference/rules.md");
    let [redirects] = blocks(&page, "redirects")[..] else { panic!("one example") };
    let [headers] = blocks(&page, "headers")[..] else { panic!("one example") };
    let files = [
        ("_redirects", redirects),
        ("_headers", headers),
        ("nigh.toml", "[rules]\ndialect = \"nigh\"\n"),
        ("app/index.html", ""),
        ("gone.html", ""),
    ];
    tree::write_all(dir.path(), &files).unwrap();
    let report: Value =
        serde_json::from_str(&stdout_of(&["check", ".", "--json"], dir.path())).unwrap();
    assert_eq!(report["errors"], serde_json::json!([]));
    assert_eq!(report["warnings"], serde_json::json!([]));
    let lines = redirects.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(report["redirects"].as_array().unwrap().len(), lines);
}

/// Every Rust source below a folder of the project.
fn sources(folder: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// The codes that refusals are made with: the first text after what makes one.
fn error_codes() -> BTreeSet<String> {
    const MAKERS: [&str; 8] = [
        "Refusal::new(",
        "Self::new(",
        "invalid(\"",
        "unauthorized(\"",
        "unauthorized(code",
        "too_many(\"",
        "(NOT_FOUND, \"",
        "(StatusCode::",
    ];
    let makers = MAKERS.into_iter().chain(["(CONFLICT, \"", "(UNPROCESSABLE, \"", "(FULL, \""]);
    let makers: Vec<&str> = makers.collect();
    let mut codes = BTreeSet::new();
    for text in sources("crates/control/src") {
        for maker in &makers {
            for (at, _) in text.match_indices(maker) {
                // No code stands further behind, and what follows is another statement.
                let near = text[at..].split([';', '}']).next().unwrap_or_default();
                let first = near.split('"').nth(1).unwrap_or_default();
                let is_code = |c: char| c.is_ascii_lowercase() || c == '_';
                if !first.is_empty() && first.chars().all(is_code) {
                    codes.insert(first.to_owned());
                }
            }
        }
    }
    codes
}

#[test]
fn the_page_of_the_api_has_every_error_code_and_no_other() {
    let page = document("docs/reference/api.md");
    let errors = page.split("\n## ").find(|part| part.starts_with("Errors")).unwrap();
    let described: BTreeSet<String> = rows(errors)
        .iter()
        .filter_map(|row| code_spans(&row[1]).next())
        .map(str::to_owned)
        .collect();
    let made = error_codes();
    assert!(made.contains("site_unknown") && made.contains("token_missing"), "{made:?}");
    let undescribed: Vec<_> = made.difference(&described).collect();
    assert!(undescribed.is_empty(), "not in docs/reference/api.md: {undescribed:?}");
    let gone: Vec<_> = described.difference(&made).collect();
    assert!(gone.is_empty(), "in docs/reference/api.md only: {gone:?}");
}

/// A duration in milliseconds, a size in bytes, or a number, as the page of limits writes it.
fn number(text: &str) -> u64 {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "bytes" | "ms" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => panic!("{text}: {other} is no unit"),
    };
    digits.replace(',', "").parse::<u64>().unwrap_or_else(|error| panic!("{text}: {error}"))
        * factor
}

/// The value of a constant as it is written: products, shifts and whole seconds or milliseconds.
fn evaluate(expression: &str) -> u64 {
    let inner = |name: &str| expression.strip_prefix(name)?.strip_suffix(')');
    if let Some(seconds) = inner("Duration::from_secs(") {
        return evaluate(seconds) * 1000;
    }
    if let Some(ms) = inner("Duration::from_millis(") {
        return evaluate(ms);
    }
    if let Some((value, shift)) = expression.split_once("<<") {
        return evaluate(value.trim()) << evaluate(shift.trim());
    }
    let factors = expression.split('*').map(|factor| factor.trim().replace('_', ""));
    factors.map(|factor| factor.parse::<u64>().unwrap_or_else(|_| panic!("{expression}"))).product()
}

#[test]
fn the_page_of_limits_has_the_values_of_the_constants() {
    let page = document("docs/reference/limits.md");
    let rows = rows(&page);
    assert!(rows.len() > 50);
    for row in rows {
        let [file, name] = code_spans(&row[2]).collect::<Vec<_>>()[..] else { panic!("{row:?}") };
        let text = document(&format!("crates/{file}"));
        let begin = format!("const {name}: ");
        let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} has no {name}"));
        let (_, expression) = rest.split_once('=').unwrap();
        let expression = expression.split(';').next().unwrap().trim();
        assert_eq!(number(&row[1]), evaluate(expression), "{file} {name} = {expression}");
    }
}

/// Everything that is said at a path of an operations port.
fn fetch(ops: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(ops).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The names in an exposition, with the suffix that a counter's or an info's samples have.
fn metrics(exposition: &str) -> BTreeSet<String> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect()
}

async fn fleet() -> Fleet {
    Fleet::builder(env!("CARGO_BIN_EXE_nigh")).edges(2).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_has_every_metric_and_no_other() {
    let fleet = fleet().await;
    let machines = fleet.edges().iter().chain(fleet.dns_servers());
    let ops = machines.map(|machine| machine.addr("ops").unwrap());
    let control = fleet.control().listeners().get("ops").unwrap();
    let exposed: BTreeSet<String> =
        ops.chain([control]).flat_map(|ops| metrics(&fetch(ops, "/metrics"))).collect();
    fleet.stop().await.unwrap();

    let page = document("docs/reference/metrics.md");
    let described: BTreeSet<String> = rows(&page)
        .iter()
        .flat_map(|row| code_spans(&row[0]).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let undescribed: Vec<_> = exposed.difference(&described).collect();
    assert!(undescribed.is_empty(), "not in docs/reference/metrics.md: {undescribed:?}");
    // What nothing has happened for yet is not exposed; its name is in a source all the same.
    let sources: Vec<String> = ["daemon", "edge", "dns", "control"]
        .iter()
        .flat_map(|of| sources(&format!("crates/{of}/src")))
        .collect();
    for name in described.difference(&exposed) {
        let short = name.trim_end_matches("_total").trim_start_matches("nigh_edge_");
        let quoted = format!("\"{short}\"");
        assert!(sources.iter().any(|text| text.contains(&quoted)), "{name} is nobody's metric");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_api_is_on_its_page_and_no_other() {
    let fleet = fleet().await;
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nigh"))
        .args(["api", "GET", "/v1/openapi.json"])
        .env_clear()
        .env("HOME", home.path())
        .envs(fleet.environment())
        .output()
        .unwrap();
    fleet.stop().await.unwrap();
    let document_of_control: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut routes = BTreeSet::new();
    for (path, methods) in document_of_control["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let page = document("docs/reference/api.md");
    let of_routes = page.split("\n## ").find(|part| part.starts_with("Routes")).unwrap();
    let described: BTreeSet<String> = rows(of_routes)
        .iter()
        .filter_map(|row| code_spans(&row[0]).next())
        .map(str::to_owned)
        .collect();
    assert_eq!(described, routes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_site_can_be_made_as_it_is_told() {
    let fleet = fleet().await;
    let home = tempfile::tempdir().unwrap();
    let page = document("docs/guides/first-site.md");
    let script = blocks(&page, "sh").concat();
    assert!(script.lines().count() > 10, "{script}");
    let program = Path::new(env!("CARGO_BIN_EXE_nigh")).parent().unwrap().to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-exc", &script])
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", path)
        .envs(fleet.environment())
        // As the demo sets it.
        .env("NIGH_SITE", "demo")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    fleet.stop().await.unwrap();
}

/// Every document below `docs`.
fn documents() -> Vec<PathBuf> {
    let (mut documents, mut folders) =
        (vec![root().join("deploy/README.md")], vec![root().join("docs")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { documents.push(path) }
        }
    }
    documents
}

/// Blocks of `sh` are run; commands that need other machines stand in blocks of `sh example`.
#[test]
fn every_command_of_the_documents_is_run_or_marked_as_an_example() {
    const RUN: [&str; 2] = ["docs/guides/first-site.md", "docs/reference/configuration.md"];
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_run = RUN.iter().any(|run| path.ends_with(run));
        assert!(is_run || blocks(&text, "sh").is_empty(), "{} is not run", path.display());
    }
    let script = blocks(&document(RUN[1]), "sh").concat();
    let program = Path::new(env!("CARGO_BIN_EXE_nigh")).parent().unwrap();
    let mut sh = Command::new("/bin/sh");
    let output = sh.args(["-ec", &script]).current_dir(root()).env("PATH", program).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn every_file_that_a_document_links_to_is_there() {
    let above = ["README.md", "CHANGELOG.md"].map(|name| root().join(name));
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    for path in documents().into_iter().chain(above).filter(is_page) {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let is_there = path.parent().unwrap().join(target).exists();
            assert!(is_there, "{}: {target} is not there", path.display());
        }
    }
}
