//! Machines renew their certificates, and control's CA is replaced, while people push and visitors come.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use nigh_proto::api::AuthorityStage;
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder},
    eventually,
    patience::SOON,
};

/// Machines with certificates of seconds, and a CA that may go soon after it was replaced.
const SHORT: &str = "[machines]\ncertificate_ms = 12000\nca_overlap_ms = 1000";

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn machines_renew_by_themselves_and_nobody_notices() -> Result<()> {
    let cdn = Cdn::of(fleet(2).control_config(SHORT)?).await?;
    let pair =
        |name: &str| fs::read_to_string(cdn.fleet.machine_dir(name).join("identity/machine.pem"));
    let before = pair("fra")?;
    for round in 0..3 {
        let held = pair("fra")?;
        let dir = folder(&[("index.html", &format!("round {round}"))])?;
        cdn.push(dir.path()).await?;
        eventually("fra has its next certificate", LONG, async || {
            ensure!(pair("fra")? != held, "it has the one that it had");
            Ok(())
        })
        .await;
        cdn.serves(dir.path()).await?;
    }
    ensure!(pair("fra")? != before);
    cdn.fleet.all_current().await?;
    let events = cdn.person.json(&["api", "GET", "/v1/events?kind=machine_away"]).await?;
    ensure!(events["items"].as_array().is_some_and(Vec::is_empty), "{events}");
    cdn.fleet.stop().await
}

#[tokio::test]
async fn the_ca_is_replaced_under_a_running_fleet_and_the_old_one_ends() -> Result<()> {
    let mut cdn = Cdn::of(fleet(2).control_config("[machines]\nca_overlap_ms = 1000")?).await?;
    let dir = folder(&[("index.html", "before")])?;
    cdn.push(dir.path()).await?;
    let old_ca = cdn.person.home().join("old-ca.pem");
    fs::copy(cdn.fleet.ca_file(), &old_ca)?;
    let old_timer = cdn.person.with("NIGH_CA_FILE", old_ca.to_string_lossy());

    let begun = cdn.person.json(&["ca", "rotate"]).await?;
    ensure!(begun["authorities"][0]["stage"] == AuthorityStage::Next.label(), "{begun}");
    let mut pushes = 0;
    eventually("the old CA has ended", LONG, async || {
        pushes += 1;
        let dir = folder(&[("index.html", &format!("push {pushes}"))])?;
        // Whoever reads the new bundle is never cut off.
        cdn.person.push(SITE, dir.path()).await.expect("a push goes through");
        let ca = cdn.fleet_ca().await?;
        ensure!(ca.len() == 1 && ca[0] == 2, "{ca:?}");
        Ok(())
    })
    .await;
    let away = cdn.person.json(&["api", "GET", "/v1/events?kind=machine_away"]).await?;
    ensure!(away["items"].as_array().is_some_and(Vec::is_empty), "{away}");
    eventually("the old CA is believed no more", SOON, async || {
        let run = old_timer.run(&["status"]).await?;
        ensure!(run.code == Some(9), "{run:?}");
        Ok(())
    })
    .await;
    // Sites have certificates of the new one, and machines find control again with what they have.
    let page = folder(&[("index.html", "after")])?;
    cdn.push(page.path()).await?;
    for machine in ["fra", "nyc"] {
        cdn.kill(machine).await?;
        cdn.restart(machine).await?;
    }
    eventually("both are back", SOON, async || {
        let list = cdn.person.json(&["edge", "list"]).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let is_up =
            |one: &serde_json::Value| one["is_connected"] == true && one["is_current"] == true;
        ensure!(items.len() == 2 && items.iter().all(is_up), "{list}");
        Ok(())
    })
    .await;
    eventually("visitors are served under the new CA", SOON, async || {
        cdn.serves(page.path()).await
    })
    .await;
    cdn.fleet.stop().await
}
