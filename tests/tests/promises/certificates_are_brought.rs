//! An operator who has a certificate brings it; it is preferred, and what cannot serve is refused.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nigh_testkit::Visitor;
use nigh_tests::{
    Cdn,
    cdn::{SITE, folder},
    certified::served_where,
    eventually,
    patience::SOON,
};
use tokio::process::Command;

/// A certificate that signs itself, and its key, as `openssl` makes them.
async fn made(cdn: &Cdn, name: &str, host: &str) -> Result<(PathBuf, PathBuf)> {
    let path = |kind: &str| cdn.fleet.dir().join(format!("{name}.{kind}"));
    let (chain, key) = (path("pem"), path("key"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "40", "-subj", "/CN=own", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", &format!("subjectAltName=DNS:{host}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .output()
        .await
        .context("openssl is not installed; run tests/install")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((chain, key))
}

#[tokio::test]
async fn an_own_certificate_is_served_until_it_is_removed() -> Result<()> {
    let cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let (chain, key) = made(&cdn, "own", &cdn.host()).await?;
    let (other, other_key) = made(&cdn, "other", "other.example").await?;
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let import = async |chain: &PathBuf, key: &PathBuf| {
        let args = ["cert", "import", "--site", SITE, &text(chain), &text(key)];
        cdn.person.run(&args).await
    };
    import(&chain, &other_key).await?.expect(6).says(&["key does not belong"]);
    import(&other, &other_key).await?.expect(6).says(&["other.example"]);
    import(&chain, &key).await?.expect(0);
    let view = served_where(&cdn, "import:docs", |_| true).await;
    ensure!(view.names.len() == 1, "{view:?}");

    let trusted = std::fs::read(&chain)?;
    for edge in cdn.edges() {
        let https = cdn.fleet.edge(&edge)?.addr("https")?;
        let visitor = Visitor::https(&cdn.host(), https, &trusted)?;
        ensure!(visitor.get("/").await?.text() == "hello", "{edge}");
        ensure!(cdn.visitor(&edge)?.get("/").await.is_err(), "{edge} still shows the other one");
    }
    let list = cdn.person.run(&["cert", "list"]).await?.expect(0).stdout;
    ensure!(list.lines().any(|line| line.starts_with("import:docs  served  own")), "{list}");
    cdn.person.json(&["cert", "rm", "--site", SITE, "--yes"]).await?;
    for edge in cdn.edges() {
        eventually(format!("{edge} shows the other one again"), SOON, async || {
            ensure!(cdn.text(&edge, "/").await? == "hello");
            Ok(())
        })
        .await;
    }
    cdn.fleet.stop().await
}
