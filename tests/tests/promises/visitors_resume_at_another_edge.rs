//! A visitor who lands on another edge goes on with the TLS session of before, with control gone too.

use std::{path::Path, process::Stdio};

use anyhow::{Result, ensure};
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
    eventually,
    patience::SOON,
};
use tokio::io::AsyncWriteExt as _;

/// What `openssl s_client` says of a connection to `edge` that asks for the page.
async fn s_client(cdn: &Cdn, edge: &str, session: (&str, &Path), version: &str) -> Result<String> {
    let (host, ca_file) = (cdn.host(), cdn.fleet.ca_file());
    let at = cdn.fleet.edge(edge)?.addr("https")?.to_string();
    let mut command = cdn.person.program("openssl");
    command
        .args(["s_client", "-connect", &at, "-servername", &host, "-ign_eof", version])
        .arg("-verify_return_error")
        .arg("-CAfile")
        .arg(&ca_file)
        .arg(session.0)
        .arg(session.1)
        .stdin(Stdio::piped());
    let mut child = command.spawn()?;
    let mut typed = child.stdin.take().expect("it is a pipe");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    typed.write_all(request.as_bytes()).await?;
    let said = tokio::time::timeout(SOON, child.wait_with_output()).await??;
    drop(typed);
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// A TLS session of `first` goes on at `second`.
pub(crate) async fn a_session_goes_on(cdn: &Cdn, first: &str, second: &str, version: &str) {
    let session = cdn.person.home().join("session.pem");
    // Both have the keys that control shares soon after they have the site.
    eventually(format!("a session of {first} goes on at {second}"), SOON, async || {
        let begun = s_client(cdn, first, ("-sess_out", &session), version).await?;
        ensure!(begun.contains("hello") && begun.contains("New, TLSv1."), "{begun}");
        let resumed = s_client(cdn, second, ("-sess_in", &session), version).await?;
        ensure!(resumed.contains("hello") && resumed.contains("Reused, TLSv1."), "{resumed}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn openssl_resumes_at_another_edge_and_after_a_restart_without_control() -> Result<()> {
    let mut cdn = Cdn::of(fleet(2)).await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let session = cdn.person.home().join("session.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        a_session_goes_on(&cdn, "fra", "nyc", version).await;
    }
    // The keys are part of the state on disk.
    let first = s_client(&cdn, "fra", ("-sess_out", &session), "-tls1_3").await?;
    ensure!(first.contains("hello"), "{first}");
    cdn.fleet.control_mut().kill().await?;
    cdn.kill("nyc").await?;
    cdn.restart("nyc").await?;
    let second = s_client(&cdn, "nyc", ("-sess_in", &session), "-tls1_3").await?;
    ensure!(second.contains("hello") && second.contains("Reused, TLSv1.3"), "{second}");
    cdn.fleet.stop().await
}
