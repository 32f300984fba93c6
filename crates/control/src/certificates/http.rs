//! How is a CA reached?
//!
//! Over HTTPS with deadlines and a bound on every answer, whatever a CA sends. When it asks for
//! patience, that is remembered here: the ACME library does not say.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header::RETRY_AFTER};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one call, its answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answers are chains and orders of a hundred names.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// How often renewal information is looked at when a CA does not say (RFC 9773, section 4.3.2).
const ASK_AGAIN: &str = "21600";

/// Where distributions keep their bundle of trusted authorities.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Calls to one CA; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    http: reqwest::Client,
    /// What the CA asked for last with a 429 or 503; negative: nothing.
    retry_after_ms: Arc<AtomicI64>,
}

impl Calls {
    /// Trusts the authorities in `ca_file`, or those of the system.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, io::Error> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(file) => {
                for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
                    roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
                }
                if roots.is_empty() {
                    return Err(io::Error::other("it holds no certificate"));
                }
            }
            None => {
                // A bundle may hold certificates that rustls does not read; the others count.
                let bundle = BUNDLES.iter().find(|path| Path::new(path).exists());
                let found = bundle.and_then(|path| CertificateDer::pem_file_iter(path).ok());
                roots.add_parsable_certificates(found.into_iter().flatten().flatten());
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("nigh/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { http, retry_after_ms: Arc::new(AtomicI64::new(-1)) })
    }

    /// What the CA asked for last, once.
    pub(crate) fn take_retry_after_ms(&self) -> Option<i64> {
        let ms = self.retry_after_ms.swap(-1, Ordering::Relaxed);
        (ms >= 0).then_some(ms)
    }

    /// The answer to a plain question, as JSON.
    pub(crate) async fn get_json(&self, url: &str) -> Result<serde_json::Value, Error> {
        let request = Request::get(url).body(BodyWrapper::default())?;
        let mut answer = self.clone().call(request).await?;
        let bytes = answer.body.into_bytes().await.map_err(Error::Other)?;
        if !answer.parts.status.is_success() {
            return Err(Error::Other(format!("{url} answers {}", answer.parts.status).into()));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    async fn call(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: reqwest::Error| Error::Other(Box::new(error));
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let is_get = parts.method == Method::GET;
        let call = self
            .http
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body);
        let mut answer = call.send().await.map_err(other)?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(other)? {
            if bytes.len() + piece.len() > ANSWER_MAX_BYTES {
                return Err(Error::Str("the CA's answer is longer than 1 MiB"));
            }
            bytes.extend_from_slice(&piece);
        }
        let mut response = Response::new(());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        self.note_patience(&response);
        if is_get && !response.headers().contains_key(RETRY_AFTER) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(ASK_AGAIN));
        }
        let (parts, ()) = response.into_parts();
        Ok(BytesResponse { parts, body: Box::new(bytes.freeze()) })
    }

    fn note_patience(&self, response: &Response<()>) {
        if !matches!(response.status().as_u16(), 429 | 503) {
            return;
        }
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds: Option<i64> = seconds.and_then(|text| text.trim().parse().ok());
        let ms = seconds.map_or(-1, |seconds| seconds.clamp(0, 30 * 24 * 3600) * 1000);
        self.retry_after_ms.store(ms, Ordering::Relaxed);
    }
}

impl HttpClient for Calls {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().call(request))
    }
}
