//! A real S3 server for tests, which can be told to misbehave.
//!
//! Which one it is says the environment variable [`VARIABLE`]: `s3s-fs` in the test's own process
//! unless told otherwise, `moto` in Python, or `garage`. Before it stands `front`, where requests are
//! counted and faults are made, so that all of them fail alike. What a test does behind the client's
//! back goes past that, through a door of its own.

mod backend;
mod fault;
mod front;
mod programs;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{Bucket, BucketConfig, Content, Upload};

use backend::Backend;
use fault::State;
use programs::Program;

pub use backend::Kind;
pub use fault::Fault;

/// Names the server that tests run on.
pub const VARIABLE: &str = "NIGH_TEST_BUCKET";
/// The credentials that it takes, in the form that garage wants.
pub const ACCESS_KEY: &str = "GK00000000000000006e696768";
pub const SECRET_KEY: &str = "6e69676820746573747320776974682074686973206b657920616c6c20646179";
/// The bucket that it has.
pub const BUCKET: &str = "nigh-blobs";

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    address: SocketAddr,
    root: PathBuf,
    state: Arc<State>,
    hidden: Bucket,
    tasks: Vec<JoinHandle<()>>,
    _program: Option<Program>,
}

impl Server {
    /// Starts a server that keeps [`BUCKET`] in `root`.
    pub async fn start(root: &Path) -> io::Result<Self> {
        let kind = Kind::of_tests()?;
        let keys = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n\
             [wrong]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = another\n"
        );
        std::fs::write(root.join("credentials"), keys)?;
        let (backend, program) = Backend::start(kind, root).await?;
        let state = Arc::<State>::default();
        let (front, door) = (listener().await?, listener().await?);
        let (address, behind) = (front.local_addr()?, door.local_addr()?);
        let tasks = vec![
            tokio::spawn(front::accept(front, backend.clone(), Arc::clone(&state))),
            tokio::spawn(front::accept(door, backend, Arc::default())),
        ];
        let hidden = Bucket::open(&config(root, behind)).await.map_err(io::Error::other)?;
        let server =
            Self { kind, address, root: root.to_owned(), state, hidden, tasks, _program: program };
        server.be_ready().await?;
        Ok(server)
    }

    /// Waits until there is a bucket.
    async fn be_ready(&self) -> io::Result<()> {
        if self.kind == Kind::Moto {
            let made = self.hidden.client.create_bucket().bucket(BUCKET).send().await;
            made.map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        let deadline = tokio::time::Instant::now() + programs::START_DEADLINE;
        while let Err(error) = self.hidden.list(None).await {
            if tokio::time::Instant::now() > deadline {
                return Err(io::Error::other(error));
            }
            tokio::time::sleep(programs::POLL).await;
        }
        Ok(())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A file with the credentials that it takes.
    pub fn credentials_file(&self) -> PathBuf {
        credentials(&self.root)
    }

    /// How to reach the bucket.
    pub fn config(&self) -> BucketConfig {
        config(&self.root, self.address)
    }

    /// Misbehaves until told otherwise.
    pub fn set_fault(&self, fault: Fault) {
        self.fail(fault, u64::MAX);
    }

    /// Misbehaves for so many requests.
    pub fn fail(&self, fault: Fault, requests: u64) {
        self.state.set(fault, requests);
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

    /// How many of these brought a part of a large object, whatever became of it.
    pub fn parts(&self) -> u64 {
        self.state.parts.load(Ordering::Relaxed)
    }

    /// The names of all objects, in order.
    pub async fn names(&self) -> io::Result<Vec<String>> {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = self.hidden.list(after.as_deref()).await.map_err(io::Error::other)?;
            let Some(last) = page.last() else { return Ok(names) };
            after = Some(last.key.clone());
            names.extend(page.into_iter().map(|object| object.key));
        }
    }

    /// Puts an object there, or in the place of another, behind everyone's back.
    pub async fn plant(&self, name: &str, bytes: impl Into<Bytes>) -> io::Result<()> {
        self.hidden.put(name, &Content::Bytes(bytes.into())).await.map_err(io::Error::other)
    }

    /// Removes an object behind everyone's back.
    pub async fn lose(&self, name: &str) -> io::Result<()> {
        self.hidden.remove(&[name.to_owned()]).await.map_err(io::Error::other)
    }

    /// The bytes of an object, `None` when there is none.
    pub async fn bytes(&self, name: &str) -> io::Result<Option<Bytes>> {
        self.hidden.get_small(name, u64::MAX).await.map_err(io::Error::other)
    }

    /// Begins an upload in parts behind everyone's back, with one part in it.
    pub async fn leave_upload(&self, name: &str) -> io::Result<String> {
        let left = async {
            let id = self.hidden.begin(name).await?;
            let content = Content::Bytes(Bytes::from_static(b"a part that nobody comes back for"));
            self.hidden.put_part(name, &id, &content, 1).await?;
            Ok::<_, crate::Error>(id)
        };
        left.await.map_err(io::Error::other)
    }

    /// Uploads in parts that have not ended, where the server can list them.
    pub async fn uploads(&self) -> io::Result<Vec<Upload>> {
        self.hidden.uploads().await.map_err(io::Error::other)
    }

    /// Whether the upload is still there: whether it takes a part.
    pub async fn has_upload(&self, name: &str, id: &str) -> bool {
        let part = self.hidden.client.upload_part().bucket(BUCKET).key(name).upload_id(id);
        let body = Bytes::from_static(b"one more part").into();
        part.part_number(9_999).body(body).send().await.is_ok()
    }

    /// Gives an upload up behind everyone's back.
    pub async fn lose_upload(&self, name: &str, id: &str) -> io::Result<()> {
        self.hidden.abort(name, id).await.map_err(io::Error::other)
    }

    /// Waits until so many parts have come in.
    pub async fn has_parts(&self, parts: u64, within: Duration) -> io::Result<()> {
        let arrived = async {
            while self.parts() < parts {
                tokio::time::sleep(programs::POLL).await;
            }
        };
        let late = || io::Error::other(format!("{} of {parts} parts came in", self.parts()));
        tokio::time::timeout(within, arrived).await.map_err(|_| late())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listener() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

fn credentials(root: &Path) -> PathBuf {
    root.join("credentials")
}

fn config(root: &Path, address: SocketAddr) -> BucketConfig {
    BucketConfig {
        endpoint: Some(format!("http://{address}")),
        path_style: true,
        credentials_file: Some(credentials(root)),
        ..BucketConfig::new(BUCKET)
    }
}
