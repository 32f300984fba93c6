//! A GeoIP file that goes bad while the DNS server runs.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nigh_testkit::{geo_fixture, mmdb};
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
    eventually,
    patience::SOON,
};

/// Tokyo in the fixture; nearest is the edge in Singapore.
const TOKYO: &str = "203.0.113.0/24";

async fn nearest(cdn: &Cdn) -> Result<String> {
    let question = cdn.fleet.question(&cdn.host(), "A")?.seen_from(TOKYO);
    let reply = question.ask().await?;
    Ok(reply.answers.first().with_context(|| reply.text.clone())?.data.clone())
}

/// Waits until the DNS server has told of the bad file, then asks.
async fn keeps_answering(cdn: &Cdn, what: &str, sin: &str) -> Result<()> {
    let log = cdn.fleet.dns_servers()[0].process.log().to_owned();
    let before = fs::read_to_string(&log)?.len();
    let file = cdn.fleet.dir().join("geoip.mmdb");
    match what {
        "missing" => fs::remove_file(&file)?,
        "truncated" => {
            let bytes = fs::read(&file)?;
            replace(&file, &bytes[..bytes.len() / 2])?;
        }
        _ => replace(&file, &b"no map at all".repeat(1000))?,
    }
    eventually(format!("the log tells of a file that is {what}"), SOON, async || {
        let log = fs::read_to_string(&log)?;
        ensure!(log[before..].contains("geoip.mmdb"), "{}", &log[before..]);
        Ok(())
    })
    .await;
    assert_eq!(nearest(cdn).await?, sin, "the last good file is kept: {what}");
    Ok(())
}

fn replace(file: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, bytes)?;
    Ok(fs::rename(new, file)?)
}

#[tokio::test]
async fn the_last_good_file_is_kept_and_a_good_one_is_taken_up_again() -> Result<()> {
    let cdn = Cdn::of(fleet(3)).await?;
    let dir = folder(&[("index.html", "x")])?;
    cdn.push(dir.path()).await?;
    let (sin, nyc) = (cdn.address("sin")?, cdn.address("nyc")?);
    assert_eq!(nearest(&cdn).await?, sin);
    let file = cdn.fleet.dir().join("geoip.mmdb");

    for what in ["truncated", "garbage", "missing"] {
        keeps_answering(&cdn, what, &sin).await?;
        geo_fixture::write_mmdb(&file)?;
    }

    // Tokyo moves to the Hudson: a good file is in force without a restart.
    let new_york = geo_fixture::find("New York").context("a city")?;
    let record = mmdb::Record {
        city: "Tokyo".to_owned(),
        latitude: new_york.latitude,
        longitude: new_york.longitude,
        ..mmdb::Record::default()
    };
    mmdb::write(&file, &[(TOKYO.parse()?, record)], 1_800_000_000)?;
    eventually("the new file is in force", Duration::from_secs(10), async || {
        let found = nearest(&cdn).await?;
        ensure!(found == nyc, "{found}");
        Ok(())
    })
    .await;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_dns_server_starts_without_its_file() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "x")])?;
    cdn.push(dir.path()).await?;
    fs::remove_file(cdn.fleet.dir().join("geoip.mmdb"))?;

    cdn.kill("ns1").await?;
    cdn.restart("ns1").await?;

    assert_eq!(nearest(&cdn).await?, cdn.address("fra")?);
    cdn.fleet.stop().await
}
