//! Every role tells monitoring how it is, under the names that dashboards rely on.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use nigh_testkit::Visitor;
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
};

async fn page(ops: SocketAddr, path: &str) -> Result<(u16, String)> {
    let visit = Visitor::http("localhost", ops)?.get(path).await?;
    Ok((visit.status, visit.text()))
}

#[tokio::test]
async fn health_version_and_metrics_are_where_monitoring_looks() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    cdn.text("fra", "/").await?;
    cdn.answers("198.51.100.0/24").await?;

    let control = cdn.fleet.control().listeners().get("ops").context("control's pages")?;
    for (ops, names) in [
        (control, &["nigh_control_releases_total", "nigh_control_api_requests_total"][..]),
        (
            cdn.fleet.edge("fra")?.addr("ops")?,
            &[
                "nigh_edge_http_requests_total",
                "nigh_edge_http_response_bytes_total",
                "nigh_edge_cache_requests_total",
                "nigh_edge_release_info",
                "nigh_machine_control_connected",
                "nigh_machine_revision",
            ],
        ),
        (
            cdn.fleet.dns_servers()[0].addr("ops")?,
            &["nigh_dns_queries_total", "nigh_dns_answer_edge_total", "nigh_machine_revision"],
        ),
    ] {
        assert_eq!(page(ops, "/healthz").await?.0, 200);
        assert_eq!(page(ops, "/readyz").await?.0, 200);
        let (status, version) = page(ops, "/version").await?;
        assert!(status == 200 && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        let (status, metrics) = page(ops, "/metrics").await?;
        assert_eq!(status, 200);
        for name in names.iter().chain(&["nigh_build_info"]) {
            let is_counted = metrics.lines().any(|line| line.starts_with(name));
            assert!(is_counted, "{name} is not in\n{metrics}");
        }
        let is_told = |line: &str| line.contains("/index.html") || line.contains("127.0.0.1");
        assert!(!metrics.lines().any(is_told), "a label without bound:\n{metrics}");
    }
    cdn.fleet.stop().await
}
