//! A real S3 server for tests, in their own process: it checks signatures, keeps objects in a folder
//! and can be told to misbehave.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{
    Body,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::BucketConfig;

/// The credentials that it takes.
pub const ACCESS_KEY: &str = "nigh-test-key";
pub const SECRET_KEY: &str = "nigh-test-secret";
/// The bucket that it has.
pub const BUCKET: &str = "nigh-blobs";

/// How the server misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// 503 `SlowDown`.
    SlowDown,
    /// 500 `InternalError`.
    Internal,
    /// 403 `AccessDenied`.
    Denied,
    /// 403 `RequestTimeTooSkewed`.
    Clock,
    /// Connections are closed without an answer.
    Gone,
    /// Every answer waits for so long.
    Slow(Duration),
    /// Puts and parts fail with 500; everything else works.
    NoPuts,
    /// URLs that were given to others are refused with 403; everything else works.
    NoUrls,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    root: PathBuf,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The fault, and how many more requests it is for.
    fault: Mutex<(Fault, u64)>,
    requests: AtomicU64,
    gets: AtomicU64,
    puts: AtomicU64,
}

impl Server {
    /// Starts a server that keeps [`BUCKET`] in `root`.
    pub async fn start(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join(BUCKET))?;
        let keys = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n\
             [wrong]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = another\n"
        );
        fs::write(root.join("credentials"), keys)?;
        let files =
            FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let task = tokio::spawn(accept(listener, service, Arc::clone(&state)));
        Ok(Self { address, root: root.to_owned(), state, task })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder with the bucket's objects.
    pub fn objects(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// A file with the credentials that it takes.
    pub fn credentials_file(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// How to reach the bucket.
    pub fn config(&self) -> BucketConfig {
        BucketConfig {
            endpoint: Some(self.endpoint()),
            path_style: true,
            credentials_file: Some(self.credentials_file()),
            ..BucketConfig::new(BUCKET)
        }
    }

    /// Misbehaves until told otherwise.
    pub fn set_fault(&self, fault: Fault) {
        self.fail(fault, u64::MAX);
    }

    /// Misbehaves for so many requests.
    pub fn fail(&self, fault: Fault, requests: u64) {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = (fault, requests);
    }

    /// How many requests came in.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// How many of them were for objects' bytes.
    pub fn gets(&self) -> u64 {
        self.state.gets.load(Ordering::Relaxed)
    }

    /// How many of them brought bytes.
    pub fn puts(&self) -> u64 {
        self.state.puts.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn next_fault(&self, method: &http::Method) -> Fault {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match *method {
            http::Method::GET => _ = self.gets.fetch_add(1, Ordering::Relaxed),
            http::Method::PUT => _ = self.puts.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.1 == 0 {
            return Fault::None;
        }
        if fault.1 != u64::MAX {
            fault.1 -= 1;
        }
        fault.0
    }
}

async fn accept(listener: TcpListener, service: S3Service, state: Arc<State>) {
    // Connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (service, state) = (service.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let serve =
                service_fn(move |request| answer(request, service.clone(), Arc::clone(&state)));
            let connection = auto::Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(stream), serve).await;
        });
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    service: S3Service,
    state: Arc<State>,
) -> io::Result<http::Response<Body>> {
    let is_put = request.method() == http::Method::PUT;
    let refuse = |status: u16, code: &str| {
        let text = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
        );
        let response = http::Response::builder().status(status);
        response.body(Body::from(text)).map_err(io::Error::other)
    };
    let is_url = request.uri().query().is_some_and(|query| query.contains("X-Amz-Signature="));
    match state.next_fault(request.method()) {
        Fault::None => {}
        Fault::NoUrls if !is_url => {}
        Fault::NoUrls => return refuse(403, "AccessDenied"),
        Fault::NoPuts if !is_put => {}
        Fault::SlowDown => return refuse(503, "SlowDown"),
        Fault::Internal | Fault::NoPuts => return refuse(500, "InternalError"),
        Fault::Denied => return refuse(403, "AccessDenied"),
        Fault::Clock => return refuse(403, "RequestTimeTooSkewed"),
        Fault::Gone => return Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Slow(wait) => tokio::time::sleep(wait).await,
    }
    hyper::service::Service::call(&service, request)
        .await
        .map_err(|error| io::Error::other(format!("{error:?}")))
}
