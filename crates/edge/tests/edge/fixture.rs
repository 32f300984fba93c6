//! An edge with a folder of its own, and what control would have put there.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use nigh_core::{
    blob::{PackBuilder, Store},
    http::etag::ETag,
};
use nigh_daemon::{Context, Role};
use nigh_edge::{BlobSource, EdgeConfig, EdgeServer, Fetching};
use nigh_proto::{
    Digest, Entry, Manifest, ReleaseId, Timestamp,
    pack::PackHead,
    rules::{HeaderBlock, RuleSet},
    state::{
        Certificate, EdgeState, MachineState, PreviewRef, ReleasePurpose, ReleaseRef, Revision,
        SiteState,
    },
    variants::{ContentCoding, Variant, VariantIndex},
};
use nigh_replica::{ByteStream, FetchError};
use tempfile::TempDir;

use crate::wire::{Reply, ask};

pub(crate) const HOST: &str = "docs.nigh.test";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Every blob that control would have.
#[derive(Clone, Default)]
pub(crate) struct Blobs(pub Arc<Mutex<HashMap<Digest, Vec<u8>>>>);

impl Blobs {
    pub(crate) fn add(&self, bytes: impl Into<Vec<u8>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.0.lock().unwrap().insert(digest, bytes);
        digest
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(digest).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

fn stream(bytes: Vec<u8>) -> ByteStream {
    let pieces: Vec<io::Result<Bytes>> =
        bytes.chunks(9_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    ByteStream::new(futures_util::stream::iter(pieces))
}

impl BlobSource for Blobs {
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a> {
        Box::pin(async move {
            let mut pack = PackBuilder::new(3).with_limits(PackHead::MAX_BODIES_BYTES, 65_536);
            for digest in digests {
                if let Some(bytes) = self.get(digest) {
                    pack.push(*digest, &bytes).unwrap();
                }
            }
            Ok(stream(pack.finish()))
        })
    }

    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a> {
        Box::pin(async move {
            let bytes = self.get(digest).ok_or(FetchError::Unknown { digest: *digest })?;
            Ok(stream(bytes[offset as usize..].to_vec()))
        })
    }
}

/// A release as a test describes it.
pub(crate) struct Release {
    pub(crate) id: ReleaseId,
    files: Vec<(String, Vec<u8>)>,
    rules: RuleSet,
    variants: Vec<(String, ContentCoding, Vec<u8>)>,
}

impl Release {
    pub(crate) fn new(number: u64) -> Self {
        let id = ReleaseId::new(1_769_860_800_000 + number, [number as u8; 10]);
        Release { id, files: Vec::new(), rules: RuleSet::default(), variants: Vec::new() }
    }

    pub(crate) fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), bytes.into()));
        self
    }

    pub(crate) fn header(mut self, path: &str, name: &str, value: &str) -> Self {
        let set = vec![(name.to_owned(), value.to_owned())];
        self.rules.headers.push(HeaderBlock {
            path: path.to_owned(),
            set,
            ..HeaderBlock::default()
        });
        self
    }

    pub(crate) fn variant(mut self, path: &str, coding: ContentCoding, bytes: &[u8]) -> Self {
        self.variants.push((path.to_owned(), coding, bytes.to_vec()));
        self
    }

    /// Adds all of its blobs to `blobs`.
    pub(crate) fn reference(&self, blobs: &Blobs, purpose: ReleasePurpose) -> ReleaseRef {
        let entries = self.files.iter().map(|(path, bytes)| Entry {
            path: path.parse().unwrap(),
            digest: blobs.add(bytes.clone()),
            size_bytes: bytes.len() as u64,
            content_type: None,
        });
        let manifest = Manifest::new(entries.collect()).unwrap().encode();
        let variants = self.variants.iter().map(|(path, coding, bytes)| {
            let raw = &self.files.iter().find(|(known, _)| known == path).unwrap().1;
            Variant {
                of: Digest::of(raw),
                coding: *coding,
                digest: blobs.add(bytes.clone()),
                size_bytes: bytes.len() as u64,
            }
        });
        let variants = VariantIndex::new(variants.collect());
        ReleaseRef {
            id: self.id.clone(),
            manifest: blobs.add(manifest),
            rules: blobs.add(self.rules.encode()),
            variants: (!variants.variants().is_empty()).then(|| blobs.add(variants.encode())),
            created_at: Timestamp::from_unix_ms(1_769_860_800_000),
            purpose,
        }
    }
}

/// A folder and a state, before and between lives of an edge.
pub(crate) struct Fixture {
    pub(crate) dir: Arc<TempDir>,
    pub(crate) blobs: Blobs,
    pub(crate) state: EdgeState,
    pub(crate) limits: serde_json::Value,
    pub(crate) more: serde_json::Value,
}

/// A running edge.
pub(crate) struct Running {
    pub(crate) server: EdgeServer,
    pub(crate) context: Context,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// Outlives the edge.
    pub(crate) _dir: Arc<TempDir>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Fixture {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            blobs: Blobs::default(),
            state: EdgeState {
                fleet: None,
                revision: Revision(1),
                machine: "fra1".parse().unwrap(),
                region: "eu-frankfurt".parse().unwrap(),
                sites: vec![SiteState {
                    name: "docs".parse().unwrap(),
                    hosts: vec![HOST.parse().unwrap()],
                    https_redirect: false,
                    releases: Vec::new(),
                    active: None,
                    previews: Vec::new(),
                }],
                certificates: Vec::new(),
                candidates: Vec::new(),
                ticket_keys: Vec::new(),
                http_challenges: Vec::new(),
                peers: Vec::new(),
            },
            limits: serde_json::json!({}),
            more: serde_json::json!({}),
        }
    }

    /// A fixture whose site serves `release`.
    pub(crate) fn serving(release: Release) -> Self {
        let mut fixture = Self::new();
        fixture.activate(&release);
        fixture
    }

    /// Puts `release` first and makes it the active one.
    pub(crate) fn activate(&mut self, release: &Release) {
        self.list(release, ReleasePurpose::Serve);
        self.site().active = Some(release.id.clone());
    }

    pub(crate) fn list(&mut self, release: &Release, purpose: ReleasePurpose) {
        let reference = release.reference(&self.blobs, purpose);
        self.site().releases.insert(0, reference);
        self.state.revision.0 += 1;
    }

    /// The active release becomes one in its grace period.
    pub(crate) fn supersede(&mut self, until: Timestamp) {
        for release in &mut self.site().releases {
            release.purpose = ReleasePurpose::Grace { until };
        }
    }

    pub(crate) fn preview(&mut self, host: &str, release: &Release, expires_at: Option<Timestamp>) {
        self.list(release, ReleasePurpose::Serve);
        let release = release.id.clone();
        self.site().previews.push(PreviewRef { host: host.parse().unwrap(), release, expires_at });
    }

    pub(crate) fn site(&mut self) -> &mut SiteState {
        &mut self.state.sites[0]
    }

    /// A certificate for `names`; what clients have to trust is the certificate itself.
    pub(crate) fn certificate(&mut self, names: &[&str]) -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let sans: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::CertificateParams::new(sans).unwrap().self_signed(&key).unwrap();
        self.state.certificates.push(Certificate {
            id: format!("site:{}", names[0]),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            chain_pem: made.pem(),
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_unix_ms(4_000_000_000_000),
        });
        made
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("edge")
    }

    fn config(&self) -> EdgeConfig {
        let mut config = serde_json::json!({
            "state_dir": self.state_dir(),
            "name": "fra1",
            "region": "eu-frankfurt",
            "latitude": 50.1,
            "longitude": 8.7,
            "control": { "url": "https://127.0.0.1:1" },
            "http": { "listen": ["127.0.0.1:0"] },
            "https": { "listen": ["127.0.0.1:0"] },
            "limits": self.limits,
        });
        for (key, value) in self.more.as_object().unwrap() {
            config[key] = value.clone();
        }
        serde_json::from_value(config).unwrap()
    }

    /// Puts state and blobs where an edge finds them.
    pub(crate) fn write(&self) {
        self.write_state();
        let store = Store::open(&self.state_dir().join("blobs")).unwrap();
        store.insert_many(&self.blobs.all()).unwrap();
    }

    pub(crate) fn write_state(&self) {
        std::fs::create_dir_all(self.state_dir()).unwrap();
        let state = MachineState::Edge(self.state.clone());
        let text = serde_json::to_vec(&state).unwrap();
        std::fs::write(self.state_dir().join("state.json"), text).unwrap();
    }

    /// Starts an edge on what is on disk. Its source has `blobs`.
    pub(crate) async fn start_with(&self, blobs: Blobs, context: Context) -> Running {
        let config = self.config();
        let kept = context.clone();
        let server = EdgeServer::start_with(config, context, |_| Arc::new(blobs)).await.unwrap();
        let address = |kind| {
            let listeners = server.listeners();
            listeners.into_iter().find(|(name, _)| *name == kind).unwrap().1
        };
        let (http, https) = (address("http"), address("https"));
        Running { server, context: kept, http, https, _dir: Arc::clone(&self.dir) }
    }

    pub(crate) fn config_for_tests(&self) -> EdgeConfig {
        self.config()
    }

    /// Like [`start`](Self::start), with the folder kept beside the edge.
    pub(crate) async fn start_owned(self) -> (Self, Running) {
        let running = self.start().await;
        (self, running)
    }

    /// Everything on disk, nobody to ask for more.
    pub(crate) async fn start(&self) -> Running {
        self.write();
        self.start_with(Blobs::default(), context()).await
    }
}

pub(crate) fn context() -> Context {
    Context { grace: Duration::from_secs(2), ..Context::new("edge", "1.2.3") }
}

impl Running {
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {HOST}\r\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        ask(self.http, format!("{text}\r\n").as_bytes()).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn get_until(&self, path: &str, is_wanted: impl Fn(&Reply) -> bool) -> Reply {
        let end = Instant::now() + DEADLINE;
        loop {
            let reply = self.get(path, &[]).await;
            if is_wanted(&reply) {
                return reply;
            }
            assert!(Instant::now() < end, "{path} never was as wanted: {reply:?}");
        }
    }

    /// Waits until the metrics contain `line`.
    pub(crate) async fn metric(&self, line: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let page = self.context.metrics.encode().unwrap();
            if page.contains(line) {
                return;
            }
            assert!(Instant::now() < end, "{line} is not in {page}");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

pub(crate) fn etag(bytes: &[u8]) -> String {
    String::from_utf8(ETag::new(&Digest::of(bytes), None).as_bytes().to_vec()).unwrap()
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(next).collect()
}
