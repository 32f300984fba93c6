//! How is one delivery made?
//!
//! One request on a connection of its own, to an address that was looked at. Redirects are not
//! followed: they would lead elsewhere. Of the answer only the status counts.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::target::{BadTarget, Target};

/// A delivery from the first look at the name to the end of the answer.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer's body so much is read, so that the receiver is not cut off in the middle.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// One request to be made.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The same for every attempt.
    pub id: String,
    pub unix_s: i64,
    pub signature: String,
    pub body: String,
}

/// Why a delivery was not made. Shown to whoever may see the webhook.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
    #[error("the request cannot be written: {0}")]
    Request(http::Error),
    #[error("the connection broke: {0}")]
    Http(hyper::Error),
    #[error("no answer within {0:?}")]
    Slow(Duration),
}

/// Makes one delivery; any status is an answer.
pub(crate) async fn send(
    url: &str,
    allow_private: bool,
    tls: Arc<rustls::ClientConfig>,
    delivery: &Delivery,
    timeout: Duration,
) -> Result<StatusCode, SendError> {
    let sent = async {
        let target = Target::parse(url, allow_private)?;
        let stream = connect(&target, allow_private).await?;
        if !target.is_tls {
            return exchange(stream, &target, delivery).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| BadTarget::Url)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(SendError::Tls)?;
        exchange(stream, &target, delivery).await
    };
    tokio::time::timeout(timeout, sent).await.map_err(|_| SendError::Slow(timeout))?
}

async fn connect(target: &Target, allow_private: bool) -> Result<TcpStream, SendError> {
    let mut last = None;
    for address in target.resolve(allow_private).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| BadTarget::Nowhere(target.host.clone()).into(), SendError::Connect))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
    delivery: &Delivery,
) -> Result<StatusCode, SendError> {
    let request = Request::post(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("nigh/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .header("webhook-id", &delivery.id)
        .header("webhook-timestamp", delivery.unix_s)
        .header("webhook-signature", &delivery.signature)
        .body(Full::new(Bytes::from(delivery.body.clone())))
        .map_err(SendError::Request)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(SendError::Http)?;
    let answered = async {
        let mut response = sender.send_request(request).await.map_err(SendError::Http)?;
        let mut read = 0;
        while read < ANSWER_MAX_BYTES
            && let Some(Ok(frame)) = response.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(response.status())
    };
    // Dropping both closes the connection, however much there was still to read.
    tokio::select! {
        answer = answered => answer,
        Err(error) = connection => Err(SendError::Http(error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{
        ca::{Authorities, Authority, api_config, certified},
        webhooks::client_config,
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    fn delivery() -> Delivery {
        Delivery {
            id: "hook_1_7".to_owned(),
            unix_s: 1,
            signature: "v1,x".to_owned(),
            body: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_receiver_that_never_answers_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let silent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            heard
        });
        let tls = client_config(None).unwrap();
        let sent = send(&url, true, tls, &delivery(), Duration::from_millis(200)).await;
        assert!(matches!(sent, Err(SendError::Slow(_))), "{sent:?}");
        // The connection is closed, and this is what was asked.
        let heard = tokio::time::timeout(PATIENCE, silent).await.unwrap().unwrap();
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("POST / HTTP/1.1\r\n") && heard.ends_with("\r\n\r\n{}"));
        assert!(heard.contains("webhook-id: hook_1_7\r\n"), "{heard}");
    }

    #[tokio::test]
    async fn a_private_authority_is_believed_only_when_it_is_named() {
        let now = std::time::SystemTime::now().into();
        let authority =
            Authorities::open(vec![Authority::generate(1, None, now).unwrap()]).unwrap();
        let own = authority.issue(&["localhost".to_owned()], now).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(api_config(certified(&own).unwrap()).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = [0; 16];
                let _ = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        let unknown = client_config(None).unwrap();
        let refused = send(&url, true, unknown, &delivery(), PATIENCE).await;
        assert!(matches!(refused, Err(SendError::Tls(_))), "{refused:?}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, authority.bundle_pem()).unwrap();
        let known = client_config(Some(&file)).unwrap();
        let sent = send(&url, true, Arc::clone(&known), &delivery(), PATIENCE).await;
        assert_eq!(sent.unwrap(), StatusCode::NO_CONTENT);
        // A name that resolves to a private address is looked at when it is connected to.
        let private = send(&url, false, known, &delivery(), PATIENCE).await;
        assert!(matches!(private, Err(SendError::Target(BadTarget::Private(_)))), "{private:?}");
    }
}
