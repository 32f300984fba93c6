//! How many requests does an edge answer per second of its CPU time, beside nginx?

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use nigh_testkit::Fleet;

use crate::{command::Nigh, peer::Nginx, process, summary::median};

const HOST: &str = "bench.nigh.test";
const CONNECTIONS: u32 = 32;

/// What one run of the load generator found.
#[derive(Clone, Copy, Debug)]
struct Load {
    requests: u64,
    per_second: f64,
}

/// One way of asking for one file.
#[derive(Clone, Copy, Debug)]
struct Case {
    what: &'static str,
    file: &'static str,
    is_tls: bool,
    is_h2: bool,
}

const CASES: &[Case] = &[
    Case { what: "1 KiB, HTTPS, HTTP/1.1", file: "1k.bin", is_tls: true, is_h2: false },
    Case { what: "100 KiB, HTTPS, HTTP/1.1", file: "100k.bin", is_tls: true, is_h2: false },
    Case { what: "1 KiB, HTTPS, HTTP/2", file: "1k.bin", is_tls: true, is_h2: true },
    Case { what: "100 KiB, HTTPS, HTTP/2", file: "100k.bin", is_tls: true, is_h2: true },
];

/// Measures every case in turns of `turn` each; a Markdown table.
pub async fn measure(binary: &Path, turn: Duration, rounds: usize) -> Result<String> {
    let home = tempfile::tempdir()?;
    let root = home.path().join("site");
    fs::create_dir_all(&root)?;
    for (name, kib) in [("1k.bin", 1u64), ("100k.bin", 100)] {
        fs::write(root.join(name), noise(kib << 10))?;
    }
    let (chain, key) = self_signed(home.path())?;
    let nginx = Nginx::start(&home.path().join("nginx"), &root, &chain, &key)?;
    let fleet = Fleet::builder(binary).edges(1).start().await?;
    let nigh = Nigh { binary, fleet: &fleet, cache: &home.path().join("cache") };
    nigh.run(&["site", "create", "bench"])?;
    nigh.push(&root)?;
    let edge = fleet.edges().first().context("no edge")?;
    let pid = edge.process.pid().context("the edge is not running")?;

    let mut table = vec![
        format!("{CONNECTIONS} connections kept alive, {rounds} rounds of {turn:?}, medians\n"),
        "| case | nigh, requests per CPU-second | nginx | ratio | nigh, requests per second | nginx |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for &case in CASES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let before = process::cpu_time(pid)?;
            let load = load(case, edge.addr("https")?, turn)?;
            ours.push(rates(load, process::cpu_time(pid)? - before));
            let before = nginx.cpu_time()?;
            let load = self::load(case, nginx.https, turn)?;
            theirs.push(rates(load, nginx.cpu_time()? - before));
        }
        let (ours, theirs) = (typical(&ours)?, typical(&theirs)?);
        table.push(format!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} |",
            case.what,
            ours.0,
            theirs.0,
            ours.0 / theirs.0,
            ours.1,
            theirs.1
        ));
    }
    fleet.stop().await?;
    Ok(table.join("\n"))
}

/// Requests per CPU-second of the server, and per second.
fn rates(load: Load, cpu: Duration) -> (f64, f64) {
    (load.requests as f64 / cpu.as_secs_f64(), load.per_second)
}

fn typical(rates: &[(f64, f64)]) -> Result<(f64, f64)> {
    let per_cpu: Vec<f64> = rates.iter().map(|rate| rate.0).collect();
    let per_second: Vec<f64> = rates.iter().map(|rate| rate.1).collect();
    Ok((median(&per_cpu).context("no turn")?, median(&per_second).context("no turn")?))
}

fn load(case: Case, server: SocketAddr, turn: Duration) -> Result<Load> {
    let scheme = if case.is_tls { "https" } else { "http" };
    let mut command = Command::new("h2load");
    if !case.is_h2 {
        command.arg("--h1");
    } else {
        command.args(["-m", "8"]);
    }
    let output = command
        .args(["-t", "1", "-c", &CONNECTIONS.to_string()])
        .args(["-D", &turn.as_secs().max(1).to_string()])
        .arg(format!("--connect-to={server}"))
        .arg(format!("{scheme}://{HOST}:{}/{}", server.port(), case.file))
        .output()
        .context("could not run h2load: run tests/install --bench")?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Reads h2load's summary; a failed or refused request is an error.
fn parse(text: &str) -> Result<Load> {
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .with_context(|| format!("h2load printed no {start:?}:\n{text}"))
    };
    let number_before = |line: &str, word: &str| -> Result<f64> {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let index = words.iter().position(|found| *found == word).context("no such number")?;
        Ok(words[index.checked_sub(1).context("no number")?].parse()?)
    };
    let statuses = line("status codes:")?;
    let requests = number_before(statuses, "2xx")?;
    ensure!(requests > 0.0, "nothing was served:\n{text}");
    for class in ["3xx", "4xx", "5xx"] {
        ensure!(number_before(statuses, class)? == 0.0, "some answers were {class}:\n{text}");
    }
    Ok(Load {
        requests: requests as u64,
        per_second: number_before(line("finished in")?, "req/s")?,
    })
}

/// Bytes that do not compress, the same in every run.
fn noise(bytes: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A certificate like nigh's own: ECDSA with P-256.
fn self_signed(dir: &Path) -> Result<(std::path::PathBuf, std::path::PathBuf)> {
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={HOST}")])
        .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .output()
        .context("could not run openssl")?
        .status;
    ensure!(status.success(), "openssl could not make a certificate");
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "finished in 5.00s, 25001.20 req/s, 30.36MB/s\n\
        requests: 125006 total, 125038 started, 125006 done, 125006 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 125006 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn the_summary_of_h2load_is_read() {
        let load = parse(SUMMARY).unwrap();
        assert_eq!(load.requests, 125_006);
        assert!((load.per_second - 25_001.2).abs() < 0.01);
    }

    #[test]
    fn a_run_with_errors_is_no_figure() {
        assert!(parse(&SUMMARY.replace("0 4xx", "3 4xx")).is_err());
        assert!(parse("connection refused").is_err());
    }
}
