//! A control whose answers are written by the test, call by call.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nigh_proto::{
    api::Problem,
    report::{JoinRequest, JoinResponse},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    IsCa, KeyPair,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::clock::FastClock;

/// Longer than anything that a test waits for, and shorter than a person's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(200);

pub(crate) const JOIN: &str = "/machine/v1/join";
pub(crate) const RENEW: &str = "/machine/v1/renew";
pub(crate) const WATCH: &str = "/machine/v1/watch";
pub(crate) const REPORT: &str = "/machine/v1/report";
pub(crate) const PACKS: &str = "/machine/v1/packs";
pub(crate) const BLOBS: &str = "/machine/v1/blobs";

type Body = BoxBody<Bytes, std::io::Error>;
type Desk = Arc<Mutex<HashMap<&'static str, mpsc::UnboundedSender<Call>>>>;

/// A request that waits for the test's answer.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the connection presented a certificate of control's CA.
    pub(crate) has_certificate: bool,
    answer: oneshot::Sender<Response<Body>>,
}

/// The calls to one route.
pub(crate) struct Calls(mpsc::UnboundedReceiver<Call>);

/// The open end of an answer's body.
pub(crate) struct Pipe(mpsc::UnboundedSender<std::io::Result<Bytes>>);

pub(crate) struct Control {
    ca: Arc<CertifiedIssuer<'static, KeyPair>>,
    tls: TlsAcceptor,
    address: SocketAddr,
    desk: Desk,
    serving: Option<JoinHandle<()>>,
}

impl Control {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(authority())).await
    }

    /// Another control of the same fleet.
    pub(crate) async fn start_beside(first: &Control) -> Self {
        Self::start_with(Arc::clone(&first.ca)).await
    }

    async fn start_with(ca: Arc<CertifiedIssuer<'static, KeyPair>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut control = Control {
            tls: acceptor(&ca),
            ca,
            address: listener.local_addr().unwrap(),
            desk: Desk::default(),
            serving: None,
        };
        control.serve(listener);
        control
    }

    /// From now on the test answers the calls to `route`. Reports are taken and everything else is
    /// refused as unavailable until then.
    pub(crate) fn calls(&self, route: &'static str) -> Calls {
        let (calls, received) = mpsc::unbounded_channel();
        self.desk.lock().unwrap().insert(route, calls);
        Calls(received)
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// BLAKE3 of the CA's certificate.
    pub(crate) fn fingerprint(&self) -> nigh_proto::Digest {
        nigh_proto::Digest::of(self.ca.der())
    }

    pub(crate) fn sign(&self, csr: CertificateSigningRequestParams) -> String {
        csr.signed_by(&*self.ca).unwrap().pem()
    }

    /// What control answers to a join.
    pub(crate) fn admit(&self, request: &JoinRequest) -> JoinResponse {
        let csr = CertificateSigningRequestParams::from_pem(&request.csr_pem).unwrap();
        JoinResponse {
            name: request.about.name.clone(),
            certificate_pem: csr.signed_by(&*self.ca).unwrap().pem(),
            ca_pem: self.ca_pem(),
        }
    }

    /// Closes the port and every connection.
    pub(crate) async fn stop(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    /// Opens the same port again.
    pub(crate) async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// Becomes another installation at the same address, with a CA of its own.
    pub(crate) fn replace_ca(&mut self) {
        self.ca = Arc::new(authority());
        self.tls = acceptor(&self.ca);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (tls, desk) = (self.tls.clone(), Arc::clone(&self.desk));
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(connection(socket, tls.clone(), Arc::clone(&desk)));
            }
        }));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Calls {
    pub(crate) async fn next(&mut self) -> Call {
        tokio::time::timeout(DEADLINE, self.0.recv()).await.expect("the machine calls").unwrap()
    }

    /// As [`next`](Self::next), for a call that the machine waits with.
    pub(crate) async fn next_soon(&mut self) -> Call {
        let _clock = FastClock::start();
        self.next().await
    }

    pub(crate) fn is_quiet(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(mpsc::error::TryRecvError::Empty))
    }
}

impl Call {
    /// The revision that a machine says it has.
    pub(crate) fn since(&self) -> Option<String> {
        let query = self.query.as_deref().unwrap_or_default();
        let since = query.split('&').find_map(|pair| pair.strip_prefix("since="));
        since.map(str::to_owned)
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn answer(self, status: u16, body: impl Into<Bytes>) {
        self.answer_with(status, &[], body);
    }

    pub(crate) fn answer_with(
        self,
        status: u16,
        headers: &[(&'static str, String)],
        body: impl Into<Bytes>,
    ) {
        self.respond(status, headers, whole(body.into()));
    }

    pub(crate) fn refuse(self, status: u16, detail: &str) {
        let problem = Problem { status, detail: detail.to_owned(), ..Problem::default() };
        self.answer(status, serde_json::to_vec(&problem).unwrap());
    }

    /// Begins an answer whose body the test goes on writing.
    pub(crate) fn open(self, status: u16, headers: &[(&'static str, String)]) -> Pipe {
        let (pipe, pieces) = mpsc::unbounded_channel();
        let pieces = stream::unfold(pieces, |mut pieces| async {
            let piece: std::io::Result<Bytes> = pieces.recv().await?;
            Some((piece.map(Frame::data), pieces))
        });
        self.respond(status, headers, BodyExt::boxed(StreamBody::new(pieces)));
        Pipe(pipe)
    }

    fn respond(self, status: u16, headers: &[(&'static str, String)], body: Body) {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        // A machine that has hung up does not hear the answer.
        let _ = self.answer.send(response);
    }
}

impl Pipe {
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(Ok(bytes.into()));
    }

    /// Breaks the stream off.
    pub(crate) fn fail(self) {
        let _ = self.0.send(Err(std::io::Error::other("broken")));
    }

    /// Waits until the machine has closed the stream.
    pub(crate) async fn closed(&self) {
        tokio::time::timeout(DEADLINE, self.0.closed()).await.expect("the machine hangs up");
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the fleet's CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(ca: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone(), ca.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(tls))
}

async fn connection(socket: TcpStream, tls: TlsAcceptor, desk: Desk) {
    // A machine that does not like this control hangs up; that is for the test to see.
    let Ok(socket) = tls.accept(socket).await else { return };
    let has_certificate = socket.get_ref().1.peer_certificates().is_some();
    let service = service_fn(move |request| handle(request, has_certificate, Arc::clone(&desk)));
    let served = auto::Builder::new(TokioExecutor::new());
    let _ = served.serve_connection(TokioIo::new(socket), service).await;
}

async fn handle(
    request: Request<Incoming>,
    has_certificate: bool,
    desk: Desk,
) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (answer, answered) = oneshot::channel();
    // Whom it trusts and which start it is are for other tests.
    let is_told = |pair: &&str| !pair.starts_with("trust=") && !pair.starts_with("instance=");
    let told = |query: &str| query.split('&').filter(is_told).collect::<Vec<_>>().join("&");
    let query = parts.uri.query().map(told);
    let call = Call { query, headers: parts.headers, body, has_certificate, answer };
    let path = parts.uri.path().to_owned();
    let calls = {
        let desk = desk.lock().unwrap();
        desk.iter().find(|(route, _)| path.starts_with(**route)).map(|(_, calls)| calls.clone())
    };
    match calls {
        None if path == REPORT => call.answer(204, Bytes::new()),
        None => call.refuse(503, "nobody is there"),
        Some(calls) => drop(calls.send(call)),
    }
    Ok(answered.await.unwrap_or_else(|_| Response::new(whole(Bytes::new()))))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}
