//! Do alert rules and dashboards ask for what roles really say of themselves?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use nigh_testkit::{Visitor, ports::EdgeAddresses};
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
    eventually,
    patience::SOON,
};
use serde_json::Value;
use tempfile::TempDir;

fn deploy(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn read(path: &str) -> String {
    let path = deploy(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(deploy("prometheus")).output();
    let output =
        output.unwrap_or_else(|error| panic!("promtool: {error}; tests/install installs it"));
    assert!(output.status.success(), "{args:?}: {output:?}");
}

#[test]
fn the_rules_are_valid_and_fire_when_they_should() {
    promtool(&["check", "rules", "nigh.rules.yml"]);
    promtool(&["test", "rules", "nigh.rules.test.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn every_alert_has_a_runbook() {
    let rules = read("prometheus/nigh.rules.yml");
    let index = read("../docs/runbooks/README.md");
    let values = |key: &str| -> Vec<String> {
        let found = rules.lines().filter_map(|line| line.trim_start().strip_prefix(key));
        found.map(|value| value.trim().to_owned()).collect()
    };
    let (alerts, runbooks) = (values("- alert:"), values("runbook:"));
    assert_eq!(alerts.len(), runbooks.len());
    for (alert, runbook) in alerts.iter().zip(&runbooks) {
        assert!(index.contains(&format!("`{alert}`")), "{alert} is not in the list of runbooks");
        assert!(deploy("..").join(runbook).is_file(), "{alert}: {runbook} is not there");
    }
}

/// Every query of a dashboard: those of panels, and those of variables.
fn queries(dashboard: &Value, into: &mut Vec<String>) {
    match dashboard {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if matches!(key.as_str(), "expr" | "query") => {
                        into.push(text.clone());
                    }
                    _ => queries(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, into)),
        _ => {}
    }
}

/// The metrics of nigh that a text names, without what a histogram puts behind its name.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    let ours = words.filter(|word| word.starts_with("nigh_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

/// What rules and dashboards may ask for: another test compares this page with what a fleet says.
fn described() -> BTreeSet<String> {
    let page = read("../docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.flat_map(metrics_in).collect()
}

#[test]
fn rules_and_dashboards_ask_for_nothing_that_no_role_says() {
    let mut asked = vec![read("prometheus/nigh.rules.yml"), read("prometheus/nigh.rules.test.yml")];
    let mut dashboards = 0;
    for entry in fs::read_dir(deploy("grafana")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let before = asked.len();
        queries(&serde_json::from_str(&text).unwrap(), &mut asked);
        assert!(asked.len() > before, "a dashboard without a query");
        dashboards += 1;
    }
    assert_eq!(dashboards, 3);
    let asked = metrics_in(&asked.join("\n"));
    let unknown: Vec<_> = asked.difference(&described()).cloned().collect();
    assert!(unknown.is_empty() && asked.len() > 20, "{unknown:?} of {asked:?}");
}

/// A real Prometheus, ended with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// Asks these roles, with the rules that are deployed.
    fn start(targets: &[(&str, SocketAddr)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let rules = deploy("prometheus/nigh.rules.yml").canonicalize()?;
        let mut config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\nscrape_configs:\n"
        );
        for (job, ops) in targets {
            config += &format!(
                "  - {{ job_name: {job}, static_configs: [{{ targets: [\"{ops}\"] }}] }}\n"
            );
        }
        fs::write(dir.path().join("prometheus.yml"), config)?;
        let own = EdgeAddresses::find(1)?;
        let address = SocketAddr::from((own.ips[0], own.http));
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let child = Command::new("prometheus")
            .arg(flag("config.file", dir.path().join("prometheus.yml").to_str().unwrap()))
            .arg(flag("storage.tsdb.path", dir.path().join("data").to_str().unwrap()))
            .arg(flag("web.listen-address", &address.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log"))?)
            .spawn()
            .context("prometheus; tests/install installs it")?;
        Ok(Self { child, address, _dir: dir })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let text = Visitor::http("localhost", self.address)?.get(path).await?.text();
        Ok(serde_json::from_str::<Value>(&text)?["data"].clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn prometheus_reads_every_role_and_works_out_every_rule() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let prometheus = Prometheus::start(&[
        ("nigh-control", cdn.fleet.control().listeners().get("ops").context("control's pages")?),
        ("nigh-edge", cdn.fleet.edge("fra")?.addr("ops")?),
        ("nigh-dns", cdn.fleet.dns_servers()[0].addr("ops")?),
    ])?;
    eventually("Prometheus has asked every role", 3 * SOON, async || {
        let found = prometheus.get("/api/v1/targets").await?;
        let targets = found["activeTargets"].as_array().context("targets")?;
        let well = targets.iter().filter(|target| target["health"] == "up").count();
        anyhow::ensure!(well == 3, "{found}");
        Ok(())
    })
    .await;
    eventually("every rule was worked out", 3 * SOON, async || {
        let found = prometheus.get("/api/v1/rules").await?;
        let groups = found["groups"].as_array().context("groups")?;
        let rules: Vec<&Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        anyhow::ensure!(
            rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok"),
            "{found}"
        );
        Ok(())
    })
    .await;
    let found = prometheus.get("/api/v1/query?query=nigh_edge_release_info").await?;
    assert_eq!(found["result"][0]["metric"]["site"], "docs", "{found}");
    drop(prometheus);
    cdn.fleet.stop().await
}
