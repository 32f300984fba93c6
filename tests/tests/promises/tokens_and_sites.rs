//! A token opens what it was made for and nothing else.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nigh_tests::{
    Cdn, Run,
    cdn::{SITE, folder},
    eventually,
    patience::SOON,
};
use serde_json::Value;

async fn push_as(cdn: &Cdn, token: &str, site: &str, dir: &Path) -> Result<Run> {
    let person = cdn.person.with("NIGH_TOKEN", token);
    person.run(&["push", &dir.to_string_lossy(), "--site", site]).await
}

fn secret(made: &Value) -> Result<String> {
    Ok(made["secret"].as_str().context("no secret")?.to_owned())
}

#[tokio::test]
async fn a_token_pushes_to_its_own_site_only_and_only_while_it_is_good() -> Result<()> {
    let cdn = Cdn::start().await?;
    let person = &cdn.person;
    let dir = folder(&[("index.html", "live")])?;
    cdn.push(dir.path()).await?;
    person.json(&["site", "create", "blog"]).await?;
    let other = folder(&[("index.html", "not yours")])?;

    let made = person.json(&["token", "create", "ci of blog", "--for-site", "blog"]).await?;
    let (blog, id) = (secret(&made)?, made["token"]["id"].as_str().context("an id")?.to_owned());
    push_as(&cdn, &blog, "blog", other.path()).await?.expect(0);
    push_as(&cdn, &blog, SITE, other.path()).await?.expect(3);
    person.json(&["token", "revoke", &id]).await?;
    push_as(&cdn, &blog, "blog", dir.path()).await?.expect(3).says(&["NIGH_TOKEN"]);

    let reader = person.json(&["token", "create", "look", "--scope", "read"]).await?;
    let look = cdn.person.with("NIGH_TOKEN", secret(&reader)?);
    look.run(&["release", "list", "--site", SITE]).await?.expect(0);
    look.run(&["site", "delete", SITE, "--yes"]).await?.expect(3);
    push_as(&cdn, &secret(&reader)?, SITE, other.path()).await?.expect(3);

    let short = person.json(&["token", "create", "short", "--expires", "1ms"]).await?;
    let short = secret(&short)?;
    eventually("the token has expired", SOON, async || {
        let run = push_as(&cdn, &short, SITE, dir.path()).await?;
        ensure!(run.code == Some(3), "{run}");
        Ok(())
    })
    .await;
    for wrong in ["nigh_pat_0000000000000000000000000000000000000000000", "hello"] {
        push_as(&cdn, wrong, SITE, other.path()).await?.expect(3);
    }

    for edge in cdn.edges() {
        assert_eq!(cdn.text(&edge, "/").await?, "live", "nothing is lost at {edge}");
    }
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_token_is_never_printed_again_or_logged() -> Result<()> {
    let cdn = Cdn::start().await?;
    let made = cdn.person.json(&["token", "create", "once"]).await?;
    let secret = secret(&made)?;
    assert!(secret.starts_with("nigh_"), "{secret}");

    let dir = folder(&[("index.html", "x")])?;
    push_as(&cdn, &secret, SITE, dir.path()).await?.expect(0);
    let list = cdn.person.run(&["token", "list", "--json"]).await?.expect(0);
    assert!(list.stdout.contains("once") && !list.stdout.contains(&secret), "{list}");

    for entry in std::fs::read_dir(cdn.fleet.dir().join("log"))? {
        let log = std::fs::read_to_string(entry?.path())?;
        assert!(!log.contains(&secret) && !log.contains(cdn.fleet.token()), "{log}");
    }
    cdn.fleet.stop().await
}
