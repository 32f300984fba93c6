//! Tools that know nothing of nigh find everything as the standards say.

use anyhow::{Context, Result};
use nigh_testkit::{
    dig::{Question, Tool},
    tree::SampleSite,
};
use nigh_tests::{Cdn, cdn::fleet, curl::Curl};

const BERLIN: &str = "198.51.100.0/24";
const TOKYO: &str = "203.0.113.0/24";
const NEW_YORK: &str = "192.0.2.0/24";

#[tokio::test]
async fn dig_and_kdig_get_answers_that_resolvers_can_use() -> Result<()> {
    let cdn = Cdn::of(fleet(3)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(2).write(dir.path())?;
    cdn.push(dir.path()).await?;

    for tool in [Tool::Dig, Tool::Kdig] {
        for transport in ["+notcp", "+tcp"] {
            nearest_edges(&cdn, tool, transport).await?;
        }
        fixed_records(&cdn, tool).await?;
        missing_names(&cdn, tool).await?;
    }
    limits(&cdn).await?;
    cdn.fleet.stop().await
}

/// Each network is sent to its own edge first, and resolvers learn how far the answer fits.
async fn nearest_edges(cdn: &Cdn, tool: Tool, transport: &str) -> Result<()> {
    for (network, edge) in [(BERLIN, "fra"), (NEW_YORK, "nyc"), (TOKYO, "sin")] {
        let question = cdn.fleet.question(&cdn.host(), "A")?.by(tool).option(transport);
        let reply = question.seen_from(network).ask().await?;
        assert_eq!(reply.status, "NOERROR", "{}", reply.text);
        assert!(reply.flags.contains("aa"), "{}", reply.text);
        let first = reply.answers.first().context("an answer")?;
        assert_eq!((first.kind.as_str(), &first.data), ("A", &cdn.address(edge)?), "{network}");
        assert_eq!(first.ttl_s, 20);
        let subnet = reply.client_subnet.context("the client subnet option is echoed")?;
        assert!(subnet.starts_with(network.trim_end_matches("/24")), "{subnet}");
    }
    Ok(())
}

async fn fixed_records(cdn: &Cdn, tool: Tool) -> Result<()> {
    for (name, kind, data) in [
        ("nigh.test", "NS", "ns1.nigh.test."),
        ("nigh.test", "TXT", "\"a fleet for tests\""),
        ("ns1.nigh.test", "A", "127.0.0.1"),
    ] {
        let reply = cdn.fleet.question(name, kind)?.by(tool).ask().await?;
        assert_eq!(reply.data(kind), [data], "{}", reply.text);
    }
    let soa = cdn.fleet.question("nigh.test", "SOA")?.by(tool).ask().await?;
    assert!(soa.data("SOA")[0].starts_with("ns1.nigh.test. hostmaster.nigh.test."), "{}", soa.text);
    Ok(())
}

async fn missing_names(cdn: &Cdn, tool: Tool) -> Result<()> {
    for (name, kind, status) in [
        ("nothing.nigh.test", "A", "NXDOMAIN"),
        ("docs.nigh.test", "MX", "NOERROR"),
        ("docs.nigh.test", "AAAA", "NOERROR"),
    ] {
        let reply = cdn.fleet.question(name, kind)?.by(tool).ask().await?;
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(reply.answers.is_empty(), "{}", reply.text);
        assert_eq!(reply.authority[0].kind, "SOA", "{}", reply.text);
    }
    let foreign = cdn.fleet.question("example.com", "A")?.by(tool).ask().await?;
    assert_eq!(foreign.status, "REFUSED");
    Ok(())
}

async fn limits(cdn: &Cdn) -> Result<()> {
    let ask = |option: &str| -> Result<Question> {
        Ok(cdn.fleet.question(&cdn.host(), "A")?.option(option))
    };
    for option in ["+bufsize=512", "+noedns", "+dnssec", "+nocookie", "+cookie"] {
        let reply = ask(option)?.ask().await?;
        assert_eq!(reply.status, "NOERROR", "{option}: {}", reply.text);
        assert!(!reply.data("A").is_empty(), "{option}: {}", reply.text);
    }
    let version = ask("+edns=1")?.option("+noednsnegotiation").ask().await?;
    assert_eq!(version.status, "BADVERS", "{}", version.text);
    let upper = cdn.fleet.question("DOCS.Nigh.TEST", "A")?.ask().await?;
    assert!(!upper.data("A").is_empty(), "{}", upper.text);
    Ok(())
}

#[tokio::test]
async fn h2load_and_curl_see_no_failure() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(40).write(dir.path())?;
    cdn.push(dir.path()).await?;
    let https = cdn.fleet.edge("fra")?.addr("https")?;

    for version in ["--npn-list=h2", "--npn-list=http/1.1"] {
        let url = |path: &str| format!("https://{}:{}{path}", cdn.host(), https.port());
        let output = cdn
            .person
            .program("h2load")
            .args(["-n", "600", "-c", "6", "-m", "10", version])
            .arg(format!("--connect-to={https}"))
            .args([url("/"), url("/docs/0/page-1"), url("/docs/0/page-2")])
            .output()
            .await
            .context("h2load is not installed (Debian has it in nghttp2-client)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let requests = text.lines().find(|line| line.starts_with("requests:"));
        let requests = requests.with_context(|| text.clone().into_owned())?;
        assert!(requests.contains("600 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
        let codes = text.lines().find(|line| line.starts_with("status codes:"));
        assert!(codes.is_some_and(|codes| codes.contains("600 2xx")), "{text}");
    }

    let curl = Curl::at(&cdn, "fra")?;
    let plain = curl.get("/docs/0/page-1", &[]).await?;
    for args in [&["--http2", "--compressed"][..], &["--http1.1", "--compressed"]] {
        let answer = curl.get("/docs/0/page-1", args).await?;
        assert_eq!((answer.status, &answer.body), (200, &plain.body), "{args:?}");
    }
    cdn.fleet.stop().await
}
