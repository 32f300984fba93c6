//! A machine that does what it is told, over mutual TLS.

use std::time::Duration;

use futures_util::StreamExt as _;
use nigh_proto::{
    Digest, MachineName, Protocols, Timestamp,
    api::{JoinTokenCreated, NewJoinToken},
    report::{
        Credentials, Health, JoinRequest, JoinResponse, MachineAbout, MachineRole, Ports, Report,
        Sequel, SiteReport,
    },
    state::{DnsState, EdgeState, Location, MachineState, Revision},
    watch::{Frame, Trust},
};
use reqwest::{Response, StatusCode};

use crate::fleet::{DEADLINE, Fleet, expect};

/// A machine that has joined.
pub(crate) struct Machine {
    pub about: MachineAbout,
    pub http: reqwest::Client,
    pub url: String,
}

/// An open watch stream.
pub(crate) struct Watch {
    response: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
}

pub(crate) fn about(name: &str, role: MachineRole) -> MachineAbout {
    MachineAbout {
        role,
        name: name.parse().unwrap(),
        region: Some("eu-frankfurt".parse().unwrap()),
        location: Some(Location { latitude: 50.1, longitude: 8.7 }),
        ipv4: vec!["192.0.2.1".parse().unwrap()],
        ipv6: Vec::new(),
        ports: Ports { http: 80, https: 443, dns: 0 },
        version: "0.1.0".to_owned(),
        protocols: Protocols::HERE,
    }
}

pub(crate) async fn join_token(fleet: &Fleet, name: &str, role: MachineRole) -> String {
    let new = NewJoinToken { role, name: name.parse().unwrap(), expires_ms: None };
    let made: JoinTokenCreated =
        expect(StatusCode::CREATED, fleet.post("/v1/join-tokens", &new).await).await;
    made.token
}

/// Sends a join request; returns the answer and the key that goes with it.
pub(crate) async fn join(fleet: &Fleet, about: &MachineAbout, token: &str) -> (Response, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = JoinRequest {
        token: token.to_owned(),
        csr_pem: csr.pem().unwrap(),
        about: about.clone(),
        sent_at: None,
    };
    let url = format!("{}/machine/v1/join", fleet.machines);
    let response = fleet.http.post(url).json(&request).send().await.unwrap();
    (response, key.serialize_pem())
}

/// Connections that prove who the machine is, to a control that these CAs vouch for.
pub(crate) fn client(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> reqwest::Client {
    let identity = format!("{certificate_pem}{key_pem}");
    reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(ca_pem.as_bytes()).unwrap())
        .identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap())
        .build()
        .unwrap()
}

impl Machine {
    pub(crate) async fn join(fleet: &Fleet, name: &str, role: MachineRole) -> Self {
        let about = about(name, role);
        let token = join_token(fleet, name, role).await;
        let (response, key) = join(fleet, &about, &token).await;
        let joined: JoinResponse = expect(StatusCode::OK, response).await;
        assert_eq!(joined.ca_pem, fleet.ca_pem());
        let http = client(&joined.ca_pem, &joined.certificate_pem, &key);
        Machine { about, http, url: fleet.machines.clone() }
    }

    /// A machine, and a copy of it with connections of its own.
    pub(crate) async fn join_twice(fleet: &Fleet, name: &str, role: MachineRole) -> (Self, Self) {
        let about = about(name, role);
        let token = join_token(fleet, name, role).await;
        let (response, key) = join(fleet, &about, &token).await;
        let joined: JoinResponse = expect(StatusCode::OK, response).await;
        let one = || Machine {
            about: about.clone(),
            http: client(&joined.ca_pem, &joined.certificate_pem, &key),
            url: fleet.machines.clone(),
        };
        (one(), one())
    }

    pub(crate) fn name(&self) -> MachineName {
        self.about.name.clone()
    }

    pub(crate) async fn watch(&self, since: u64) -> Watch {
        self.open_watch(format!("{}/machine/v1/watch?since={since}", self.url)).await
    }

    /// As a machine that says this of itself.
    pub(crate) async fn watch_with(&self, query: &str) -> Watch {
        self.open_watch(format!("{}/machine/v1/watch?{query}", self.url)).await
    }

    /// As a machine that trusts the CAs whose text has this digest.
    pub(crate) async fn watch_trusting(&self, since: u64, trust: Digest) -> Watch {
        let url = format!("{}/machine/v1/watch?since={since}&trust={trust}", self.url);
        self.open_watch(url).await
    }

    async fn open_watch(&self, url: String) -> Watch {
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        Watch { response: response.bytes_stream().boxed(), buffer: Vec::new() }
    }

    /// Reports what an edge does that has everything of `state` on its disk.
    pub(crate) async fn report(&self, state: &EdgeState) {
        let sites = state.sites.iter().map(|site| SiteReport {
            site: site.name.clone(),
            staged: site.releases.iter().map(|release| release.id.clone()).collect(),
            active: site.active.clone(),
            failed: Vec::new(),
            missing_blobs: 0,
        });
        self.report_sites(state.revision, sites.collect()).await;
    }

    pub(crate) async fn report_sites(&self, revision: Revision, sites: Vec<SiteReport>) {
        let report = Report {
            about: self.about.clone(),
            revision: Some(revision),
            sites,
            certificates: Vec::new(),
            health: Health::default(),
            sent_at: Timestamp::from(std::time::SystemTime::now()),
            credentials: Credentials::default(),
            sequel: Sequel::default(),
            holding: None,
        };
        let url = format!("{}/machine/v1/report", self.url);
        let response = self.http.post(url).json(&report).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    /// Does everything at once that it is told, until the test ends.
    pub(crate) fn obey(self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let mut watch = self.watch(0).await;
            loop {
                let state = watch.edge_state().await;
                self.report(&state).await;
            }
        })
    }
}

impl Watch {
    /// The next frame; `None` when the stream has ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let piece = tokio::time::timeout(DEADLINE, self.response.next()).await.unwrap()?;
            self.buffer.extend_from_slice(&piece.ok()?);
        }
    }

    /// What control says about trust next.
    pub(crate) async fn trust(&mut self) -> Trust {
        let told = async {
            loop {
                if let Frame::Trust { trust } = self.frame().await.expect("the stream goes on") {
                    return trust;
                }
            }
        };
        tokio::time::timeout(DEADLINE, told).await.expect("control says whom to trust")
    }

    pub(crate) async fn state(&mut self) -> MachineState {
        loop {
            if let Frame::State { state } = self.frame().await.expect("the stream goes on") {
                return state.state().unwrap();
            }
        }
    }

    pub(crate) async fn edge_state(&mut self) -> EdgeState {
        match self.state().await {
            MachineState::Edge(state) => state,
            MachineState::Dns(_) => panic!("an edge was told the state of a DNS server"),
        }
    }

    pub(crate) async fn dns_state(&mut self) -> DnsState {
        match self.state().await {
            MachineState::Dns(state) => state,
            MachineState::Edge(_) => panic!("a DNS server was told the state of an edge"),
        }
    }

    /// The first state for which `is_wanted` holds.
    pub(crate) async fn edge_state_with(
        &mut self,
        mut is_wanted: impl FnMut(&EdgeState) -> bool,
    ) -> EdgeState {
        let wanted = async {
            loop {
                let state = self.edge_state().await;
                if is_wanted(&state) {
                    return state;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wanted).await.expect("the state comes")
    }
}
