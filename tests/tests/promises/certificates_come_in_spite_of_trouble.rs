//! What goes wrong with one host, or with control in the middle of an order, costs nobody else a
//! certificate and the CA no second request.

use anyhow::{Result, ensure};
use nigh_proto::api::{CertificateState, NewSite};
use nigh_tests::{
    Cdn,
    cdn::fleet,
    certified::{Certified, ISSUED, ca_for, config, served_where},
    eventually,
    patience::SOON,
};

/// The DNS server stands still, so that the CA is not told to look, and control is killed. When both
/// are back, the order of before is carried through.
#[tokio::test]
async fn an_order_goes_on_where_control_was_killed() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let pebble = ca_for(&cdn)?.refused_nonces(0).start().await?;
    let dns = cdn.fleet.dns_servers()[0].name.clone();
    cdn.fleet.machine_mut(&dns)?.process.pause()?;
    cdn.reconfigure("control", &config(&[pebble.config("")], "")).await?;
    // Its authorizations are looked at when the order is in the database.
    eventually("the CA has the order", ISSUED, async || {
        ensure!(pebble.calls("/authZ/")? > 0, "{}", pebble.log()?);
        Ok(())
    })
    .await;
    cdn.fleet.control_mut().kill().await?;
    ensure!(pebble.calls("/order-plz")? == 1 && pebble.calls("/finalize-order/")? == 0);
    cdn.fleet.control_mut().start().await?;
    eventually("control is at it again", ISSUED, async || {
        let view = cdn.fleet.client().certificate("wildcard:nigh.test").await?;
        ensure!(view.state == CertificateState::Ordering, "{view:?}");
        Ok(())
    })
    .await;
    cdn.fleet.machine_mut(&dns)?.process.resume()?;
    let view = served_where(&cdn, "wildcard:nigh.test", |_| true).await;
    ensure!(view.ca.as_deref() == Some(pebble.directory()), "{view:?}");
    let log = pebble.log()?;
    ensure!(pebble.calls("/order-plz")? == 1, "a second order was made:\n{log}");
    ensure!(pebble.calls("/finalize-order/")? == 1, "{log}");
    ensure!(!log.contains("invalid"), "the CA looked in vain:\n{log}");
    cdn.fleet.stop().await
}

/// Nineteen of twenty hosts share a certificate at once. The one that the CA refuses by its policy waits
/// for hours, whatever happens to control, and people are told why.
#[tokio::test]
async fn a_host_that_the_ca_refuses_holds_back_no_other_and_is_left_alone() -> Result<()> {
    const BAD: &str = "bad.s0.nigh.test";
    const GOOD: usize = 19;
    let kind = |ca: nigh_testkit::pebble::PebbleBuilder| ca.refused_nonces(0).blocked(BAD);
    let mut certified = Certified::start_with(fleet(1), kind).await?;
    certified.served("wildcard:nigh.test").await;
    let good = (0..GOOD).map(|host| format!("h{host}.s0.nigh.test"));
    let hosts = good.chain([BAD.to_owned()]).map(|host| host.parse());
    let site = NewSite { name: "s0".parse()?, hosts: hosts.collect::<Result<_, _>>()? };
    certified.cdn.fleet.client().create_site(&site).await?;

    let shared = certified.served_where("site:s0", |view| view.names.len() == GOOD).await;
    ensure!(shared.names.iter().all(|name| name.as_str() != BAD), "{shared:?}");
    let id = format!("host:{BAD}");
    let waiting = async |cdn: &Cdn| {
        eventually("the refused one waits", SOON, async || {
            let view = cdn.fleet.client().certificate(&id).await?;
            ensure!(view.state == CertificateState::Waiting, "{view:?}");
            Ok(view)
        })
        .await
    };
    let before = waiting(&certified.cdn).await;
    let detail = before.detail.clone().unwrap_or_default();
    ensure!(detail.contains("forbidden by policy") && detail.contains(BAD), "{detail}");
    // That of the wildcard, of all twenty, of nineteen.
    ensure!(certified.pebble.calls("/order-plz")? == 3, "{}", certified.pebble.log()?);

    certified.cdn.fleet.control_mut().kill().await?;
    certified.cdn.fleet.control_mut().start().await?;
    let after = waiting(&certified.cdn).await;
    ensure!(after.retry_at == before.retry_at && after.retry_at.is_some(), "{after:?} {before:?}");
    ensure!(certified.pebble.calls("/order-plz")? == 3, "{}", certified.pebble.log()?);
    let list = certified.cdn.person.run(&["cert", "list"]).await?.expect(0);
    let told = format!("{id}: {detail}; next try at ");
    ensure!(list.stdout.contains(&told), "{}", list.stdout);
    certified.cdn.fleet.stop().await
}
