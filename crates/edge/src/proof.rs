//! Would a visitor get through a handshake with this certificate?
//!
//! A client and a server shake hands in memory, for every name, the server with the very
//! configuration that visitors meet. Whether visitors trust the authority that signed is not asked:
//! the chain is followed as far as it was sent, so that one of a private authority is proven too.

use std::{io, sync::Arc};

use nigh_proto::{Digest, Timestamp, state::Certificate, zone::DnsName};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, ParsedCertificate},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};

use crate::{
    certificates::{self, BadCertificate, Certificates, Keyring},
    tls,
};

/// How often the two ends hand bytes over before it is no handshake any more.
const FLIGHTS_MAX: usize = 16;

/// Why visitors would not get through with a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("it cannot be read")]
    Read(#[from] BadCertificate),
    #[error("it is for no name")]
    NoName,
    #[error("{name} is no name of a server")]
    Name { name: DnsName },
    #[error("a client that asks for {name} does not accept it")]
    Client { name: DnsName, source: rustls::Error },
    #[error("a server that has it fails for {name}")]
    Server { name: DnsName, source: rustls::Error },
    #[error("the handshake for {name} does not end")]
    Endless { name: DnsName },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// BLAKE3 of the leaf; of the text when there is no leaf in it.
pub(crate) fn fingerprint(certificate: &Certificate) -> Digest {
    let text = certificate.chain_pem.as_bytes();
    match CertificateDer::from_pem_slice(text) {
        Ok(leaf) => Digest::of(&leaf),
        Err(_) => Digest::of(text),
    }
}

/// Shakes hands for every name of `certificate`, at the time `now`. Takes a millisecond or so for
/// each, of a thread that may be busy.
pub(crate) fn prove(certificate: &Certificate, now: Timestamp) -> Result<(), ProofError> {
    let certificates = Certificates::only(certificate)?;
    let chain = certificates::chain(certificate)?;
    let keyring = Keyring::default();
    keyring.replace(certificates);
    let mut server = tls::without_tickets(keyring)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let (server, client) = (Arc::new(server), Arc::new(client(chain, now)?));
    if certificate.names.is_empty() {
        return Err(ProofError::NoName);
    }
    certificate.names.iter().try_for_each(|name| shake(&server, &client, name))
}

/// Both ends of one handshake.
fn shake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &DnsName,
) -> Result<(), ProofError> {
    // A wildcard stands for every label; clients never say the star.
    let asked = name.as_str().replacen("*.", "any-label.", 1);
    let asked = ServerName::try_from(asked).map_err(|_| ProofError::Name { name: name.clone() })?;
    let of_client = |source| ProofError::Client { name: name.clone(), source };
    let of_server = |source| ProofError::Server { name: name.clone(), source };
    let mut client = ClientConnection::new(Arc::clone(client), asked).map_err(of_client)?;
    let mut server = ServerConnection::new(Arc::clone(server)).map_err(of_server)?;
    for _ in 0..FLIGHTS_MAX {
        hand_over(&mut client, &mut server);
        server.process_new_packets().map_err(of_server)?;
        hand_over(&mut server, &mut client);
        client.process_new_packets().map_err(of_client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err(ProofError::Endless { name: name.clone() })
}

/// Moves what one end has to say to the other. Memory does not fail; what does not fit is left for
/// the next flight.
fn hand_over<A, B>(from: &mut rustls::ConnectionCommon<A>, to: &mut rustls::ConnectionCommon<B>) {
    let mut flight = Vec::new();
    while from.wants_write() {
        if from.write_tls(&mut flight).is_err() {
            break;
        }
    }
    let mut rest = io::Cursor::new(flight);
    while to.wants_read() && matches!(to.read_tls(&mut rest), Ok(read) if read > 0) {}
}

fn client(chain: Vec<CertificateDer<'static>>, now: Timestamp) -> Result<ClientConfig, ProofError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Exactly { chain, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(At(now)))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Whether a leaf is at fault that nobody else says anything about.
fn is_about_itself(error: &CertificateError) -> bool {
    use CertificateError::{
        BadEncoding, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext,
    };
    matches!(
        error,
        BadEncoding
            | Expired
            | ExpiredContext { .. }
            | NotValidForName
            | NotValidForNameContext { .. }
            | NotValidYet
            | NotValidYetContext { .. }
    )
}

#[derive(Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let since = u64::try_from(self.0.unix_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(since)))
    }
}

/// Accepts one chain, if it holds together.
#[derive(Debug)]
struct Exactly {
    chain: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    /// Time, names and signatures, with the end of the chain as the authority.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.chain.iter().eq([leaf].into_iter().chain(others)) {
            return Err(rustls::Error::General("another certificate is shown".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        roots.add(others.last().unwrap_or(leaf).clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        );
        let verifier =
            verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        match verifier.verify_server_cert(leaf, others, name, ocsp, now) {
            // Nobody can say who signed a leaf that comes alone, or whether one that signed itself
            // may be an authority too. Its times come first, so they were found good.
            Err(rustls::Error::InvalidCertificate(error))
                if others.is_empty() && !is_about_itself(&error) =>
            {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::report::CertificateStanding::{Refused, Served};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        params
    }

    fn authority(name: &str) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.self_signed(&key).unwrap(), Issuer::new(params, key))
    }

    /// A certificate for `names` as it is after `change`, signed by an authority that it brings.
    fn signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let (authority, issuer) = authority("authority");
        let key = KeyPair::generate().unwrap();
        let mut params = params(names);
        change(&mut params);
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Certificate {
            id: "site:docs".to_owned(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            chain_pem: leaf.pem() + &authority.pem(),
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_unix_ms(4_000_000_000_000),
        }
    }

    fn good() -> Certificate {
        signed(&["docs.test", "*.docs.test"], |_| {})
    }

    /// The first certificate of the chain alone.
    fn leaf_alone(certificate: &Certificate) -> Certificate {
        let end = "-----END CERTIFICATE-----";
        let leaf = certificate.chain_pem.split_inclusive(end).next().unwrap().to_owned() + "\n";
        Certificate { chain_pem: leaf, ..certificate.clone() }
    }

    #[test]
    fn what_visitors_could_use_is_proven() {
        prove(&good(), now()).unwrap();
        prove(&leaf_alone(&good()), now()).unwrap();
        let (own, issuer) = authority("openssl req -x509");
        let own_names =
            Certificate { chain_pem: own.pem(), key_pem: issuer.key().serialize_pem(), ..good() };
        let error = prove(&own_names, now()).unwrap_err();
        assert!(matches!(error, ProofError::Client { .. }), "it has no names: {error}");
    }

    #[test]
    fn what_visitors_could_not_use_is_refused_and_told_why() {
        let other_key = Certificate { key_pem: good().key_pem, ..good() };
        let other_name = Certificate { names: vec!["www.test".parse().unwrap()], ..good() };
        let ended = signed(&["docs.test"], |params| params.not_after = date_time_ymd(2026, 1, 30));
        let early = signed(&["docs.test"], |params| params.not_before = date_time_ymd(2026, 2, 1));
        let (stranger, _) = authority("stranger");
        let whole = good();
        let chain_pem = leaf_alone(&whole).chain_pem + &stranger.pem();
        let torn = Certificate { chain_pem, ..whole };
        let no_key = Certificate { key_pem: String::new(), ..good() };
        let no_chain = Certificate { chain_pem: String::new(), ..good() };
        let no_names = Certificate { names: Vec::new(), ..good() };
        for (bad, why) in [
            (other_key, "does not fit"),
            (other_name, "www.test does not accept it: invalid peer certificate"),
            (ended.clone(), "expired"),
            (leaf_alone(&ended), "expired"),
            (early, "not valid yet"),
            (torn, "docs.test does not"),
            (no_key, "not PEM"),
            (no_chain, "no certificate"),
            (no_names, "no name"),
        ] {
            let error = prove(&bad, now()).unwrap_err();
            let error = nigh_daemon::logging::causes(&error);
            assert!(error.contains(why), "{why} is not in {error:?}");
        }
    }

    #[test]
    fn one_that_cannot_be_used_does_not_replace_one_that_can() {
        let (old, new) = (good(), good());
        let ended = signed(&["docs.test"], |params| params.not_after = date_time_ymd(2026, 1, 30));
        let shown = |certificates: &Certificates| certificates.shown().cloned().collect::<Vec<_>>();
        let (first, reports) = Certificates::default().next(std::slice::from_ref(&old), now());
        assert_eq!((shown(&first), &reports[0].state), (vec![old.clone()], &Served));
        let (second, reports) = first.next(std::slice::from_ref(&ended), now());
        assert_eq!(shown(&second), std::slice::from_ref(&old));
        assert!(matches!(&reports[0].state, Refused { reason } if reason.contains("expired")));
        assert_eq!(reports[0].fingerprint, fingerprint(&ended));
        let (third, reports) = second.next(std::slice::from_ref(&new), now());
        assert_eq!((shown(&third), &reports[0].state), (vec![new.clone()], &Served));
        assert_ne!(fingerprint(&new), fingerprint(&old));
        assert!(third.next(&[], now()).0.find("docs.test").is_none());
    }
}
