//! What do visitors meet when they open a TLS connection?

use std::sync::Arc;

use rustls::{ServerConfig, crypto::aws_lc_rs};

use crate::{certificates::Keyring, tickets::Tickets};

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, resumption by tickets that every edge can read.
pub(crate) fn server_config(
    keyring: Keyring,
    tickets: Tickets,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = without_tickets(keyring)?;
    config.ticketer = Arc::new(tickets);
    Ok(config)
}

/// The same for connections that nobody comes back to.
pub(crate) fn without_tickets(keyring: Keyring) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(keyring));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use nigh_daemon::Clock;
    use nigh_proto::{
        Timestamp,
        report::CertificateStanding::{Refused, Served},
        state::Certificate,
    };
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    use super::*;
    use crate::certificates::Certificates;

    const NAME: &str = "docs.nigh.test";

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn certificate(names: &[&str]) -> (Certificate, rcgen::Certificate) {
        let key = rcgen::KeyPair::generate().unwrap();
        let sans: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::CertificateParams::new(sans).unwrap().self_signed(&key).unwrap();
        let certificate = Certificate {
            id: format!("site:{}", names[0]),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            chain_pem: made.pem(),
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_unix_ms(4_000_000_000_000),
        };
        (certificate, made)
    }

    type Ends = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

    /// Both ends of a connection of a client that trusts `trusted` alone, remembering nothing.
    async fn shake(acceptor: &TlsAcceptor, trusted: &rcgen::Certificate) -> Option<Ends> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = duplex(16_384);
        let name = NAME.try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (client, server) = tokio::join!(connector.connect(name, far), acceptor.accept(near));
        Some((client.ok()?, server.ok()?))
    }

    #[tokio::test]
    async fn a_certificate_is_replaced_while_connections_are_open() {
        let (old, trusts_old) = certificate(&[NAME]);
        let (new, trusts_new) = certificate(&[NAME]);
        let keyring = Keyring::default();
        let tickets = Tickets::new(Clock::system()).unwrap();
        let config = server_config(keyring.clone(), tickets).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let show = |certificate| {
            let (next, reports) = keyring.current().next(&[certificate], now());
            assert_eq!(reports[0].state, Served);
            keyring.replace(next);
        };
        assert!(shake(&acceptor, &trusts_old).await.is_none(), "there is none yet");
        show(old);
        let (mut client, mut server) = shake(&acceptor, &trusts_old).await.unwrap();
        show(new);
        assert!(shake(&acceptor, &trusts_old).await.is_none(), "the old one is shown no more");
        shake(&acceptor, &trusts_new).await.unwrap();
        client.write_all(b"still here").await.unwrap();
        client.flush().await.unwrap();
        let mut heard = [0; 10];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"still here");
    }

    #[test]
    fn one_that_cannot_be_read_does_not_take_the_others_with_it() {
        let (good, _) = certificate(&[NAME, "*.previews.test"]);
        let (mut bad, _) = certificate(&["bad.test"]);
        bad.key_pem = good.key_pem.replace('A', "B");
        let (certificates, reports) = Certificates::default().next(&[bad, good], now());
        assert!(matches!(reports[0].state, Refused { .. }));
        assert_eq!(reports[1].state, Served);
        assert!(certificates.find("bad.test").is_none());
        assert!(certificates.cover_both(NAME, "a.previews.test"));
        assert!(!certificates.cover_both(NAME, "a.b.previews.test"));
        assert!(!certificates.cover_both(NAME, "bad.test"));
    }
}
