//! `nigh demo` is a whole CDN in one command, and leaves nothing behind.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use nigh_testkit::{Visitor, tree};
use nigh_tests::{Person, Run, cdn::folder, eventually, patience::SOON, person::Running};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A demo that is ready.
struct Demo {
    running: Running,
    json: Value,
}

impl Demo {
    async fn start(person: &Person, args: &[&str]) -> Result<Self> {
        let mut running = person.start(&[&["demo", "--json"], args].concat())?;
        let mut lines = BufReader::new(running.take_stdout()?).lines();
        let line = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
        match line.context("the demo was not ready in time")?? {
            Some(line) => Ok(Self { json: serde_json::from_str(&line).context(line)?, running }),
            None => anyhow::bail!("the demo ended: {}", running.end().await?),
        }
    }

    fn text(&self, pointer: &str) -> Result<&str> {
        let found = self.json.pointer(pointer).and_then(Value::as_str);
        found.with_context(|| format!("no {pointer} in {}", self.json))
    }

    /// Every process of the fleet.
    fn pids(&self) -> Vec<u64> {
        let of = |name: &str| self.json[name].as_array().cloned().unwrap_or_default();
        let machines = [vec![self.json["control"].clone()], of("dns"), of("edges")].concat();
        machines.iter().filter_map(|machine| machine["pid"].as_u64()).collect()
    }

    async fn interrupt(self) -> Result<Run> {
        self.running.send(Signal::INT)?;
        self.running.end().await
    }
}

async fn are_gone(pids: &[u64]) {
    eventually("every process of the fleet has ended", SOON, async || {
        let left: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await;
}

/// A zombie that its new parent has not reaped yet is as dead as can be.
fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

#[tokio::test]
async fn one_line_of_json_tells_scripts_where_everything_is() -> Result<()> {
    let person = Person::stranger()?;
    let dir = folder(&[("index.html", "mine")])?;
    let site = dir.path().to_string_lossy();
    let demo = Demo::start(&person, &[&site, "--edges", "2"]).await?;

    assert_eq!(demo.json["ready"], true);
    let (host, ca_file) = (demo.text("/site/host")?, demo.text("/control/ca_file")?);
    for (index, region) in ["frankfurt", "new-york"].iter().enumerate() {
        assert_eq!(demo.text(&format!("/edges/{index}/region"))?, *region);
        demo.text(&format!("/edges/{index}/name"))?;
        let https = demo.text(&format!("/edges/{index}/https"))?.parse()?;
        let visitor = Visitor::https(host, https, &std::fs::read(ca_file)?)?;
        assert_eq!(visitor.get("/").await?.text(), "mine");
        let http = demo.text(&format!("/edges/{index}/http"))?.parse()?;
        assert!(matches!(Visitor::http(host, http)?.get("/").await?.status, 301 | 308));
        let ops = demo.text(&format!("/edges/{index}/ops"))?.parse()?;
        assert_eq!(Visitor::http("localhost", ops)?.get("/readyz").await?.status, 200);
    }
    let dns = demo.text("/dns/0/addr")?.parse()?;
    let reply = nigh_testkit::dig::Question::new(dns, host, "A").ask().await?;
    assert!(!reply.data("A").is_empty(), "{}", reply.text);
    let known = person
        .with("NIGH_API_URL", demo.text("/control/url")?)
        .with("NIGH_TOKEN", demo.text("/control/token")?)
        .with("NIGH_CA_FILE", ca_file)
        .with("NIGH_SITE", demo.text("/site/name")?);
    known.json(&["status"]).await?;
    known.json(&["push", &site]).await?;

    let (pids, state) = (demo.pids(), demo.text("/state_dir")?.to_owned());
    assert_eq!(pids.len(), 4);
    demo.interrupt().await?.expect(0);
    are_gone(&pids).await;
    assert!(!Path::new(&state).exists(), "{state} is left behind");
    Ok(())
}

/// The commands among the lines that the demo prints.
fn commands(text: &str) -> Vec<&str> {
    let program = |line: &&str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        ["dig", "curl", "export", "kill"].contains(&first) || first.ends_with("/nigh")
    };
    let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(program).collect()
}

#[tokio::test]
async fn every_command_that_it_prints_can_be_copied_into_a_shell() -> Result<()> {
    let person = Person::stranger()?;
    let dir = folder(&[("index.html", "mine")])?;
    let mut running = person.start(&["demo", &dir.path().to_string_lossy()])?;
    let mut lines = BufReader::new(running.take_stdout()?).lines();
    let mut tour = String::new();
    while !tour.contains("Ctrl-C") {
        let line = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
        match line.with_context(|| format!("the tour is not whole:\n{tour}"))?? {
            Some(line) => tour += &(line + "\n"),
            None => anyhow::bail!("the demo ended: {}", running.end().await?),
        }
    }
    let commands = commands(&tour);
    let count = |word: &str| commands.iter().filter(|line| line.contains(word)).count();
    assert!(count("dig ") >= 3 && count("curl ") == 3 && count("kill ") == 1, "{tour}");
    for verb in [" push ", " rollback", " status"] {
        assert_eq!(count(verb), 1, "{verb}: {tour}");
    }

    // "Change a file and push again."
    tree::write(dir.path(), "index.html", b"changed")?;
    let (before, after) = commands.split_at(commands.len() - 2);
    let script = ["set -e", &before.join("\n")].join("\n");
    let output = person.program("sh").args(["-c", &script]).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}\n{complaint}");
    assert_eq!(said.matches("mine").count(), 3, "a page from each edge: {said}");
    assert!(said.matches("127.77.").count() >= 2, "an address for each city: {said}");

    let [kill, dig] = after else { anyhow::bail!("the tour ends otherwise:\n{tour}") };
    let before = person.program("sh").args(["-c", dig]).output().await?.stdout;
    let nearest = String::from_utf8(before)?.lines().next().unwrap_or_default().to_owned();
    assert!(person.program("sh").args(["-c", kill]).status().await?.success(), "{kill}");
    eventually("Berlin is sent elsewhere", Duration::from_secs(3), async || {
        let answers = person.program("sh").args(["-c", dig]).output().await?.stdout;
        let answers = String::from_utf8(answers)?;
        ensure!(!answers.is_empty() && !answers.contains(&nearest), "{answers}");
        Ok(())
    })
    .await;

    running.send(Signal::INT)?;
    running.end().await?.expect(0);
    Ok(())
}

#[tokio::test]
async fn a_kept_fleet_comes_back_with_its_site_and_its_ports() -> Result<()> {
    let person = Person::stranger()?;
    let state = tempfile::tempdir()?;
    let args = ["--edges", "1", "--state", &state.path().to_string_lossy()];
    let first = Demo::start(&person, &args).await?;
    let addresses = [first.text("/control/url")?, first.text("/edges/0/https")?].map(str::to_owned);
    let pids = first.pids();
    first.interrupt().await?.expect(0);
    are_gone(&pids).await;

    let again = Demo::start(&person, &args).await?;

    assert_eq!([again.text("/control/url")?, again.text("/edges/0/https")?], addresses);
    let (host, ca_file) = (again.text("/site/host")?, again.text("/control/ca_file")?);
    let visitor = Visitor::https(host, addresses[1].parse()?, &std::fs::read(ca_file)?)?;
    assert_eq!(visitor.get("/").await?.status, 200);
    again.interrupt().await?.expect(0);
    Ok(())
}

#[tokio::test]
async fn a_port_that_somebody_else_has_taken_is_named() -> Result<()> {
    let person = Person::stranger()?;
    let state = tempfile::tempdir()?;
    let args = ["--edges", "1", "--state", &state.path().to_string_lossy()];
    let first = Demo::start(&person, &args).await?;
    let https = first.text("/edges/0/https")?.to_owned();
    let pids = first.pids();
    first.interrupt().await?.expect(0);
    are_gone(&pids).await;
    let _taken = std::net::TcpListener::bind(&https)?;

    let run = person.run(&[&["demo"], &args[..]].concat()).await?;

    run.expect(1).says(&[&https, "try:"]);
    Ok(())
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_no_process_behind() -> Result<()> {
    let person = Person::stranger()?;
    let state = tempfile::tempdir()?;
    let args = ["--edges", "1", "--state", &state.path().to_string_lossy()];
    let demo = Demo::start(&person, &args).await?;
    let pids = demo.pids();

    demo.running.send(Signal::KILL)?;

    assert_eq!(demo.running.end().await?.code, None);
    are_gone(&pids).await;
    Ok(())
}

#[tokio::test]
async fn a_mistake_is_told_before_anything_is_started() -> Result<()> {
    let person = Person::stranger()?;
    person.run(&["demo", "/nonexistent/site"]).await?.expect(6).says(&["/nonexistent/site"]);
    person.run(&["demo", "--edges", "0"]).await?.expect(2);
    person.run(&["demo", "--edges", "99"]).await?.expect(2).says(&["20"]);
    Ok(())
}
