//! Control, DNS servers and edges as child processes, started together and left behind by nobody.
//!
//! A fleet lives in one folder. It is removed with the fleet unless [`FleetBuilder::keep_in`] named it;
//! then the next fleet there has the same data, token and ports.

mod builder;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nigh_client::{Client, ClientConfig, Patience, Trust};
use nigh_proto::{api::NewJoinToken, report::MachineRole};
use tempfile::TempDir;
use toml::Table;

pub use builder::FleetBuilder;

use crate::{
    config::{self, EdgeSettings, Upstream},
    dig::Question,
    layout::Layout,
    postgres::Database,
    process::Process,
    visitor::Visitor,
};

/// How long all machines may take to join and be current.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);
/// How often control is asked whether they have: it has no call that waits for it.
const JOIN_POLL: Duration = Duration::from_millis(20);

/// A running fleet. Dropping it ends every child.
#[derive(Debug)]
pub struct Fleet {
    builder: FleetBuilder,
    /// At least one.
    controls: Vec<Process>,
    dns: Vec<Machine>,
    edges: Vec<Machine>,
    layout: Layout,
    client: Client,
    token: String,
    /// After the processes, so that they are gone when what they use is removed.
    database: Option<Database>,
    dir: Folder,
}

/// An edge or a DNS server of a fleet.
#[derive(Debug)]
pub struct Machine {
    pub name: String,
    pub role: MachineRole,
    pub region: Option<&'static str>,
    pub process: Process,
}

#[derive(Debug)]
enum Folder {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Folder::Temporary(dir) => dir.path(),
            Folder::Kept(path) => path,
        }
    }
}

/// A client with every right at the controls of `layout`, the first of which keeps its state in
/// `state`, and its token.
fn client_of_all(layout: &Layout, state: &Path) -> Result<(Client, String)> {
    let token = read(&state.join("admin-token"))?.trim().to_owned();
    let apis = layout.controls.iter().map(|control| format!("https://{}", control.api));
    let client = client(apis.collect::<Vec<_>>().join(","), &token, state)?;
    Ok((client, token))
}

/// A client with every right; `api_url` is that of one control, or those of several.
fn client(api_url: String, token: &str, state: &Path) -> Result<Client> {
    let client = Client::new(&ClientConfig {
        api_url,
        token: Some(token.to_owned()),
        trust: Trust::Only(read(&state.join("ca.pem"))?.into_bytes()),
        user_agent: concat!("nigh-testkit/", env!("CARGO_PKG_VERSION")).to_owned(),
    })?;
    Ok(client.with_patience(Patience::for_each_call(Duration::from_secs(10))))
}

fn config_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("config").join(format!("{name}.toml"))
}

fn write_config(dir: &Path, name: &str, table: &Table) -> Result<()> {
    let path = config_file(dir, name);
    std::fs::write(&path, table.to_string())
        .with_context(|| format!("could not write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("control did not write {}", path.display()))
}

impl Fleet {
    /// Three edges and one DNS server, all of them `binary serve …`.
    pub async fn start(binary: impl Into<PathBuf>) -> Result<Self> {
        FleetBuilder::new(binary).start().await
    }

    /// What a fleet is to be like, beginning with three edges and one DNS server.
    pub fn builder(binary: impl Into<PathBuf>) -> FleetBuilder {
        FleetBuilder::new(binary)
    }

    /// The folder with everything that belongs to the fleet.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where control keeps its state.
    pub fn control_dir(&self) -> PathBuf {
        self.dir().join("control")
    }

    /// Where the machine `name` keeps its state.
    pub fn machine_dir(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A client with every right.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The token with every right.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Control's CA, which signed control's own certificate and those of sites.
    pub fn ca_file(&self) -> PathBuf {
        self.control_dir().join("ca.pem")
    }

    /// What `nigh` commands need to find this fleet, by the names of environment variables.
    pub fn environment(&self) -> Vec<(String, String)> {
        let ca_file = self.ca_file().to_string_lossy().into_owned();
        [
            ("NIGH_API_URL", self.client.api_url()),
            ("NIGH_TOKEN", &self.token),
            ("NIGH_CA_FILE", &ca_file),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Its database, when that is not SQLite.
    pub const fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// The address of control's listener `name`.
    pub fn control_listener(&self, name: &str) -> Result<SocketAddr> {
        let found = self.control().listeners().get(name);
        found.with_context(|| format!("control has no listener {name}"))
    }

    /// The first control.
    pub fn control(&self) -> &Process {
        &self.controls[0]
    }

    /// The first control.
    pub fn control_mut(&mut self) -> &mut Process {
        &mut self.controls[0]
    }

    /// Every control, in the order in which they were started first.
    pub fn controls(&self) -> &[Process] {
        &self.controls
    }

    pub fn controls_mut(&mut self) -> &mut [Process] {
        &mut self.controls
    }

    /// A client with every right of the control at `index` alone.
    pub fn client_of(&self, index: usize) -> Result<Client> {
        let api = self.layout.controls.get(index).context("there are not so many controls")?.api;
        client(format!("https://{api}"), &self.token, &self.control_dir())
    }

    pub fn edges(&self) -> &[Machine] {
        &self.edges
    }

    pub fn dns_servers(&self) -> &[Machine] {
        &self.dns
    }

    /// The edge called `name`, such as `fra`.
    pub fn edge(&self, name: &str) -> Result<&Machine> {
        self.edges.iter().find(|edge| edge.name == name).with_context(|| format!("no edge {name}"))
    }

    /// The edge or DNS server called `name`, to be killed, paused or started.
    pub fn machine_mut(&mut self, name: &str) -> Result<&mut Machine> {
        let mut machines = self.edges.iter_mut().chain(&mut self.dns);
        machines.find(|machine| machine.name == name).with_context(|| format!("no machine {name}"))
    }

    /// Where the first DNS server answers.
    pub fn dns_addr(&self) -> Result<SocketAddr> {
        self.dns.first().context("the fleet has no DNS server")?.addr("dns")
    }

    /// A question to the first DNS server.
    pub fn question(&self, name: &str, kind: &str) -> Result<Question> {
        Ok(Question::new(self.dns_addr()?, name, kind))
    }

    /// Somebody who visits `host` over HTTPS at the edge called `edge`.
    pub fn visitor(&self, host: &str, edge: &str) -> Result<Visitor> {
        let ca_pem = std::fs::read(self.ca_file())?;
        Visitor::https(host, self.edge(edge)?.addr("https")?, &ca_pem)
    }

    /// Kills control, takes its whole state away, and starts one that knows nothing at the same
    /// addresses. Machines know nothing of it: they need join tokens of the new one.
    pub async fn lose_control(&mut self) -> Result<()> {
        self.control_mut().kill().await?;
        let state = self.control_dir();
        std::fs::remove_dir_all(&state)
            .with_context(|| format!("could not remove {}", state.display()))?;
        self.control_mut().start().await?;
        (self.client, self.token) = client_of_all(&self.layout, &state)?;
        Ok(())
    }

    /// The file in which the machine `name` looks for its join token.
    pub fn join_token_file(&self, name: &str) -> PathBuf {
        self.dir().join("config").join(format!("{name}.join-token"))
    }

    /// Stops everything, machines first, and waits for the end.
    pub async fn stop(mut self) -> Result<()> {
        let machines = self.edges.iter_mut().chain(&mut self.dns);
        let stops: Vec<_> = machines.map(|machine| machine.process.stop()).collect();
        let results = futures_util::future::join_all(stops).await;
        for control in &mut self.controls {
            control.stop().await?;
        }
        results.into_iter().collect()
    }

    async fn start_machines(&mut self) -> Result<()> {
        self.write_machine_configs().await?;
        let machines = self.edges.iter_mut().chain(&mut self.dns);
        let starts: Vec<_> = machines.map(|machine| machine.process.start()).collect();
        for started in futures_util::future::join_all(starts).await {
            started?;
        }
        for (layout, edge) in self.layout.edges.iter_mut().zip(&self.edges) {
            layout.ops = edge.addr("ops")?;
        }
        for (layout, dns) in self.layout.dns.iter_mut().zip(&self.dns) {
            (layout.dns, layout.ops) = (dns.addr("dns")?, dns.addr("ops")?);
        }
        // Restarted machines get the addresses that they have now.
        self.write_machine_configs().await?;
        self.all_current().await
    }

    async fn write_machine_configs(&self) -> Result<()> {
        let (dir, ca_file) = (self.dir(), self.ca_file());
        let controls: Vec<_> = self.layout.controls.iter().map(|one| one.machines).collect();
        for (place, layout) in self.builder.places.iter().zip(&self.layout.edges) {
            let join_token_file = self.join_token(MachineRole::Edge, place.edge).await?;
            let mut table = config::edge(EdgeSettings {
                state_dir: &self.machine_dir(place.edge),
                place: *place,
                http: layout.http,
                https: layout.https,
                ops: layout.ops,
                upstream: Upstream {
                    machines: &controls,
                    ca_file: &ca_file,
                    join_token_file: &join_token_file,
                },
            })?;
            config::merge(&mut table, &self.builder.edge);
            write_config(dir, place.edge, &table)?;
        }
        for layout in &self.layout.dns {
            let join_token_file = self.join_token(MachineRole::Dns, &layout.name).await?;
            let upstream = Upstream {
                machines: &controls,
                ca_file: &ca_file,
                join_token_file: &join_token_file,
            };
            let (state_dir, geoip) = (self.machine_dir(&layout.name), dir.join("geoip.mmdb"));
            let addresses = (layout.dns, layout.ops);
            let mut table = config::dns(&state_dir, &layout.name, addresses, &geoip, upstream)?;
            config::merge(&mut table, &self.builder.dns_config);
            write_config(dir, &layout.name, &table)?;
        }
        Ok(())
    }

    /// The file with a join token for `name`, made when there is none yet.
    async fn join_token(&self, role: MachineRole, name: &str) -> Result<PathBuf> {
        let file = self.join_token_file(name);
        if !file.exists() {
            let token = NewJoinToken { role, name: name.parse()?, expires_ms: None };
            let created = self.client.create_join_token(&token).await?;
            std::fs::write(&file, created.token)?;
        }
        Ok(file)
    }

    /// Ends when every machine is connected and has acted on the newest revision meant for it.
    pub async fn all_current(&self) -> Result<()> {
        let expected = self.edges.len() + self.dns.len();
        let deadline = Instant::now() + JOIN_DEADLINE;
        loop {
            let machines = self.client.machines(None).await?;
            let current =
                machines.iter().filter(|machine| machine.is_connected && machine.is_current);
            if current.count() == expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let late = machines.iter().map(|machine| {
                    format!(
                        "{} (connected: {}, current: {})",
                        machine.name, machine.is_connected, machine.is_current
                    )
                });
                let late = late.collect::<Vec<_>>().join(", ");
                bail!("after {JOIN_DEADLINE:?} not all of {expected} machines are current: {late}");
            }
            tokio::time::sleep(JOIN_POLL).await;
        }
    }
}

impl Machine {
    /// The address of its listener `name`.
    pub fn addr(&self, name: &str) -> Result<SocketAddr> {
        let found = self.process.listeners().get(name);
        found.ok_or_else(|| anyhow!("{} has no listener {name}", self.process.name()))
    }
}
