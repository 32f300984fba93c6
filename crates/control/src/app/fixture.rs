//! A control without listeners, for tests.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nigh_bucket::server::Server;
use nigh_daemon::{Clock, Metrics, clock::Hand};
use nigh_proto::{
    Digest, Entry, MachineId, Manifest, SiteName, Timestamp, TokenId,
    access::{Scope, Verbs},
    api::{NewPreview, NewRelease, NewSite, ReleaseView},
    rules::RuleSet,
};
use nigh_testkit::postgres::{Database, DatabaseKind};
use tokio_util::sync::CancellationToken;

use super::{App, Begun, Effective, Expected, Parts};
use crate::{
    blobs::{Blobs, Remote},
    config::ControlConfig,
    controls::{Campaign, Leader},
    fleet::fixture::machine,
    metrics::ControlMetrics,
    seal::Seal,
    store::{MachineRow, Store, TokenRow},
};

/// A control and the hand of its clock.
pub(crate) struct Fixture {
    pub app: App,
    pub hand: Hand,
    pub dir: tempfile::TempDir,
    clock: Clock,
    s3: Option<(Server, tempfile::TempDir)>,
    /// `None` when it was let go of.
    pub campaign: Option<Campaign>,
    /// Removed with the rest, unless it is in `dir`.
    pub database: Option<Database>,
}

pub(crate) fn docs() -> SiteName {
    "docs".parse().unwrap()
}

impl Fixture {
    /// With the site `docs` and no machine.
    pub(crate) async fn new() -> Self {
        let fixture = Self::with(DatabaseKind::of_tests().make().unwrap(), None).await;
        fixture.app.create_site(NewSite { name: docs(), hosts: Vec::new() }).await.unwrap();
        fixture
    }

    /// The same with a bucket on a server of its own.
    pub(crate) async fn with_bucket() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path()).await.unwrap();
        let database = DatabaseKind::of_tests().make().unwrap();
        let fixture = Self::with(database, Some((server, dir))).await;
        fixture.app.create_site(NewSite { name: docs(), hosts: Vec::new() }).await.unwrap();
        fixture
    }

    /// On a database that may have a control already, with what is there.
    pub(crate) async fn on(database: Option<Database>) -> Self {
        Self::with(database, None).await
    }

    async fn with(database: Option<Database>, s3: Option<(Server, tempfile::TempDir)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual(SystemTime::now());
        let url = database.as_ref().map(Database::url);
        let seal = |_| Ok(Seal::new([7; 32]));
        let store = Store::open(url.as_deref(), &dir.path().join("control.db"), seal).await;
        let store = store.unwrap();
        let (leader, campaign) = Leader::of(&store, false).await.unwrap();
        let mut blobs = Blobs::open(&dir.path().join("blobs"), None).await.unwrap();
        if let Some((server, _)) = &s3 {
            let remote = open_remote(server, &blobs, &store, &clock).await;
            blobs = blobs.with_remote(remote);
        }
        let parts = Parts {
            effective: Effective::new(ControlConfig::new(dir.path().into())).unwrap(),
            leader,
            blobs,
            authorities: super::load_or_make(&store, clock.now().into()).await.unwrap(),
            store,
            clock: clock.clone(),
            metrics: ControlMetrics::register(&Metrics::new("control", "0.0.0")),
            version: "0.0.0",
            webhook_tls: crate::webhooks::client_config(None).unwrap(),
            stopping: CancellationToken::new(),
        };
        let app = App::start(parts).await.unwrap();
        Fixture { app, hand, dir, clock, s3, database, campaign: Some(campaign) }
    }

    /// The server with the bucket.
    pub(crate) fn s3(&self) -> &Server {
        &self.s3.as_ref().unwrap().0
    }

    /// The bucket behind another folder, as another control has it.
    pub(crate) async fn remote_for(&self, blobs: &Blobs) -> Arc<Remote> {
        open_remote(self.s3(), blobs, self.app.store(), &self.clock).await
    }

    /// A token that may do everything.
    pub(crate) fn almighty() -> TokenRow {
        TokenRow {
            id: TokenId::new(1, [1; 10]),
            hash: [0; 32],
            name: "almighty".to_owned(),
            scope: Some(Scope::Admin),
            more: Verbs::NONE,
            sites: Vec::new(),
            created_at: Timestamp::default(),
            expires_at: None,
            last_used_at: None,
        }
    }

    /// Pushes one page and finalizes; nobody has let it go live yet.
    pub(crate) async fn push(&self, page: &str) -> ReleaseView {
        self.push_to(page, None).await
    }

    /// Pushes one page and finalizes, to a host of its own if so asked.
    pub(crate) async fn push_to(&self, page: &str, preview: Option<NewPreview>) -> ReleaseView {
        let entry = Entry {
            path: "index.html".parse().unwrap(),
            digest: Digest::of(page.as_bytes()),
            size_bytes: page.len() as u64,
            content_type: None,
        };
        let new = NewRelease {
            manifest: Manifest::new(vec![entry]).unwrap().encode(),
            rules: RuleSet::default(),
            message: None,
            source: None,
            preview,
        };
        let begun = self.app.begin_release(&docs(), new, "test").await.unwrap();
        let Begun::New(begun) = begun else { panic!("this page is live already") };
        self.app.blobs().insert_documents(vec![page.as_bytes().to_vec()]).await.unwrap();
        let id = begun.release.id.as_str();
        let row = self.app.require_release(&docs(), id).await.unwrap();
        self.app.finalize(&docs(), &row, true, &Expected::Anything).await.unwrap()
    }

    /// Commits that an edge has joined, and publishes nothing.
    pub(crate) async fn commit_join(&self, name: &str) -> MachineRow {
        let row = MachineRow { id: MachineId::new(1, crate::random::random()), ..machine(name) };
        let mut tx = self.app.store().begin().await.unwrap();
        tx.put_machine(&row).await.unwrap();
        tx.lag_everywhere(&row.name).await.unwrap();
        tx.raise_revision().await.unwrap();
        tx.commit().await.unwrap();
        row
    }
}

async fn open_remote(server: &Server, blobs: &Blobs, store: &Store, clock: &Clock) -> Arc<Remote> {
    let (config, expires) = (server.config(), Duration::from_secs(60));
    Remote::open(&config, expires, store.clone(), blobs, clock.clone()).await.unwrap()
}
