//! How does a machine connect to control, and prove who it is?
//!
//! Talk (watch, reports) and blobs go over connections of their own: a blob that is slow to be
//! written to disk fills the window of its connection, and must not hold up the state.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, client::WantsClientCert,
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::time::timeout;

use nigh_dial::{Turn, is_loopback};
use nigh_proto::{
    Digest, Protocols,
    protocol::{self, Mismatch, NotProtocols, PROTOCOL},
};

use crate::{
    config::ControlConfig,
    identity::{Identity, Membership},
    member::Credentials,
    pin::Pinned,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that brings nothing for so long, while somebody waits for it, has stalled.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(15);
/// HTTP/2 pings find a connection that only looks open.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why control cannot be connected to, whatever the network does.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("control.url {url} is not an address such as https://control.example:8444")]
    Url { url: Url },
    #[error(
        "nothing says who control is: use a join token with a fingerprint (`nigh edge token` makes one), or set control.ca_file"
    )]
    NoCa,
    #[error("could not read {path}", path = path.display())]
    CaFile { path: PathBuf, source: std::io::Error },
    #[error("{what} is not PEM of the kind that belongs there")]
    Pem { what: &'static str },
    #[error("TLS to control cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("an HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Connections to one control.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    turn: Turn,
    talk: Client,
    fetch: Client,
}

impl Link {
    /// Connections of a machine that has joined; of a stranger when it has not. To the control
    /// whose turn it is.
    pub(crate) fn new(
        turn: Turn,
        control: &ControlConfig,
        identity: &Identity,
        version: &str,
    ) -> Result<Self, LinkError> {
        match identity.membership() {
            None => Link::stranger(turn, control, identity, None, version),
            Some(membership) => {
                // Trust comes from either copy of the CA, so this one may be damaged.
                let (chain, key) = pair(membership)?;
                Link::with(
                    turn,
                    tls(control, identity)?.with_client_auth_cert(chain, key)?,
                    version,
                )
            }
        }
    }

    /// Connections that do not say who the machine is: those to join with. With a `pin`, the CA
    /// of that fingerprint counts and nothing that was known before.
    pub(crate) fn stranger(
        turn: Turn,
        control: &ControlConfig,
        identity: &Identity,
        pin: Option<Digest>,
        version: &str,
    ) -> Result<Self, LinkError> {
        let Some(pin) = pin else {
            return Link::with(turn, tls(control, identity)?.with_no_client_auth(), version);
        };
        let (builder, provider) = builder()?;
        let pinned = Arc::new(Pinned { pin, provider });
        let builder = builder.dangerous().with_custom_certificate_verifier(pinned);
        Link::with(turn, builder.with_no_client_auth(), version)
    }

    fn with(turn: Turn, mut tls: ClientConfig, version: &str) -> Result<Self, LinkError> {
        if turn.url().scheme() != "https" {
            return Err(LinkError::Url { url: turn.url().clone() });
        }
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = || client(&tls, &turn, version);
        Ok(Link { talk: client()?, fetch: client()?, turn })
    }

    /// Where control is, as it was configured.
    pub(crate) const fn base(&self) -> &Url {
        self.turn.url()
    }

    /// Where `path`, such as `machine/v1/watch`, is.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base().clone();
        url.set_path(&format!("{}/{path}", self.base().path().trim_end_matches('/')));
        url
    }

    /// Further connections begin with the address that gave `answer`.
    pub(crate) fn settle(&self, answer: &Response) {
        if let Some(address) = answer.remote_addr() {
            self.turn.resolver().settle(address.ip());
        }
    }

    pub(crate) fn talk(&self) -> &Client {
        &self.talk
    }

    pub(crate) fn fetch(&self) -> &Client {
        &self.fetch
    }
}

/// What a machine that has joined shows, to control and to others, and whom it believes.
pub(crate) fn credentials(membership: &Membership) -> Result<Credentials, LinkError> {
    let (chain, key) = pair(membership)?;
    let roots = Arc::new(roots(membership.ca_pem.as_bytes())?);
    Ok(Credentials { chain, key, roots })
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(membership: &Membership) -> Result<Pair, LinkError> {
    let unusable = || LinkError::Pem { what: "identity/machine.pem" };
    let pair = membership.pair_pem.as_bytes();
    let chain = CertificateDer::pem_slice_iter(pair).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(pair).map_err(|_| unusable())?;
    Ok((chain, key))
}

/// No time-outs beyond these here: reqwest's would also count the time in which nobody reads, such
/// as while a slow disk takes what came before.
fn client(tls: &ClientConfig, turn: &Turn, version: &str) -> Result<Client, LinkError> {
    let protocols = HeaderValue::try_from(Protocols::HERE.to_string());
    let protocols = protocols.expect("digits and a hyphen may be in a header field");
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(turn.resolver().clone())
        .user_agent(format!("nigh/{version}"))
        .default_headers(HeaderMap::from_iter([(HeaderName::from_static(PROTOCOL), protocols)]))
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(turn.url()) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(LinkError::Client)
}

fn tls(
    control: &ControlConfig,
    identity: &Identity,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, LinkError> {
    Ok(builder()?.0.with_root_certificates(trusted(control, identity)?))
}

type Builder = ConfigBuilder<ClientConfig, WantsVerifier>;

fn builder() -> Result<(Builder, Arc<CryptoProvider>), LinkError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    Ok((builder.with_safe_default_protocol_versions()?, provider))
}

/// The CAs whose control is believed to be control: those that joining and control itself brought,
/// and the operator's, since control may have a new one that the operator vouches for. One will
/// do; what control has withdrawn will not.
fn trusted(control: &ControlConfig, identity: &Identity) -> Result<RootCertStore, LinkError> {
    let kept = identity.membership().map(|membership| roots(membership.ca_pem.as_bytes()));
    let withdrawn = identity.withdrawn();
    let file = control
        .ca_file
        .as_deref()
        .map(|path| read(path).and_then(|pem| operators(&pem, withdrawn)));
    match (kept, file) {
        (Some(Ok(mut kept)), Some(Ok(file))) => {
            kept.roots.extend(file.roots);
            Ok(kept)
        }
        (Some(Ok(one)), _) | (_, Some(Ok(one))) => Ok(one),
        (Some(Err(error)), _) | (None, Some(Err(error))) => Err(error),
        (None, None) => Err(LinkError::NoCa),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LinkError> {
    std::fs::read(path).map_err(|source| LinkError::CaFile { path: path.to_owned(), source })
}

/// The CAs in the operator's file. A file of which nothing is left is as good as none.
fn operators(pem: &[u8], withdrawn: &[Digest]) -> Result<RootCertStore, LinkError> {
    if withdrawn.is_empty() {
        return roots(pem);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| LinkError::Pem { what: "control's CA" })?;
        if !withdrawn.contains(&Digest::of(&certificate)) {
            roots.add(certificate)?;
        }
    }
    Ok(roots)
}

/// Refuses text that holds no CA.
pub(crate) fn check_roots(pem: &str) -> Result<(), LinkError> {
    roots(pem.as_bytes()).map(drop)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| LinkError::Pem { what: "control's CA" })?)?;
    }
    if roots.is_empty() { Err(LinkError::Pem { what: "control's CA" }) } else { Ok(roots) }
}

/// Why a call to control failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("control cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("control refused ({status}): {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("control has not answered within {within:?}")]
    Late { within: Duration },
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("control's answer cannot be read")]
    Garbled(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// Whether control does not take this machine for one of the fleet, in words or by refusing
    /// its certificate, which may be out of date or of another CA.
    pub(crate) fn is_shut_out(&self) -> bool {
        match self {
            CallError::Refused { status, .. } => matches!(status.as_u16(), 401 | 403),
            // Of an alert (RFC 8446, section 6.2) HTTP/2 keeps only the text.
            CallError::Unreachable(_) => {
                let why = causes(self);
                // A CA that has the name of the one that is trusted, and another key.
                let is_stranger = why.contains("UnknownIssuer") || why.contains("BadSignature");
                why.contains("received fatal alert") || is_stranger
            }
            CallError::Late { .. } | CallError::Mismatch(_) | CallError::Garbled(_) => false,
        }
    }

    /// Whether the same call would only be refused again.
    pub(crate) fn needs_a_person(&self) -> bool {
        match self {
            CallError::Refused { status, .. } => {
                status.is_client_error() && !matches!(status.as_u16(), 408 | 429)
            }
            CallError::Mismatch(_) => true,
            other => other.is_shut_out(),
        }
    }
}

/// An answer longer than this is no problem document.
const PROBLEM_MAX_BYTES: usize = 64 << 10;

/// Sends `request`. The answer, if it is a success and has begun within `within`.
pub(crate) async fn call(request: RequestBuilder, within: Duration) -> Result<Response, CallError> {
    let answered = timeout(within, async { success(request.send().await).await });
    answered.await.unwrap_or(Err(CallError::Late { within }))
}

async fn success(sent: Result<Response, reqwest::Error>) -> Result<Response, CallError> {
    let response = sent.map_err(CallError::Unreachable)?;
    let status = response.status();
    if status.is_success() {
        agree(&response)?;
        return Ok(response);
    }
    let body = bounded(response, PROBLEM_MAX_BYTES).await.unwrap_or_default();
    let detail = serde_json::from_slice::<nigh_proto::api::Problem>(&body)
        .map_or_else(|_| "no reason given".to_owned(), |problem| problem.detail);
    Err(CallError::Refused { status, detail })
}

/// Refuses the answer of a control that speaks no protocol which this machine does: what it says may mean
/// something else than it seems to.
fn agree(response: &Response) -> Result<(), CallError> {
    let named = response.headers().get(PROTOCOL).map(HeaderValue::as_bytes);
    let unreadable = |error: NotProtocols| CallError::Garbled(error.into());
    protocol::agree(Protocols::HERE, Protocols::named(named).map_err(unreadable)?)?;
    Ok(())
}

/// The next piece of a body that must not stand still, `None` at its end.
pub(crate) async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, CallError> {
    match timeout(STALL_MAX, response.chunk()).await {
        Ok(chunk) => chunk.map_err(CallError::Unreachable),
        Err(_) => Err(CallError::Late { within: STALL_MAX }),
    }
}

/// The body, if it has no more than `max_bytes`.
pub(crate) async fn bounded(
    mut response: Response,
    max_bytes: usize,
) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = next_chunk(&mut response).await? {
        if body.len() + chunk.len() > max_bytes {
            let error = format!("more than {max_bytes} bytes");
            return Err(CallError::Garbled(error.into()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes, on one line, for the log.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control at `url`, whose CA is in `ca_file`.
    fn control(url: &str, ca_file: Option<PathBuf>) -> (Turn, ControlConfig) {
        let url: nigh_dial::ControlUrls = url.parse().unwrap();
        let turn = nigh_dial::Turns::new(url.clone()).current();
        (turn, ControlConfig { url, ca_file, join_token_file: None })
    }

    fn ca_file(dir: &Path) -> PathBuf {
        let ca_file = dir.join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        std::fs::write(&ca_file, ca.pem()).unwrap();
        ca_file
    }

    #[test]
    fn only_https_addresses_are_control() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(dir.path()).unwrap();
        let link = |url| {
            let (turn, control) = control(url, Some(ca_file(dir.path())));
            Link::new(turn, &control, &identity, "1")
        };
        assert!(matches!(link("http://control:8444"), Err(LinkError::Url { .. })));
        link("https://127.0.0.1:8444").unwrap();
    }

    #[test]
    fn paths_are_below_the_configured_address() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(dir.path()).unwrap();
        let (turn, control) = control("https://control:8444/fleet/", Some(ca_file(dir.path())));
        let link = Link::new(turn, &control, &identity, "1").unwrap();
        assert_eq!(
            link.url("machine/v1/watch").as_str(),
            "https://control:8444/fleet/machine/v1/watch"
        );
    }

    #[test]
    fn a_stranger_without_a_ca_is_told_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(dir.path()).unwrap();
        let (turn, control) = control("https://control:8444", None);
        assert!(matches!(Link::new(turn, &control, &identity, "1"), Err(LinkError::NoCa)));
    }
}
