//! How does control start, reload and stop?

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nigh_core::blob;
use nigh_daemon::{BindError, Context, Role};
use nigh_durable::{LockError, StateDir};
use nigh_proto::{
    Timestamp, TokenId,
    access::{Scope, Verbs},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
};

use crate::{
    api,
    app::{App, AppError, Effective, Parts, Secret, load_or_make},
    blobs::{Blobs, Remote, RemoteError, blocking},
    config::{ControlConfig, InvalidConfig},
    controls::{Campaign, Colleagues, Leader},
    machines,
    metrics::ControlMetrics,
    random::random,
    reconcile::{
        self, Reconcile,
        acme::Acme,
        books::Books,
        cache::Cache,
        collection::Collection,
        events::Events,
        expiry::Expiry,
        health::Health,
        own::{Own, OwnError},
        progress::Progress,
        proving::Proving,
        refill::Refill,
        renewal::Renewal,
        rotation::Rotation,
        scrub::Scrub,
        tickets::Tickets,
        webhooks::Webhooks,
    },
    request::Actor,
    seal::{KeyFileError, Seal},
    serve::{FIRST_REQUEST_TIMEOUT, Service, accept},
    store::{self, Deed, Store, StoreError, TokenRow},
    variants,
    webhooks::{self, TrustError},
};

/// Where the secret of the first token is written.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
/// Where control's CA is written, for clients and machines to trust.
pub const CA_FILE: &str = "ca.pem";

/// Where the key that opens the database's secrets is, unless the configuration says otherwise.
pub const KEY_FILE: &str = "secret.key";

/// Why control did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration cannot work")]
    Config(#[from] InvalidConfig),
    #[error("the state directory cannot be used")]
    State(#[from] LockError),
    #[error(transparent)]
    Database(#[from] store::OpenError),
    #[error("the database cannot be read")]
    Store(#[from] StoreError),
    #[error("the blob store cannot be opened")]
    Blobs(#[from] blob::OpenError),
    #[error("webhooks cannot be called")]
    Webhooks(#[from] TrustError),
    #[error("the bucket cannot be used")]
    Bucket(#[from] RemoteError),
    #[error(
        "{missing} blobs are only in the bucket; name it in blobs.bucket again, set blobs.mirror and wait until status says that the folder has all"
    )]
    BucketLeft { missing: usize },
    #[error("control's own certificates cannot be made")]
    Own(#[from] OwnError),
    #[error("there is no database {file}; is this the configuration of a control that has run?", file = file.display())]
    NoDatabase { file: PathBuf },
    #[error("{file} cannot be written", file = file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("a listener has no address")]
    Address(#[source] io::Error),
    #[error("control could not take up its work")]
    App(#[from] AppError),
}

/// A running control. Dropping it leaves its tasks to its context; [`stop`](Role::stop) waits for
/// requests in flight.
#[derive(Debug)]
pub struct ControlServer {
    app: App,
    context: Context,
    listeners: Vec<(&'static str, SocketAddr)>,
    /// Held so that two controls never work in one folder.
    _state: StateDir,
}

impl Role for ControlServer {
    const NAME: &'static str = "control";

    type Config = ControlConfig;
    type Error = StartError;

    async fn start(config: ControlConfig, context: Context) -> Result<Self, StartError> {
        let effective = Effective::new(config)?;
        let config = effective.config.clone();
        let dir = config.state_dir.clone();
        let state = blocking(move || StateDir::lock(&dir)).await?;
        // Bound before the slow part, so that clients queue while the blobs are opened.
        let apis = config.api.listen.iter().map(|listen| context.sockets.tcp("api", listen));
        let apis = apis.collect::<Result<Vec<_>, _>>()?;
        let machine_port = context.sockets.tcp("machines", &config.machines.listen)?;
        let (app, campaign) = open(effective, &context).await?;
        let own = Own::new(app.clone(), config.state_dir.join(CA_FILE))?;

        let mut listeners = Vec::new();
        let api = Service {
            name: "api",
            tls: Arc::clone(&own.api),
            router: api::router(app.clone()),
            places: Arc::new(Semaphore::new(config.api.connections_max)),
            first_request_timeout: FIRST_REQUEST_TIMEOUT,
            judge: None,
            sent: app.metrics().sent_by("api"),
        };
        for listener in apis {
            listeners.push(serve(listener, api.clone(), &context)?);
        }
        let machines = Service {
            name: "machines",
            tls: Arc::clone(&own.machines),
            router: machines::router(app.clone()),
            places: Arc::new(Semaphore::new(config.machines.connections_max)),
            first_request_timeout: FIRST_REQUEST_TIMEOUT,
            judge: Some(app.clone()),
            sent: app.metrics().sent_by("machines"),
        };
        listeners.push(serve(machine_port, machines, &context)?);
        let colleagues = Colleagues::meet(app.clone()).await?;
        act_as_one(&app, &context, campaign, colleagues);
        reconcile_all(&app, &context, own);
        Ok(Self { app, context, listeners, _state: state })
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        self.listeners.clone()
    }

    /// Takes everything but listeners, the state directory and the number of threads.
    async fn reload(&mut self, config: ControlConfig) -> Result<(), StartError> {
        if config.blobs.remote() != self.app.effective().config.blobs.remote() {
            tracing::warn!("another bucket is used only after a restart");
        }
        self.app.reload(Effective::new(config)?).await?;
        Ok(())
    }

    async fn stop(self) {
        self.context.tasks.stop(self.context.grace).await;
        if let Err(error) = self.app.write_down_access().await {
            tracing::warn!(%error, "who used their tokens last was not written down");
        }
        self.app.store().close().await;
    }
}

/// Opens everything that control remembers; makes it on the first start.
async fn open(effective: Effective, context: &Context) -> Result<(App, Campaign), StartError> {
    let config = &effective.config;
    let dir = config.state_dir.clone();
    let database = dir.join("control.db");
    let seal = |is_new| open_seal(config, is_new);
    let store = Store::open(config.database.url.as_deref(), &database, seal).await?;
    let blobs = open_blobs(config, &store, context).await?;
    let now = context.clock.now().into();
    let authorities = load_or_make(&store, now).await?;
    write(&dir, CA_FILE, authorities.bundle_pem(), nigh_durable::write).await?;
    if store.has_no_tokens().await? {
        create_admin(&store, &dir, now).await?;
    }
    let webhook_tls = webhooks::client_config(effective.config.webhooks.ca_file.as_deref())?;
    let (leader, campaign) = Leader::of(&store, is_alone(config)).await?;
    let parts = Parts {
        effective,
        store,
        leader,
        blobs,
        authorities,
        clock: context.clock.clone(),
        metrics: ControlMetrics::register(&context.metrics),
        version: env!("CARGO_PKG_VERSION"),
        webhook_tls,
        stopping: context.tasks.stopping().clone(),
    };
    Ok((App::start(parts).await?, campaign))
}

/// The tasks by which several controls are one to people and machines.
fn act_as_one(app: &App, context: &Context, campaign: Campaign, colleagues: Colleagues) {
    let stop = context.tasks.stopping();
    let leading = campaign.run(app.store().clone(), stop.clone());
    context.tasks.spawn_vital("leader", leading);
    context.tasks.spawn_vital("colleagues", colleagues.run(stop.clone()));
}

/// Whether no other control can work beside this one: it could not read this one's blobs.
const fn is_alone(config: &ControlConfig) -> bool {
    config.blobs.bucket.is_none()
}

/// The key of the database's secrets, made only for a new database.
pub(crate) fn open_seal(config: &ControlConfig, is_new: bool) -> Result<Seal, KeyFileError> {
    let own = config.state_dir.join(KEY_FILE);
    Seal::open(config.secrets.key_file.as_ref().unwrap_or(&own), is_new)
}

/// The folder, and the bucket behind it when there is one.
async fn open_blobs(
    config: &ControlConfig,
    store: &Store,
    context: &Context,
) -> Result<Blobs, StartError> {
    let dir = config.state_dir.join("blobs");
    let blobs = Blobs::open(&dir, config.blobs.reserve_bytes).await?;
    let Some(bucket) = config.blobs.remote() else {
        leave_bucket(store, &blobs).await?;
        return Ok(blobs);
    };
    let expires = Duration::from_millis(config.blobs.url_expires_ms);
    let clock = context.clock.clone();
    let remote = Remote::open(&bucket, expires, store.clone(), &blobs, clock).await?;
    Ok(blobs.with_remote(remote))
}

/// No bucket is named any more: that is well when the folder has everything.
async fn leave_bucket(store: &Store, blobs: &Blobs) -> Result<(), StartError> {
    let digests = store.bucket_digests().await?;
    let folder = blobs.store().clone();
    let missing =
        blocking(move || digests.iter().filter(|one| !folder.contains(one)).count()).await;
    if missing > 0 {
        return Err(StartError::BucketLeft { missing });
    }
    if store.bucket_fleet().await?.is_some() {
        let mut tx = store.begin().await?;
        tx.leave_bucket().await?;
        tx.commit().await?;
        tracing::info!("the folder has every blob; the bucket is no longer needed");
    }
    Ok(())
}

/// Writes the secret before the token exists: a crash between the two only writes another one.
async fn create_admin(store: &Store, dir: &Path, now: Timestamp) -> Result<(), StartError> {
    let secret = Secret::person();
    write(dir, ADMIN_TOKEN_FILE, format!("{}\n", secret.reveal()), nigh_durable::write_secret)
        .await?;
    let row = TokenRow {
        id: TokenId::new(now.unix_ms().max(0).unsigned_abs(), random()),
        hash: secret.hash(),
        name: "admin".to_owned(),
        scope: Some(Scope::Admin),
        more: Verbs::NONE,
        sites: Vec::new(),
        created_at: now,
        expires_at: None,
        last_used_at: None,
    };
    let mut tx = store.begin().await?;
    tx.insert_token(&row).await?;
    let deed = Deed::new("token.create", &row.id)
        .detail("name", &row.name)
        .detail("file", ADMIN_TOKEN_FILE);
    tx.audit_by(Actor::control(), now, deed).await?;
    tx.commit().await?;
    let file = dir.join(ADMIN_TOKEN_FILE);
    tracing::info!("the first admin token is in {}", file.display());
    Ok(())
}

async fn write(
    dir: &Path,
    name: &str,
    text: String,
    write: fn(&Path, &[u8]) -> io::Result<()>,
) -> Result<(), StartError> {
    let file = dir.join(name);
    let path = file.clone();
    blocking(move || write(&path, text.as_bytes()))
        .await
        .map_err(|source| StartError::File { file, source })
}

fn serve(
    listener: TcpListener,
    service: Service,
    context: &Context,
) -> Result<(&'static str, SocketAddr), StartError> {
    let address = listener.local_addr().map_err(StartError::Address)?;
    let name = service.name;
    let tasks = context.tasks.clone();
    context.tasks.spawn_vital(name, accept(listener, service, tasks));
    Ok((name, address))
}

/// Every pass, each in a task of its own.
fn reconcile_all(app: &App, context: &Context, own: Own) {
    let database = context.readiness.condition("database", "not written yet");
    let disk = context.readiness.condition("blobs", "not written yet");
    let stop = context.tasks.stopping();
    let webhooks = app.clone();
    let stop_webhooks = stop.clone();
    context.tasks.spawn(Webhooks::NAME, async move {
        let task = Webhooks::new(webhooks.clone());
        reconcile::run(task, webhooks.webhooks_due(), stop_webhooks).await;
    });
    let progress = app.clone();
    let stop_progress = stop.clone();
    context.tasks.spawn_vital("progress", async move {
        let task = Progress::new(progress.clone());
        reconcile::run(task, progress.reported(), stop_progress).await;
    });
    let (acme, stop_acme) = (app.clone(), stop.clone());
    context.tasks.spawn(Acme::NAME, async move {
        reconcile::run(Acme::new(acme.clone()), acme.certifying(), stop_acme).await;
    });
    let (proving, stop_proving) = (app.clone(), stop.clone());
    context.tasks.spawn(Proving::NAME, async move {
        reconcile::run(Proving(proving.clone()), proving.proving(), stop_proving).await;
    });
    spawn(context, Tickets(app.clone()));
    spawn(context, Health { app: app.clone(), database, disk });
    spawn(context, Events(app.clone()));
    spawn(context, Expiry(app.clone()));
    spawn(context, Books(app.clone()));
    spawn_woken(context, app, own, App::trust_changed);
    spawn_woken(context, app, Rotation(app.clone()), App::rotating);
    spawn_woken(context, app, Renewal(app.clone()), App::renewing);
    spawn(context, Collection::new(app.clone()));
    spawn(context, Scrub::new(app.clone()));
    let (refill, stop_refill) = (app.clone(), stop.clone());
    context.tasks.spawn("refill", async move {
        reconcile::run(Refill::new(refill.clone()), refill.refilled(), stop_refill).await;
    });
    if app.blobs().remote().is_some() {
        let bucket = context.readiness.condition("bucket", "not asked yet");
        spawn(context, Cache::new(app.clone(), bucket));
    }
    let config = app.effective().config.variants;
    if config.enabled {
        spawn(context, variants::Variants::new(app.clone(), config.threads));
    }
}

/// A pass that something of the app wakes.
fn spawn_woken<T: Reconcile>(context: &Context, app: &App, task: T, by: fn(&App) -> &Notify) {
    let (app, stop) = (app.clone(), context.tasks.stopping().clone());
    context.tasks.spawn(T::NAME, async move { reconcile::run(task, by(&app), stop).await });
}

/// A pass that runs by the clock alone.
fn spawn<T: Reconcile>(context: &Context, task: T) {
    let stop = context.tasks.stopping().clone();
    context.tasks.spawn(T::NAME, async move { reconcile::run(task, &Notify::new(), stop).await });
}
