//! How does a machine read an object of the bucket that control gave it a URL for?
//!
//! The URL says who may read what for how long; the machine has no credentials of its own. What comes
//! is checked against its digest like everything else, so plain HTTP will do on a private network.

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::stream;
use nigh_dial::is_loopback;
use nigh_proto::{
    Digest,
    locations::{Locations, Wanted},
};
use reqwest::{Client, StatusCode, Url, header, redirect::Policy};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::time::timeout;

use crate::{
    fetch::{ByteStream, FetchError},
    link::{self, CallError, Link},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An answer of the bucket begins within this time; control is there as well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long control may look for blobs.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer with locations: 65,536 blobs in as many objects would be less.
const LOCATIONS_MAX_BYTES: usize = 64 << 20;

/// Why an object was not read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("the bucket does not have the object")]
    Missing,
    /// An expired URL is one reason.
    #[error("the bucket refuses the URL ({status})")]
    Denied { status: u16 },
    #[error("the bucket answered {status}")]
    Failed { status: u16 },
    #[error("the bucket sent something else than the bytes that were asked for")]
    Garbled,
    #[error("the bucket cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("connections to the bucket cannot be made: {0}")]
    Setup(String),
}

/// Connections to the bucket.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Whether control has said that there is a bucket.
    has_bucket: AtomicBool,
    /// With the CA that it trusts beside public ones, and whether it is for this machine alone.
    client: Mutex<Option<(Option<String>, bool, Client)>>,
}

impl Objects {
    pub(crate) fn has_bucket(&self) -> bool {
        self.has_bucket.load(Ordering::Relaxed)
    }

    /// What control's answer says about a bucket.
    pub(crate) fn note(&self, has_bucket: bool) {
        self.has_bucket.store(has_bucket, Ordering::Relaxed);
    }

    fn client(&self, ca_pem: Option<&str>, is_local: bool) -> Result<Client, ObjectError> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((ca, local, client)) if ca.as_deref() == ca_pem && *local == is_local => {
                Ok(client.clone())
            }
            _ => {
                let client = connect(ca_pem, is_local)?;
                *kept = Some((ca_pem.map(str::to_owned), is_local, client.clone()));
                Ok(client)
            }
        }
    }
}

/// A client that trusts what this machine's system does, and `ca_pem`.
fn connect(ca_pem: Option<&str>, is_local: bool) -> Result<Client, ObjectError> {
    let setup = |error: &dyn std::fmt::Display| ObjectError::Setup(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|error| setup(&error))?;
        roots.add(certificate).map_err(|error| setup(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none());
    if is_local {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| setup(&error))
}

/// Asks control where blobs are. `None` when it has no bucket.
pub(crate) async fn locate(
    link: &Link,
    digests: &[Digest],
    complaints: Vec<String>,
) -> Result<Option<Locations>, FetchError> {
    let wanted = Wanted { digests: digests.to_vec(), complaints };
    let request = link.fetch().post(link.url("machine/v1/locations")).json(&wanted);
    let answered = link::call(request, LOCATE_TIMEOUT).await;
    let response = match answered {
        Err(CallError::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(None),
        answered => answered?,
    };
    let text = link::bounded(response, LOCATIONS_MAX_BYTES).await?;
    let locations =
        serde_json::from_slice(&text).map_err(|error| CallError::Garbled(error.into()))?;
    Ok(Some(locations))
}

/// The bytes of `range`, which is not empty, of the object at `url`.
pub(crate) async fn read(
    objects: &Objects,
    url: &str,
    ca_pem: Option<&str>,
    range: Range<u64>,
) -> Result<ByteStream, ObjectError> {
    let url = Url::parse(url).map_err(|error| ObjectError::Setup(error.to_string()))?;
    let is_local = is_loopback(&url);
    let client = objects.client(ca_pem, is_local)?;
    let Range { start, end } = range;
    let request = client.get(url).header(header::RANGE, format!("bytes={start}-{}", end - 1));
    let unreachable = |error: reqwest::Error| ObjectError::Unreachable(error.without_url().into());
    let response = match timeout(ANSWER_TIMEOUT, request.send()).await {
        Ok(sent) => sent.map_err(unreachable)?,
        Err(late) => return Err(ObjectError::Unreachable(late.into())),
    };
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::RANGE_NOT_SATISFIABLE => {
            return Err(ObjectError::Missing);
        }
        status @ (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) => {
            return Err(ObjectError::Denied { status: status.as_u16() });
        }
        status => return Err(ObjectError::Failed { status: status.as_u16() }),
    }
    let sent = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let expected = format!("bytes {start}-{}/", end - 1);
    if !sent.is_some_and(|sent| sent.starts_with(&expected)) {
        return Err(ObjectError::Garbled);
    }
    let left = end - start;
    Ok(ByteStream::new(stream::unfold(Some((response, left)), |state| async {
        let (mut response, left) = state?;
        let failed = |why: &'static str| Some((Err(io::Error::other(why)), None));
        match link::next_chunk(&mut response).await {
            Ok(Some(chunk)) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Some((Ok(chunk), Some((response, left)))),
                None => failed("the bucket sent more than it was asked for"),
            },
            Ok(None) if left == 0 => None,
            Ok(None) => failed("the bucket's answer broke off"),
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    })))
}
