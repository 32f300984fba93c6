//! A fleet whose certificates come from a real CA.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nigh_proto::api::{CertificateState, CertificateView};
use nigh_testkit::{
    FleetBuilder, Visitor,
    pebble::{Pebble, PebbleBuilder},
};

use crate::{Cdn, eventually, patience::SOON};

/// Long enough for an order, on a machine that is busy with other tests.
pub const ISSUED: Duration = Duration::from_secs(90);

/// A fleet and its CA.
#[derive(Debug)]
pub struct Certified {
    pub cdn: Cdn,
    pub pebble: Pebble,
}

/// A CA that looks at this fleet.
pub fn ca_for(cdn: &Cdn) -> Result<PebbleBuilder> {
    let http_port = cdn.fleet.edges().first().context("no edge")?.addr("http")?.port();
    Ok(PebbleBuilder::new(cdn.fleet.dns_addr()?, http_port))
}

/// `[certificates]` with this CA alone.
pub fn config(cas: &[String], more: &str) -> String {
    format!("[certificates]\nmode = \"acme\"\n{more}\n{}", cas.concat())
}

impl Certified {
    /// A fleet that has its certificates from a CA with its usual faults.
    pub async fn start(fleet: FleetBuilder) -> Result<Self> {
        Self::start_with(fleet, |ca| ca).await
    }

    /// The same with another kind of CA.
    pub async fn start_with(
        fleet: FleetBuilder,
        kind: impl FnOnce(PebbleBuilder) -> PebbleBuilder,
    ) -> Result<Self> {
        let mut cdn = Cdn::of(fleet).await?;
        let pebble = kind(ca_for(&cdn)?).start().await?;
        cdn.reconfigure("control", &config(&[pebble.config("")], "")).await?;
        Ok(Self { cdn, pebble })
    }

    /// The certificate `id`, once every edge serves with it.
    pub async fn served(&self, id: &str) -> CertificateView {
        self.served_where(id, |_| true).await
    }

    /// The certificate `id`, once every edge serves with one like this.
    pub async fn served_where(
        &self,
        id: &str,
        is_meant: impl Fn(&CertificateView) -> bool,
    ) -> CertificateView {
        served_where(&self.cdn, id, is_meant).await
    }

    /// Somebody who trusts the CA's root and visits `host` at `edge`.
    pub async fn visitor(&self, host: &str, edge: &str) -> Result<Visitor> {
        let root = self.pebble.root().await?;
        Visitor::https(host, self.cdn.fleet.edge(edge)?.addr("https")?, root.as_bytes())
    }

    /// `host` at every edge is `text`, over TLS that the CA vouches for.
    pub async fn shows_everywhere(&self, host: &str, text: &str) -> Result<()> {
        for edge in self.cdn.edges() {
            eventually(format!("{host} at {edge} is {text:?}"), SOON, async || {
                let visit = self.visitor(host, &edge).await?.get("/").await?;
                ensure!(visit.text() == text, "{} {:?}", visit.status, visit.text());
                Ok(())
            })
            .await;
        }
        Ok(())
    }
}

/// The certificate `id` of a public CA, once every edge serves with one like this.
pub async fn served_where(
    cdn: &Cdn,
    id: &str,
    is_meant: impl Fn(&CertificateView) -> bool,
) -> CertificateView {
    eventually(format!("{id} is served everywhere"), ISSUED, async || {
        let view = cdn.fleet.client().certificate(id).await?;
        let is_everywhere = view.edges.len() == cdn.edges().len();
        ensure!(
            view.state == CertificateState::Served && is_everywhere && is_meant(&view),
            "{view:?}"
        );
        Ok(view)
    })
    .await
}
