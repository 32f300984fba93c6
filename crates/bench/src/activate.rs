//! How soon is a release that is staged already served on every edge?

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nigh_proto::{SiteName, api::NewSite};
use nigh_testkit::Fleet;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    preload,
    summary::{percentile, seconds},
};

const HOST: &str = "bench.nigh.test";
const PAGES: [&str; 2] = ["the first page", "the other page"];
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two activations: edges have acknowledged the one before.
const PAUSE: Duration = Duration::from_millis(300);

/// Activates two releases by turns; a Markdown table.
pub async fn measure(binary: &Path, edges: usize, rounds: usize) -> Result<String> {
    let fleet = Fleet::builder(binary)
        .edges(edges)
        .dns_servers(0)
        .control_config("[variants]\nenabled = false\n[sites]\nhttps_redirect = false")?
        .start()
        .await?;
    let site: SiteName = "bench".parse()?;
    fleet.client().create_site(&NewSite { name: site.clone(), hosts: Vec::new() }).await?;
    let mut releases = Vec::new();
    for page in PAGES {
        releases.push(preload::push(fleet.client(), &site, page).await?);
        served_everywhere(&fleet, page, Instant::now()).await?;
    }
    let mut times = Vec::new();
    for round in 0..rounds {
        tokio::time::sleep(PAUSE).await;
        let (release, page) = (&releases[round % 2], PAGES[round % 2]);
        let began = Instant::now();
        let (activated, last) = tokio::join!(
            fleet.client().activate_release(&site, release.as_str()),
            served_everywhere(&fleet, page, began)
        );
        activated?;
        times.push(last?);
    }
    fleet.stop().await?;
    let at = |share| percentile(&times, share).map_or_else(String::new, seconds);
    Ok([
        format!("{edges} edges on this machine, {rounds} activations; from the call to served by the last edge\n"),
        "| p50 | p90 | p99 | most |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
        format!("| {} | {} | {} | {} |", at(0.5), at(0.9), at(0.99), at(1.0)),
    ]
    .join("\n"))
}

/// The time from `began` until the last edge serves `page`.
async fn served_everywhere(fleet: &Fleet, page: &'static str, began: Instant) -> Result<Duration> {
    let mut edges = JoinSet::new();
    for edge in fleet.edges() {
        let (address, name) = (edge.addr("http")?, edge.name.clone());
        edges.spawn(async move {
            let served = tokio::time::timeout(DEADLINE, ask_until(address, page, began)).await;
            served.with_context(|| format!("{name} does not serve {page:?}"))?
        });
    }
    let mut last = Duration::ZERO;
    while let Some(served) = edges.join_next().await {
        last = last.max(served??);
    }
    Ok(last)
}

/// Asks one edge, over one connection, a few hundred times a second: more would take the CPU that
/// is measured.
async fn ask_until(address: std::net::SocketAddr, page: &str, began: Instant) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut buffer = vec![0; 16 << 10];
    loop {
        stream.write_all(request.as_bytes()).await?;
        let mut read = 0;
        while !is_whole(&buffer[..read]) {
            match stream.read(&mut buffer[read..]).await? {
                0 => bail!("the edge closed the connection"),
                count => read += count,
            }
        }
        if String::from_utf8_lossy(&buffer[..read]).ends_with(page) {
            return Ok(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Whether these bytes are an answer and its body.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";
        assert!(is_whole(answer));
        assert!((0..answer.len()).all(|cut| !is_whole(&answer[..cut])));
    }
}
