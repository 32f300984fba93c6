//! An edge called `fra1` with a folder of its own.

use std::{path::PathBuf, sync::Arc};

use nigh_proto::{
    Protocols, Timestamp,
    document::Document,
    report::{JoinRequest, MachineAbout, MachineRole, Ports},
    state::{EdgeState, MachineState, Revision},
    watch::Frame,
};
use nigh_replica::{ControlConfig, Replica, ReplicaConfig};
use tokio::{sync::watch::Receiver, task::JoinHandle};

use crate::control::{Call, Calls, Control, DEADLINE, JOIN, Pipe, WATCH};

/// A folder for a machine, and where its control is.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    /// Whether the configuration names a CA file.
    pub(crate) has_ca_file: bool,
    pub(crate) url: String,
}

/// A running machine. It stops when it is dropped.
pub(crate) struct Machine {
    pub(crate) replica: Replica,
    following: JoinHandle<()>,
}

impl Home {
    /// A machine that has a join token and was never started.
    pub(crate) fn new(control: &Control) -> Self {
        let home =
            Home { dir: tempfile::tempdir().unwrap(), has_ca_file: true, url: control.url() };
        home.trust(control);
        home.write_token("nigh_join_first");
        home
    }

    pub(crate) fn trust(&self, control: &Control) {
        std::fs::write(self.path("control-ca.pem"), control.ca_pem()).unwrap();
    }

    pub(crate) fn write_token(&self, token: &str) {
        std::fs::write(self.path("token"), format!("{token}\n")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The revision in `state.json`.
    pub(crate) fn revision_on_disk(&self) -> Option<u64> {
        let bytes = std::fs::read(self.path("state.json")).ok()?;
        let state: MachineState = serde_json::from_slice(&bytes).unwrap();
        Some(state.revision().0)
    }

    pub(crate) fn start(&self) -> Machine {
        let config = ReplicaConfig {
            state_dir: self.dir.path().to_owned(),
            control: ControlConfig {
                url: self.url.parse().unwrap(),
                ca_file: self.has_ca_file.then(|| self.path("control-ca.pem")),
                join_token_file: Some(self.path("token")),
            },
            about: about(),
        };
        let now = || Timestamp::from_unix_ms(1_769_860_800_000);
        let (replica, follower) = Replica::open(config, now).unwrap();
        Machine { replica, following: tokio::spawn(follower.run()) }
    }
}

impl Machine {
    /// Waits for the state of `revision`.
    pub(crate) async fn wait_for(&self, revision: u64) -> Arc<MachineState> {
        let is_it = |state: &Option<Arc<MachineState>>| {
            state.as_ref().is_some_and(|state| state.revision().0 == revision)
        };
        within(self.replica.state(), is_it).await.unwrap()
    }

    pub(crate) async fn wait_until_connected(&self, is_connected: bool) {
        within(self.replica.connected(), |&connected| connected == is_connected).await;
    }

    pub(crate) fn revision(&self) -> Option<u64> {
        self.replica.state().borrow().as_ref().map(|state| state.revision().0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// The first value that `is_it`.
pub(crate) async fn within<T: Clone>(mut values: Receiver<T>, is_it: impl FnMut(&T) -> bool) -> T {
    let found = tokio::time::timeout(DEADLINE, values.wait_for(is_it)).await;
    found.expect("it happens in time").unwrap().clone()
}

/// A machine that has joined, the calls to its watch, and the first of them.
pub(crate) async fn joined(control: &Control) -> (Home, Machine, Calls, Call) {
    let home = Home::new(control);
    let (mut joins, mut watches) = (control.calls(JOIN), control.calls(WATCH));
    let machine = home.start();
    admit(control, joins.next().await);
    let watch = watches.next().await;
    (home, machine, watches, watch)
}

/// A machine that follows control and has the state of `revision`.
pub(crate) async fn following(control: &Control, revision: u64) -> (Home, Machine, Calls, Pipe) {
    let (home, machine, watches, watch) = joined(control).await;
    let pipe = watch.open(200, &[]);
    pipe.send(line(revision));
    machine.wait_for(revision).await;
    machine.wait_until_connected(true).await;
    (home, machine, watches, pipe)
}

/// Takes the machine into the fleet.
pub(crate) fn admit(control: &Control, join: Call) -> JoinRequest {
    let request: JoinRequest = join.json();
    let response = control.admit(&request);
    join.answer(200, serde_json::to_vec(&response).unwrap());
    request
}

pub(crate) fn about() -> MachineAbout {
    MachineAbout {
        role: MachineRole::Edge,
        name: "fra1".parse().unwrap(),
        region: Some("eu-frankfurt".parse().unwrap()),
        location: None,
        ipv4: Vec::new(),
        ipv6: Vec::new(),
        ports: Ports::default(),
        version: "0.1.0".to_owned(),
        protocols: Protocols::HERE,
    }
}

/// A line of the watch stream: the state of `revision`.
pub(crate) fn line(revision: u64) -> Vec<u8> {
    line_for("fra1", revision)
}

pub(crate) fn line_for(machine: &str, revision: u64) -> Vec<u8> {
    let state = MachineState::Edge(EdgeState {
        fleet: None,
        revision: Revision(revision),
        machine: machine.parse().unwrap(),
        region: "eu-frankfurt".parse().unwrap(),
        sites: Vec::new(),
        certificates: Vec::new(),
        candidates: Vec::new(),
        ticket_keys: Vec::new(),
        http_challenges: Vec::new(),
        peers: Vec::new(),
    });
    frame(&Frame::State { state: Document::of(&state) })
}

pub(crate) fn heartbeat(revision: u64) -> Vec<u8> {
    frame(&Frame::Heartbeat { revision: Revision(revision) })
}

pub(crate) fn frame(frame: &Frame) -> Vec<u8> {
    let mut line = serde_json::to_vec(frame).unwrap();
    line.push(b'\n');
    line
}
