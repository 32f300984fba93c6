//! One certificate from a public CA serves on every edge, and nobody did anything for it.

use anyhow::{Result, ensure};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder},
    certified::{Certified, ca_for, config, served_where},
    eventually,
    patience::SOON,
};

/// The CA refuses a fifth of all nonces, and gives accounts only to customers that it knows.
#[tokio::test]
async fn a_wildcard_and_hosts_are_certified_through_own_dns() -> Result<()> {
    let mut cdn = Cdn::of(fleet(2).dns_servers(2)).await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let builder = ca_for(&cdn)?.external_account("kid-1", key).refused_nonces(20);
    let pebble = builder.start().await?;
    let key_file = cdn.fleet.dir().join("eab.key");
    std::fs::write(&key_file, format!("{key}\n"))?;
    let binding = format!("eab_key_id = \"kid-1\"\neab_key_file = {key_file:?}");
    cdn.reconfigure("control", &config(&[pebble.config(&binding)], "")).await?;
    let certified = Certified { cdn, pebble };

    let wildcard = certified.served("wildcard:nigh.test").await;
    ensure!(wildcard.names.len() == 1, "{wildcard:?}");
    certified.shows_everywhere("docs.nigh.test", "hello").await?;
    eventually("the redirect to https is back", SOON, async || {
        let http = certified.cdn.fleet.edge("fra")?.addr("http")?;
        let visit = nigh_testkit::Visitor::http("docs.nigh.test", http)?.get("/").await?;
        ensure!(visit.status == 308, "{}", visit.status);
        Ok(())
    })
    .await;

    // Hosts that come together share one; a preview needs none of its own.
    for host in ["www.docs.nigh.test", "a.docs.nigh.test"] {
        certified.cdn.person.json(&["host", "add", host, "--site", SITE]).await?;
    }
    let site = certified.served_where("site:docs", |view| view.names.len() == 2).await;
    ensure!(site.serial != wildcard.serial, "{site:?}");
    certified.shows_everywhere("www.docs.nigh.test", "hello").await?;
    let changed = folder(&[("index.html", "changed")])?;
    let args = ["push", &changed.path().to_string_lossy(), "--site", SITE, "--preview=next"];
    certified.cdn.person.json(&args).await?;
    eventually("the preview is served", SOON, async || {
        certified.shows_everywhere("next--docs.nigh.test", "changed").await
    })
    .await;

    // What machines answered the CA is taken back, and no key is in the database in the clear.
    eventually("the challenges are gone", SOON, async || {
        let reply = certified.cdn.fleet.question("_acme-challenge.nigh.test", "TXT")?.ask().await?;
        ensure!(reply.answers.is_empty(), "{}", reply.text);
        Ok(())
    })
    .await;
    let dir = certified.cdn.fleet.control_dir();
    for file in ["control.db", "control.db-wal"] {
        let bytes = std::fs::read(dir.join(file)).unwrap_or_default();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        ensure!(!has(b"PRIVATE KEY") && !has(b"key_pkcs8"), "{file} holds a key");
    }
    certified.cdn.fleet.stop().await
}

/// The certificate is replaced at two thirds of its life, under connections that stay open.
#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_nobody_notices() -> Result<()> {
    let short = std::time::Duration::from_secs(45);
    let certified = Certified::start_with(fleet(2), |ca| ca.validity(short)).await?;
    let dir = folder(&[("index.html", "hello")])?;
    let first = certified.served("wildcard:nigh.test").await;
    certified.cdn.push(dir.path()).await?;
    let visitor = certified.visitor("docs.nigh.test", "fra").await?;
    ensure!(visitor.get("/").await?.text() == "hello");
    let is_next = |view: &nigh_proto::api::CertificateView| view.serial != first.serial;
    let second = certified.served_where("wildcard:nigh.test", is_next).await;
    ensure!(second.not_before > first.not_before, "{second:?}");
    ensure!(second.not_before < first.not_after, "it came too late: {second:?}");
    ensure!(visitor.get("/").await?.text() == "hello", "the old connection goes on");
    certified.shows_everywhere("docs.nigh.test", "hello").await?;
    certified.cdn.fleet.stop().await
}

#[tokio::test]
async fn another_ca_is_asked_when_the_first_is_down() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let mut down = ca_for(&cdn)?.start().await?;
    down.kill().await?;
    let pebble = ca_for(&cdn)?.start().await?;
    let cas = [down.config(""), pebble.config("")];
    cdn.reconfigure("control", &config(&cas, "fallback_after_ms = 0")).await?;
    let view = served_where(&cdn, "wildcard:nigh.test", |_| true).await;
    ensure!(view.ca.as_deref() == Some(pebble.directory()), "{view:?}");
    cdn.fleet.stop().await
}

/// A DNS server that is gone must not keep the fleet from its certificates, and one that is only slow
/// to follow must not let the CA look too early.
#[tokio::test]
async fn a_dns_server_that_does_not_answer_is_passed_over_once_it_is_away() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1).dns_servers(2)).await?;
    cdn.kill("ns2").await?;
    let pebble = ca_for(&cdn)?.refused_nonces(0).start().await?;
    cdn.reconfigure("control", &config(&[pebble.config("")], "")).await?;
    let view = served_where(&cdn, "wildcard:nigh.test", |_| true).await;
    ensure!(view.ca.as_deref() == Some(pebble.directory()), "{view:?}");
    let log = pebble.log()?;
    ensure!(!log.contains("invalid"), "the CA looked in vain:\n{log}");
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_certificate_is_revoked_and_replaced() -> Result<()> {
    let certified = Certified::start(fleet(2)).await?;
    let first = certified.served("wildcard:nigh.test").await;
    let person = &certified.cdn.person;
    let args = ["cert", "revoke", "wildcard:nigh.test", "--reason", "key-compromise", "--yes"];
    person.json(&args).await?;
    let serial = first.serial.clone().unwrap_or_default().replace(':', "");
    ensure!(certified.pebble.standing(&serial).await? == "Revoked");
    let is_next = |view: &nigh_proto::api::CertificateView| view.serial != first.serial;
    let next = certified.served_where("wildcard:nigh.test", is_next).await;
    let serial = next.serial.unwrap_or_default().replace(':', "");
    ensure!(certified.pebble.standing(&serial).await? == "Valid");
    certified.cdn.fleet.stop().await
}

/// 504 hosts of six sites, at once.
#[tokio::test]
async fn five_hundred_hosts_are_certified_in_one_go() -> Result<()> {
    const SITES: usize = 6;
    const HOSTS: usize = 84;
    let certified = Certified::start(fleet(2)).await?;
    certified.served("wildcard:nigh.test").await;
    let start = std::time::Instant::now();
    for site in 0..SITES {
        let hosts = (0..HOSTS).map(|host| format!("h{host}.s{site}.nigh.test").parse());
        let name = format!("s{site}").parse()?;
        let site = nigh_proto::api::NewSite { name, hosts: hosts.collect::<Result<_, _>>()? };
        certified.cdn.fleet.client().create_site(&site).await?;
    }
    for site in 0..SITES {
        let is_whole = |view: &nigh_proto::api::CertificateView| view.names.len() == HOSTS;
        certified.served_where(&format!("site:s{site}"), is_whole).await;
    }
    println!("{} hosts were certified in {:?}", SITES * HOSTS, start.elapsed());
    let all = certified.cdn.fleet.client().certificates().await?;
    ensure!(all.len() == SITES + 1, "{all:?}");
    certified.cdn.fleet.stop().await
}

/// The domain's owner lets only the second CA issue wildcards; the first is not asked.
#[tokio::test]
async fn a_ca_that_the_domain_does_not_allow_is_not_asked() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let first = ca_for(&cdn)?.start().await?;
    let second = ca_for(&cdn)?.start().await?;
    let cas = [
        first.config("caa_identities = [\"first.example\"]"),
        second.config("caa_identities = [\"second.example\"]"),
    ];
    let zone = r#"
        [[zones]]
        name = "nigh.test"
        name_servers = ["ns1.nigh.test."]
        [[zones.records]]
        name = "@"
        type = "CAA"
        value = { flags = 0, tag = "issue", value = "first.example" }
        [[zones.records]]
        name = "@"
        type = "CAA"
        value = { flags = 0, tag = "issuewild", value = "second.example" }
    "#;
    cdn.reconfigure("control", &format!("{}\n{zone}", config(&cas, ""))).await?;
    let view = served_where(&cdn, "wildcard:nigh.test", |_| true).await;
    ensure!(view.ca.as_deref() == Some(second.directory()), "{view:?}");
    let log = first.log()?;
    ensure!(!log.contains("order-plz"), "the first CA was asked:\n{log}");
    cdn.fleet.stop().await
}
