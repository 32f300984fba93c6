//! A control with its client.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use nigh_control::{ADMIN_TOKEN_FILE, CA_FILE, ControlConfig, ControlServer};
use nigh_core::blob::PackBuilder;
use nigh_daemon::{Clock, Context, Role, TcpListen};
use nigh_proto::{
    Digest, Entry, Manifest,
    api::{CaView, NewRelease, Problem, ReleaseBegun, ReleaseState, ReleaseView},
    rules::RuleSet,
};
use nigh_testkit::postgres::{Database, DatabaseKind};
use reqwest::{Method, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running control and an administrator who calls it.
pub(crate) struct Fleet {
    pub dir: tempfile::TempDir,
    /// `None` when it is in the folder.
    pub database: Option<Database>,
    pub server: ControlServer,
    pub http: reqwest::Client,
    pub token: String,
    pub api: String,
    pub machines: String,
}

pub(crate) fn config(dir: PathBuf) -> ControlConfig {
    let mut config = ControlConfig::new(dir);
    let free = TcpListen::on("127.0.0.1:0".parse().unwrap());
    config.api.listen = vec![free.clone()];
    config.machines.listen = free;
    config.variants.enabled = false;
    config
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}, Clock::system()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ControlConfig), clock: Clock) -> Self {
        let database = DatabaseKind::of_tests().make().unwrap();
        Self::start_in(tempfile::tempdir().unwrap(), database, change, clock).await
    }

    pub(crate) async fn start_in(
        dir: tempfile::TempDir,
        database: Option<Database>,
        change: impl FnOnce(&mut ControlConfig),
        clock: Clock,
    ) -> Self {
        // Whoever comes first has set it; all set the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = config(dir.path().join("state"));
        config.database.url = database.as_ref().map(Database::url);
        config.secrets.key_file = database.as_ref().map(|_| dir.path().join("secret.key"));
        change(&mut config);
        let context = Context { clock, ..Context::new("control", "0.0.0") };
        let server = ControlServer::start(config, context).await.unwrap();
        let of = |name| server.listeners().into_iter().find(|(found, _)| *found == name).unwrap().1;
        let (api, machines) = (of("api"), of("machines"));
        let token = std::fs::read_to_string(dir.path().join("state").join(ADMIN_TOKEN_FILE));
        let ca = std::fs::read(dir.path().join("state").join(CA_FILE)).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Fleet {
            server,
            http,
            token: token.unwrap().trim().to_owned(),
            api: format!("https://localhost:{}", api.port()),
            machines: format!("https://localhost:{}", machines.port()),
            dir,
            database,
        }
    }

    /// Stops control and starts it again in the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Fleet { dir, database, server, .. } = self;
        server.stop().await;
        Self::start_in(dir, database, |_| {}, Clock::system()).await
    }

    pub(crate) fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state").join(CA_FILE)).unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.api)).bearer_auth(&self.token)
    }

    pub(crate) async fn get<T: DeserializeOwned + Debug>(&self, path: &str) -> T {
        expect(StatusCode::OK, self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn create_site(&self, name: &str) {
        let made = self.post("/v1/sites", &serde_json::json!({ "name": name })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
    }

    pub(crate) async fn begin(&self, site: &str, files: &[(&str, &str)]) -> ReleaseBegun {
        let response = self.post(&format!("/v1/sites/{site}/releases"), &release_of(files)).await;
        expect(StatusCode::CREATED, response).await
    }

    pub(crate) async fn upload(&self, contents: &[&str]) -> Response {
        let pack = pack_of(contents);
        self.request(Method::POST, "/v1/packs").body(pack).send().await.unwrap()
    }

    pub(crate) async fn finalize(&self, site: &str, begun: &ReleaseBegun) -> Response {
        let path = format!("/v1/sites/{site}/releases/{}/finalize", begun.release.id);
        self.post(&path, &serde_json::json!({ "activate": true })).await
    }

    /// Begins, uploads what is missing and finalizes.
    pub(crate) async fn push(&self, site: &str, files: &[(&str, &str)]) -> ReleaseView {
        let begun = self.begin(site, files).await;
        let missing: Vec<&str> = files
            .iter()
            .map(|(_, content)| *content)
            .filter(|content| begun.missing.contains(&Digest::of(content.as_bytes())))
            .collect();
        if !missing.is_empty() {
            assert_eq!(self.upload(&missing).await.status(), StatusCode::OK);
        }
        expect(StatusCode::ACCEPTED, self.finalize(site, &begun).await).await
    }

    /// Follows a release by long polls until `is_reached`.
    pub(crate) async fn follow(
        &self,
        release: &ReleaseView,
        is_reached: impl Fn(&ReleaseView) -> bool,
    ) -> ReleaseView {
        let mut view = release.clone();
        let reached = async {
            while !is_reached(&view) {
                let path = format!(
                    "/v1/sites/{}/releases/{}?after={}&wait_ms=10000",
                    view.site, view.id, view.progress
                );
                view = self.get(&path).await;
            }
            view
        };
        tokio::time::timeout(DEADLINE, reached).await.expect("the release gets there")
    }

    /// Control's CAs as soon as they are as wanted.
    pub(crate) async fn ca_when(&self, is_it: impl Fn(&CaView) -> bool) -> CaView {
        let mut ca: CaView = self.get("/v1/ca").await;
        let deadline = tokio::time::Instant::now() + 2 * DEADLINE;
        while !is_it(&ca) {
            assert!(tokio::time::Instant::now() < deadline, "{ca:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            ca = self.get("/v1/ca").await;
        }
        ca
    }

    /// Ends when the CA file is this: the listeners have gone over before it.
    pub(crate) async fn until_ca_file_has(&self, bundle: &str) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while self.ca_pem() != bundle {
            assert!(tokio::time::Instant::now() < deadline, "{}", self.ca_pem());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_active(&self, release: &ReleaseView) -> ReleaseView {
        self.follow(release, |view| view.state == ReleaseState::Active).await
    }
}

pub(crate) fn release_of(files: &[(&str, &str)]) -> NewRelease {
    let entries = files.iter().map(|(path, content)| Entry {
        path: path.parse().unwrap(),
        digest: Digest::of(content.as_bytes()),
        size_bytes: content.len() as u64,
        content_type: None,
    });
    NewRelease {
        manifest: Manifest::new(entries.collect()).unwrap().encode(),
        rules: RuleSet::default(),
        message: None,
        source: None,
        preview: None,
    }
}

pub(crate) fn pack_of(contents: &[&str]) -> Vec<u8> {
    let mut pack = PackBuilder::new(3);
    for content in contents {
        pack.push(Digest::of(content.as_bytes()), content.as_bytes()).unwrap();
    }
    pack.finish()
}

/// The body of an answer that must have this status.
pub(crate) async fn expect<T: DeserializeOwned>(status: StatusCode, response: Response) -> T {
    let got = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The code of a problem that must have this status, with a request id and a detail.
pub(crate) async fn refused(status: StatusCode, response: Response) -> String {
    let media_type = response.headers()["content-type"].clone();
    let problem: Problem = expect(status, response).await;
    assert_eq!(media_type, "application/problem+json");
    assert!(problem.request_id.is_some() && !problem.detail.is_empty(), "{problem:?}");
    problem.code
}
