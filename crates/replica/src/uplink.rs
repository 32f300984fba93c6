//! Every call that a machine makes to control.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use nigh_proto::{
    Digest,
    report::{JoinRequest, JoinResponse, Report},
    state::Revision,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use crate::{config::UpstreamConfig, identity::Identity};

/// How long a connection to control may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a short call may take, and how long a transfer may stand still.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest problem text that is read.
const PROBLEM_MAX_BYTES: usize = 64 << 10;

/// Why a call to control failed.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    #[error("could not read control's CA from {}", path.display())]
    CaFile { path: PathBuf, source: io::Error },
    #[error("{} holds no certificate that can be used as control's CA", path.display())]
    Ca { path: PathBuf },
    #[error("the machine's key and certificate cannot be used for TLS")]
    Identity(#[source] rustls::Error),
    #[error("the machine's key or certificate is not PEM")]
    Pem,
    #[error("could not set up the connection to control")]
    Client(#[source] reqwest::Error),
    #[error("could not reach control at {url}")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("control answered {status}: {detail}")]
    Refused { status: StatusCode, code: String, detail: String },
    #[error("control's answer has a shape that this version does not know")]
    Answer(#[source] serde_json::Error),
    #[error("control's answer is longer than {max_bytes} bytes")]
    TooLong { max_bytes: usize },
    #[error("this machine has not joined yet")]
    NotJoined,
}

impl UplinkError {
    /// Whether control understood the call and will not change its mind if it is repeated as it is.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, UplinkError::Refused { status, .. } if status.as_u16() < 500)
    }
}

/// Calls to control, with the machine's certificate once it has one.
#[derive(Clone, Debug)]
pub struct Uplink {
    client: Client,
    base: Arc<str>,
}

#[derive(Serialize)]
struct PackRequest<'a> {
    digests: &'a [Digest],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemText {
    detail: String,
    code: String,
}

impl Uplink {
    /// Calls that show `identity`'s certificate if it has one.
    pub(crate) fn new(config: &UpstreamConfig, identity: &Identity) -> Result<Self, UplinkError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config(config, identity)?)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(CALL_TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(4 << 20)
            .http2_initial_connection_window_size(8 << 20)
            .user_agent(concat!("nigh/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(UplinkError::Client)?;
        Ok(Uplink { client, base: config.url.trim_end_matches('/').into() })
    }

    /// `POST /machine/v1/join`.
    pub(crate) async fn join(&self, request: &JoinRequest) -> Result<JoinResponse, UplinkError> {
        let call = self.client.post(self.url("join")).timeout(CALL_TIMEOUT).json(request);
        let answer = bounded(self.send(call).await?, 1 << 20).await?;
        serde_json::from_slice(&answer).map_err(UplinkError::Answer)
    }

    /// `GET /machine/v1/watch`: the stream's chunks, cut anywhere.
    pub(crate) async fn watch(
        &self,
        since: Option<Revision>,
    ) -> Result<impl Stream<Item = Result<Bytes, reqwest::Error>> + Unpin + use<>, UplinkError>
    {
        let path =
            since.map_or("watch".to_owned(), |Revision(since)| format!("watch?since={since}"));
        let call = self.client.get(self.url(&path));
        Ok(Box::pin(self.send(call).await?.bytes_stream()))
    }

    /// `POST /machine/v1/report`.
    pub(crate) async fn report(&self, report: &Report) -> Result<(), UplinkError> {
        let call = self.client.post(self.url("report")).timeout(CALL_TIMEOUT).json(report);
        self.send(call).await.map(drop)
    }

    /// `POST /machine/v1/packs`: a pack with those of `digests` that control has. The stream stands
    /// still for at most 15 s.
    pub async fn fetch_pack(
        &self,
        digests: &[Digest],
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static + use<>, UplinkError>
    {
        let call = self.client.post(self.url("packs")).json(&PackRequest { digests });
        let body = self.send(call).await?.bytes_stream();
        Ok(Box::pin(body.map(|chunk| chunk.map_err(io::Error::other))))
    }

    /// `GET /machine/v1/blobs/{digest}` from byte `offset` on.
    pub async fn fetch_blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static + use<>, UplinkError>
    {
        let mut call = self.client.get(self.url(&format!("blobs/{digest}")));
        if offset > 0 {
            call = call.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = self.send(call).await?;
        if offset > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(UplinkError::Refused {
                status: response.status(),
                code: "range_ignored".to_owned(),
                detail: format!("blob {digest} was not resumed at byte {offset}"),
            });
        }
        Ok(Box::pin(response.bytes_stream().map(|chunk| chunk.map_err(io::Error::other))))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/machine/v1/{path}", self.base)
    }

    async fn send(&self, call: RequestBuilder) -> Result<Response, UplinkError> {
        let response = call.send().await.map_err(|source| UplinkError::Unreachable {
            url: self.base.to_string(),
            source: source.without_url(),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = bounded(response, PROBLEM_MAX_BYTES).await.unwrap_or_default();
        let ProblemText { detail, code } = serde_json::from_slice(&text).unwrap_or_default();
        Err(UplinkError::Refused { status, code, detail })
    }
}

/// A whole answer of at most `max_bytes`.
async fn bounded(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, UplinkError> {
    let mut answer = Vec::new();
    let url = response.url().to_string();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| UplinkError::Unreachable { url: url.clone(), source })?
    {
        if answer.len() + chunk.len() > max_bytes {
            return Err(UplinkError::TooLong { max_bytes });
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

fn tls_config(config: &UpstreamConfig, identity: &Identity) -> Result<ClientConfig, UplinkError> {
    let path = &config.ca_file;
    let pem =
        std::fs::read(path).map_err(|source| UplinkError::CaFile { path: path.clone(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| UplinkError::Ca { path: path.clone() })?;
        roots.add(certificate).map_err(|_| UplinkError::Ca { path: path.clone() })?;
    }
    if roots.is_empty() {
        return Err(UplinkError::Ca { path: path.clone() });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UplinkError::Identity)?
        .with_root_certificates(roots);
    let mut tls = match &identity.certificate_pem {
        None => builder.with_no_client_auth(),
        Some(certificate_pem) => {
            let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| UplinkError::Pem)?;
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
                .map_err(|_| UplinkError::Pem)?;
            builder.with_client_auth_cert(chain, key).map_err(UplinkError::Identity)?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
