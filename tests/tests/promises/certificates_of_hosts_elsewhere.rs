//! A host whose DNS is elsewhere gets a certificate once it points at the fleet, and its CA is not
//! asked before.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use nigh_proto::api::CertificateState;
use nigh_testkit::{dig::Question, pebble::PebbleBuilder};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder},
    certified::{Certified, ISSUED, config},
    eventually,
    patience::SOON,
};
use tokio::process::{Child, Command};

const HOST: &str = "www.far.example";

/// Somebody else's DNS, where every host has one address.
async fn other_dns(ip: IpAddr) -> Result<(SocketAddr, Child)> {
    let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let dns = held.local_addr()?;
    drop(held);
    let child = Command::new("pebble-challtestsrv")
        .args(["-dns01", &dns.to_string(), "-defaultIPv4", &ip.to_string(), "-defaultIPv6", ""])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("pebble-challtestsrv is not installed; run tests/install")?;
    eventually("the other DNS answers", SOON, async || {
        let reply = Question::new(dns, HOST, "A").ask().await?;
        ensure!(reply.data("A") == [ip.to_string()], "{}", reply.text);
        Ok(())
    })
    .await;
    Ok((dns, child))
}

#[tokio::test]
async fn a_host_that_points_here_is_certified_over_http_by_any_edge() -> Result<()> {
    let mut cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let (ams, http) = {
        let edge = cdn.fleet.edges().last().context("no edge")?;
        (edge.addr("http")?.ip(), edge.addr("http")?.port())
    };
    let (dns, _child) = other_dns(ams).await?;
    let pebble = PebbleBuilder::new(dns, http).start().await?;
    let resolver = format!("resolvers = [\"{dns}\"]");
    cdn.reconfigure("control", &config(&[pebble.config("")], &resolver)).await?;
    let certified = Certified { cdn, pebble };
    certified.cdn.person.json(&["host", "add", HOST, "--site", SITE]).await?;
    certified.served(&format!("host:{HOST}")).await;
    certified.shows_everywhere(HOST, "hello").await?;
    certified.cdn.fleet.stop().await
}

#[tokio::test]
async fn the_ca_is_not_asked_for_a_host_that_points_elsewhere() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let http = cdn.fleet.edge("fra")?.addr("http")?.port();
    let (dns, _child) = other_dns(IpAddr::V4(Ipv4Addr::new(127, 88, 0, 1))).await?;
    let pebble = PebbleBuilder::new(dns, http).start().await?;
    let more = format!("resolvers = [\"{dns}\"]\nchallenge_deadline_ms = 2000");
    cdn.reconfigure("control", &config(&[pebble.config("")], &more)).await?;
    cdn.person.json(&["host", "add", HOST, "--site", SITE]).await?;
    let id = format!("host:{HOST}");
    let view = eventually("the host waits", ISSUED, async || {
        let view = cdn.fleet.client().certificate(&id).await?;
        ensure!(view.state == CertificateState::Waiting, "{view:?}");
        Ok(view)
    })
    .await;
    let detail = view.detail.unwrap_or_default();
    ensure!(detail.contains("127.88.0.1"), "{detail}");
    ensure!(view.retry_at.is_some());
    let status = cdn.fleet.client().status().await?;
    let is_told = status.warnings.iter().any(|warning| warning.contains(HOST));
    ensure!(is_told, "{:?}", status.warnings);
    let log = pebble.log()?;
    ensure!(!log.contains(HOST), "the CA has heard of it:\n{log}");
    cdn.fleet.stop().await
}
