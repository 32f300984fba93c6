//! What is a fleet to be like, and how do its controls come up?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nigh_proto::report::MachineRole;
use toml::Table;

use super::{Fleet, Folder, Machine, client_of_all, config_file, write_config};
use crate::{
    config, geo_fixture,
    layout::Layout,
    place::{PLACES, Place},
    postgres::{Cluster, Database, DatabaseKind},
    process::{Process, Program},
};

/// What a fleet is to be like.
#[derive(Clone, Debug)]
pub struct FleetBuilder {
    binary: PathBuf,
    /// What controls run, when it is another program.
    control_binary: Option<PathBuf>,
    dir: Option<PathBuf>,
    pub(super) places: Vec<Place>,
    dns: usize,
    controls: usize,
    control: Table,
    pub(super) edge: Table,
    pub(super) dns_config: Table,
    environment: Vec<(String, String)>,
    database: DatabaseKind,
    has_own_server: bool,
}

impl FleetBuilder {
    /// Three edges and one DNS server, all of them `binary serve …`.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            control_binary: None,
            dir: None,
            places: PLACES[..3].to_vec(),
            dns: 1,
            controls: 1,
            control: Table::new(),
            edge: Table::new(),
            dns_config: Table::new(),
            environment: Vec::new(),
            database: DatabaseKind::Sqlite,
            has_own_server: false,
        }
    }

    /// So many edges, in different regions; at most as many as there are [`PLACES`].
    pub fn edges(mut self, count: usize) -> Self {
        self.places = PLACES[..count.min(PLACES.len())].to_vec();
        self
    }

    /// Edges at these places, whose names differ; several may stand in one region.
    pub fn places(mut self, places: Vec<Place>) -> Self {
        self.places = places;
        self
    }

    /// So many DNS servers.
    pub const fn dns_servers(mut self, count: usize) -> Self {
        self.dns = count;
        self
    }

    /// So many controls, which need a PostgreSQL and a bucket that they share.
    pub fn controls(mut self, count: usize) -> Self {
        self.controls = count.max(1);
        self
    }

    /// Has controls run another program than machines.
    pub fn control_program(mut self, binary: impl Into<PathBuf>) -> Self {
        self.control_binary = Some(binary.into());
        self
    }

    /// Keeps everything in `dir` for the next fleet there.
    pub fn keep_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Which database control works on: SQLite unless told otherwise. One on PostgreSQL goes with the
    /// fleet, whatever is kept.
    pub const fn database(mut self, database: DatabaseKind) -> Self {
        self.database = database;
        self
    }

    /// A PostgreSQL that nobody else is on, to be halted and started again.
    pub const fn own_postgres(mut self) -> Self {
        self.database = DatabaseKind::Postgres;
        self.has_own_server = true;
        self
    }

    /// Merges `toml` into control's configuration.
    pub fn control_config(mut self, toml: &str) -> Result<Self> {
        config::merge(&mut self.control, &config::table(toml)?);
        Ok(self)
    }

    /// Merges `toml` into every edge's configuration.
    pub fn edge_config(mut self, toml: &str) -> Result<Self> {
        config::merge(&mut self.edge, &config::table(toml)?);
        Ok(self)
    }

    /// Merges `toml` into every DNS server's configuration.
    pub fn dns_config(mut self, toml: &str) -> Result<Self> {
        config::merge(&mut self.dns_config, &config::table(toml)?);
        Ok(self)
    }

    /// Sets an environment variable of every child.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything and waits until every machine has joined and is current.
    pub async fn start(self) -> Result<Fleet> {
        let dir = self.folder()?;
        let layout = Layout::load_or_find(dir.path(), &self.places, self.dns, self.controls)?;
        geo_fixture::write_mmdb(&dir.path().join("geoip.mmdb"))?;
        let mut fleet = self.assemble(dir, layout).await?;
        fleet.start_machines().await?;
        fleet.layout.save(fleet.dir.path())?;
        Ok(fleet)
    }

    fn folder(&self) -> Result<Folder> {
        let dir = match &self.dir {
            None => Folder::Temporary(
                tempfile::Builder::new()
                    .prefix("nigh-fleet-")
                    .tempdir()
                    .context("no folder for the fleet")?,
            ),
            Some(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("could not make the folder {}", path.display()))?;
                Folder::Kept(path.canonicalize()?)
            }
        };
        for sub in ["config", "log"] {
            std::fs::create_dir_all(dir.path().join(sub))?;
        }
        Ok(dir)
    }

    /// A database of the fleet's own, and control's configuration to use it.
    fn make_database(&mut self, dir: &Path) -> Result<Option<Database>> {
        let database = match self.has_own_server {
            true => Some(Cluster::start()?.database()?),
            false => self.database.make()?,
        };
        let Some(database) = database else { return Ok(None) };
        let key_file = dir.join("config").join("secret.key");
        let mut control = config::on_postgres(&database.url(), &key_file)?;
        config::merge(&mut control, &self.control);
        self.control = control;
        Ok(Some(database))
    }

    /// Starts every control, whose addresses and CA everything else needs.
    async fn assemble(mut self, dir: Folder, mut layout: Layout) -> Result<Fleet> {
        let database = self.make_database(dir.path())?;
        let mut controls = Vec::with_capacity(self.controls);
        for index in 0..self.controls {
            // The first one makes the schema, the CA and the key that the others need.
            controls.push(self.start_control(dir.path(), &mut layout, index).await?);
        }
        let (client, token) = client_of_all(&layout, &dir.path().join("control"))?;
        let (dns, edges) =
            (self.dns_machines(dir.path(), &layout)?, self.edge_machines(dir.path())?);
        Ok(Fleet { builder: self, controls, dns, edges, layout, client, token, database, dir })
    }

    async fn start_control(
        &self,
        dir: &Path,
        layout: &mut Layout,
        index: usize,
    ) -> Result<Process> {
        let name = control_name(index);
        let mut control = self.process(dir, "control", &name)?;
        self.write_control_config(dir, layout, index)?;
        let listeners = control.start().await?;
        let bound =
            |name| listeners.get(name).with_context(|| format!("control has no listener {name}"));
        layout.controls[index] = config::ControlAddresses {
            api: bound("api")?,
            machines: bound("machines")?,
            ops: bound("ops")?,
        };
        self.write_control_config(dir, layout, index)?;
        Ok(control)
    }

    fn dns_machines(&self, dir: &Path, layout: &Layout) -> Result<Vec<Machine>> {
        let machine = |name: &str| {
            let process = self.process(dir, "dns", name)?;
            Ok(Machine { name: name.to_owned(), role: MachineRole::Dns, region: None, process })
        };
        layout.dns.iter().map(|dns| machine(&dns.name)).collect()
    }

    fn edge_machines(&self, dir: &Path) -> Result<Vec<Machine>> {
        let machine = |place: &Place| {
            let process = self.process(dir, "edge", place.edge)?;
            let (name, region) = (place.edge.to_owned(), Some(place.region));
            Ok(Machine { name, role: MachineRole::Edge, region, process })
        };
        self.places.iter().map(machine).collect()
    }

    /// `nigh serve ROLE --config …`, which ends with its standard input.
    fn process(&self, dir: &Path, role: &str, name: &str) -> Result<Process> {
        let config = config_file(dir, name);
        let of_control = self.control_binary.as_ref().filter(|_| role == "control");
        let args = ["serve", role, "--exit-with-stdin", "--config", &config.to_string_lossy()];
        Process::new(Program {
            name: if role == name { role.to_owned() } else { format!("{role} {name}") },
            binary: of_control.unwrap_or(&self.binary).clone(),
            args: args.map(str::to_owned).to_vec(),
            log: dir.join("log").join(format!("{name}.log")),
            environment: self.environment.clone(),
        })
    }

    fn write_control_config(&self, dir: &Path, layout: &Layout, index: usize) -> Result<()> {
        let ((http, https), name) = (layout.edge_ports(), control_name(index));
        let mut table = config::control(&dir.join(&name), layout.controls[index], http, https)?;
        config::merge(&mut table, &self.control);
        write_config(dir, &name, &table)
    }
}

/// `control`, `control2` and so on: what its files are called.
fn control_name(index: usize) -> String {
    if index == 0 { "control".to_owned() } else { format!("control{}", index + 1) }
}
