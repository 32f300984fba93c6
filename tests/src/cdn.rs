//! A fleet, one site in it, and somebody who pushes to that site.

use std::path::Path;

use anyhow::{Context, Result};
use nigh_proto::{
    ReleaseId, SiteName,
    api::{NewSite, ReleaseView},
};
use nigh_testkit::{
    Fleet, FleetBuilder, Visitor,
    config::{self, ZONE},
    postgres::DatabaseKind,
    tree,
};
use tempfile::TempDir;

use crate::{Person, Pushed, audience, binary, eventually, patience::SOON};

/// The site that tests push to.
pub const SITE: &str = "docs";

/// A fleet with the site `docs`.
#[derive(Debug)]
pub struct Cdn {
    pub fleet: Fleet,
    pub person: Person,
}

/// A fleet of so many edges, and the usual one DNS server, of the program under test, on the
/// database that the tests are to run on.
pub fn fleet(edges: usize) -> FleetBuilder {
    Fleet::builder(binary::nigh()).edges(edges).database(DatabaseKind::of_tests())
}

/// A new folder that holds these texts.
pub fn folder(files: &[(&str, &str)]) -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("nigh-site-").tempdir()?;
    tree::write_all(dir.path(), files)?;
    Ok(dir)
}

impl Cdn {
    /// Two edges and one DNS server: the least that shows whether all edges agree.
    pub async fn start() -> Result<Self> {
        Self::of(fleet(2)).await
    }

    /// A fleet as it was described.
    pub async fn of(builder: FleetBuilder) -> Result<Self> {
        let fleet = builder.start().await?;
        let site = NewSite { name: SITE.parse()?, hosts: Vec::new() };
        fleet.client().create_site(&site).await?;
        let person = Person::of(&fleet)?;
        Ok(Self { fleet, person })
    }

    /// The host of the site.
    pub fn host(&self) -> String {
        format!("{SITE}.{ZONE}")
    }

    pub fn site(&self) -> SiteName {
        SITE.parse().expect("this is the name of a site")
    }

    /// Pushes `dir`, which must go live on every edge.
    pub async fn push(&self, dir: &Path) -> Result<Pushed> {
        self.person.push(SITE, dir).await
    }

    /// Somebody who visits the site at `edge`.
    pub fn visitor(&self, edge: &str) -> Result<Visitor> {
        self.fleet.visitor(&self.host(), edge)
    }

    /// The names of all edges.
    pub fn edges(&self) -> Vec<String> {
        self.fleet.edges().iter().map(|edge| edge.name.clone()).collect()
    }

    /// Every file of `dir` comes back, byte for byte, from every edge.
    pub async fn serves(&self, dir: &Path) -> Result<()> {
        let contents = tree::contents(dir)?;
        for edge in self.edges() {
            let visitors = [self.visitor(&edge)?, self.visitor(&edge)?];
            let wrong = audience::fetch_all(&visitors, &contents).await;
            anyhow::ensure!(wrong.is_empty(), "at {edge}: {}", audience::told(&wrong));
        }
        Ok(())
    }

    /// What `path` of the site is at `edge` now.
    pub async fn text(&self, edge: &str, path: &str) -> Result<String> {
        let visit = self.visitor(edge)?.get(path).await?;
        anyhow::ensure!(visit.status == 200, "{path} at {edge}: {}", visit.status);
        Ok(visit.text())
    }

    /// Waits until `path` at `edge` is `text`.
    pub async fn shows(&self, edge: &str, path: &str, text: &str) {
        eventually(format!("{path} at {edge} is {text:?}"), SOON, async || {
            let found = self.text(edge, path).await?;
            anyhow::ensure!(found == text, "it is {found:?}");
            Ok(())
        })
        .await;
    }

    /// The numbers of control's CAs, the newest first.
    pub async fn fleet_ca(&self) -> Result<Vec<i64>> {
        // The CA file changes while CAs do; what the person reads is always the newest.
        let ca = self.person.json(&["ca", "show"]).await?;
        let authorities = ca["authorities"].as_array().cloned().unwrap_or_default();
        Ok(authorities.iter().filter_map(|one| one["number"].as_i64()).collect())
    }

    /// A release as control sees it.
    pub async fn release(&self, release: &str) -> Result<ReleaseView> {
        Ok(self.fleet.client().release(&self.site(), release).await?)
    }

    /// The release that is active, as control sees it.
    pub async fn active(&self) -> Result<ReleaseId> {
        let site = self.fleet.client().site(&self.site()).await?;
        site.active.context("the site has no active release")
    }

    /// The addresses that the first DNS server gives for the site, seen from `network`.
    pub async fn answers(&self, network: &str) -> Result<Vec<String>> {
        let question = self.fleet.question(&self.host(), "A")?.seen_from(network);
        let reply = question.ask().await?;
        anyhow::ensure!(reply.status == "NOERROR", "{}", reply.text);
        Ok(reply.data("A").into_iter().map(str::to_owned).collect())
    }

    /// The address of `edge`, as DNS gives it.
    pub fn address(&self, edge: &str) -> Result<String> {
        Ok(self.fleet.edge(edge)?.addr("https")?.ip().to_string())
    }

    /// Kills an edge or DNS server as a power cut would.
    pub async fn kill(&mut self, machine: &str) -> Result<()> {
        self.fleet.machine_mut(machine)?.process.kill().await
    }

    /// Changes the configuration of `control` or a machine, and starts it anew.
    pub async fn reconfigure(&mut self, machine: &str, toml: &str) -> Result<()> {
        let file = self.fleet.dir().join("config").join(format!("{machine}.toml"));
        let mut table = config::table(&std::fs::read_to_string(&file)?)?;
        config::merge(&mut table, &config::table(toml)?);
        std::fs::write(&file, table.to_string())?;
        let process = match machine {
            "control" => self.fleet.control_mut(),
            machine => &mut self.fleet.machine_mut(machine)?.process,
        };
        process.stop().await?;
        process.start().await.map(drop)
    }

    /// Starts an edge or DNS server again.
    pub async fn restart(&mut self, machine: &str) -> Result<()> {
        self.fleet.machine_mut(machine)?.process.start().await.map(drop)
    }
}

/// Bytes that do not compress; the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = tree::Numbers::new(seed);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        noise.extend_from_slice(&numbers.next().to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
