//! Who answers?

use std::{fmt, io, net::SocketAddr, path::Path};

use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use s3s::{
    Body,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::net::TcpStream;

use super::{
    ACCESS_KEY, BUCKET, SECRET_KEY, VARIABLE,
    programs::{self, Program},
};

/// A server that tests can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the test's own process; keeps objects in a folder and cannot list uploads.
    S3sFs,
    /// In Python; takes any signature.
    Moto,
    /// The most real one; it has to be built.
    Garage,
}

/// A server as it is spoken to; cheap to clone.
#[derive(Clone)]
pub(super) enum Backend {
    Here(S3Service),
    There(SocketAddr),
}

impl Kind {
    /// The one that [`VARIABLE`] names.
    pub fn of_tests() -> io::Result<Self> {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("s3s-fs") => Ok(Kind::S3sFs),
            Ok("moto") => Ok(Kind::Moto),
            Ok("garage") => Ok(Kind::Garage),
            Ok(other) => {
                let why = format!("{VARIABLE} is {other:?}, not s3s-fs, moto or garage");
                Err(io::Error::other(why))
            }
        }
    }

    /// Whether a request with a wrong signature is refused.
    pub fn checks_signatures(self) -> bool {
        self != Kind::Moto
    }

    /// Whether it tells which uploads in parts have not ended.
    pub fn lists_uploads(self) -> bool {
        self != Kind::S3sFs
    }
}

impl Backend {
    pub(super) async fn start(kind: Kind, root: &Path) -> io::Result<(Self, Option<Program>)> {
        let (address, program) = match kind {
            Kind::S3sFs => return Ok((Backend::Here(in_process(root)?), None)),
            Kind::Moto => programs::moto()?,
            Kind::Garage => programs::garage(root).await?,
        };
        Ok((Backend::There(address), Some(program)))
    }

    /// Passes a request on as it is: its signature names the host that the client knows.
    pub(super) async fn answer(
        &self,
        request: http::Request<Incoming>,
    ) -> io::Result<http::Response<Body>> {
        match self {
            Backend::Here(service) => hyper::service::Service::call(service, request)
                .await
                .map_err(|error| io::Error::other(format!("{error:?}"))),
            Backend::There(address) => {
                let stream = TokioIo::new(TcpStream::connect(address).await?);
                let made = hyper::client::conn::http1::handshake(stream).await;
                let (mut sender, connection) = made.map_err(io::Error::other)?;
                tokio::spawn(connection);
                let answered = sender.send_request(request).await.map_err(io::Error::other)?;
                Ok(answered.map(Body::http_body_unsync))
            }
        }
    }
}

fn in_process(root: &Path) -> io::Result<S3Service> {
    std::fs::create_dir_all(root.join(BUCKET))?;
    let files = FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    Ok(builder.build())
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}
