//! What does this edge prove itself with, and what does control hear of it?
//!
//! Certificates are shown, candidates only proven; keys of session tickets are taken over. Reading
//! and proving keeps a core busy, so it is done where nobody waits, and only for what is new.

use std::sync::Arc;

use nigh_daemon::Clock;
use nigh_proto::{
    Timestamp,
    report::{CertificateReport, CertificateStanding},
    state::{Certificate, EdgeState, TicketKey},
};
use tokio::task::spawn_blocking;

use crate::{
    certificates::{self, Keyring},
    edge::Edge,
    metrics::Metrics,
    proof,
    tickets::Tickets,
};

/// What was made of the last state.
pub(crate) struct Credentials {
    keyring: Keyring,
    tickets: Tickets,
    metrics: Arc<Metrics>,
    clock: Clock,
    wanted: Vec<Certificate>,
    candidates: Vec<Certificate>,
    ticket_keys: Vec<TicketKey>,
    shown: Vec<CertificateReport>,
    proofs: Vec<CertificateReport>,
}

impl Credentials {
    pub(crate) fn new(edge: &Edge) -> Self {
        Credentials {
            keyring: edge.keyring.clone(),
            tickets: edge.tickets.clone(),
            metrics: Arc::clone(&edge.metrics),
            clock: edge.clock.clone(),
            wanted: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            shown: Vec::new(),
            proofs: Vec::new(),
        }
    }

    /// Candidates first: a report that is short of space keeps those.
    pub(crate) fn reports(&self) -> Vec<CertificateReport> {
        self.proofs.iter().chain(&self.shown).cloned().collect()
    }

    /// Makes `state` count.
    pub(crate) async fn take(&mut self, state: &EdgeState) {
        if self.ticket_keys != state.ticket_keys {
            self.tickets.replace(&state.ticket_keys);
            self.ticket_keys.clone_from(&state.ticket_keys);
        }
        if self.wanted != state.certificates {
            self.wanted.clone_from(&state.certificates);
            let (keyring, wanted) = (self.keyring.clone(), self.wanted.clone());
            let now = self.clock.now().into();
            let shown = spawn_blocking(move || show(&keyring, &wanted, now)).await;
            self.shown = shown.unwrap_or_default();
            self.show_ends();
        }
        if self.candidates != state.candidates {
            self.prove(&state.candidates).await;
        }
    }

    /// Keeps what was found out about candidates that are still there.
    async fn prove(&mut self, candidates: &[Certificate]) {
        let known = self.candidates.iter().zip(&self.proofs);
        let known: Vec<_> = known.map(|(one, proof)| (one.clone(), proof.clone())).collect();
        self.candidates = candidates.to_vec();
        let (candidates, now) = (self.candidates.clone(), self.clock.now().into());
        let proofs = spawn_blocking(move || {
            let report = |candidate: &Certificate| {
                let before = known.iter().find(|(one, _)| one == candidate);
                before.map_or_else(|| report(candidate, now), |(_, proof)| proof.clone())
            };
            candidates.iter().map(report).collect()
        });
        self.proofs = proofs.await.unwrap_or_default();
    }

    fn show_ends(&self) {
        let not_after = &self.metrics.certificate_not_after;
        not_after.clear();
        for certificate in self.keyring.current().shown() {
            for name in &certificate.names {
                let gauge = not_after.get_or_create(&vec![("name", name.to_string())]).clone();
                gauge.set(certificate.not_after.unix_ms() / 1000);
            }
        }
    }
}

fn show(keyring: &Keyring, wanted: &[Certificate], now: Timestamp) -> Vec<CertificateReport> {
    let (next, reports) = keyring.current().next(wanted, now);
    keyring.replace(next);
    reports
}

fn report(candidate: &Certificate, now: Timestamp) -> CertificateReport {
    let id = &candidate.id;
    let standing = match proof::prove(candidate, now) {
        Ok(()) => {
            tracing::info!(id, "a certificate is proven");
            CertificateStanding::Proven
        }
        Err(error) => {
            let reason = nigh_daemon::logging::causes(&error);
            tracing::error!(id, reason, "a new certificate cannot be used");
            CertificateStanding::Refused { reason }
        }
    };
    certificates::report(candidate, standing)
}

#[cfg(test)]
mod tests {
    use CertificateStanding::{Proven, Refused, Served};
    use prometheus_client::registry::Registry;
    use rustls::server::ProducesTickets;

    use super::*;

    fn certificate(id: &str) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let name = format!("{id}.test");
        let made = rcgen::CertificateParams::new([name.clone()]).unwrap().self_signed(&key);
        Certificate {
            id: id.to_owned(),
            names: vec![name.parse().unwrap()],
            chain_pem: made.unwrap().pem(),
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_unix_ms(4_000_000_000_000),
        }
    }

    fn state() -> EdgeState {
        EdgeState {
            fleet: None,
            revision: nigh_proto::state::Revision(1),
            machine: "fra1".parse().unwrap(),
            region: "eu".parse().unwrap(),
            sites: Vec::new(),
            certificates: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            http_challenges: Vec::new(),
            peers: Vec::new(),
        }
    }

    fn credentials() -> Credentials {
        let clock = Clock::system();
        Credentials {
            keyring: Keyring::default(),
            tickets: Tickets::new(clock.clone()).unwrap(),
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
            clock,
            wanted: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            shown: Vec::new(),
            proofs: Vec::new(),
        }
    }

    fn told(credentials: &Credentials) -> Vec<(String, CertificateStanding)> {
        credentials.reports().into_iter().map(|report| (report.id, report.state)).collect()
    }

    #[tokio::test]
    async fn a_candidate_is_proven_and_only_then_shown() {
        let mut credentials = credentials();
        let (docs, blog) = (certificate("docs"), certificate("blog"));
        let broken = Certificate { key_pem: docs.key_pem.clone(), ..certificate("broken") };
        let mut state = EdgeState {
            certificates: vec![blog],
            candidates: vec![broken, docs.clone()],
            ..state()
        };
        credentials.take(&state).await;
        let told_first = told(&credentials);
        assert!(
            matches!(&told_first[0], (id, Refused { reason }) if id == "broken" && reason.contains("key"))
        );
        assert_eq!(told_first[1..], [("docs".to_owned(), Proven), ("blog".to_owned(), Served)]);
        assert!(credentials.keyring.current().find("docs.test").is_none());

        state.candidates.clear();
        state.certificates.push(docs.clone());
        credentials.take(&state).await;
        assert_eq!(told(&credentials), [("blog".to_owned(), Served), ("docs".to_owned(), Served)]);
        let shown = credentials.keyring.current().find("docs.test").cloned().unwrap();
        let fingerprint = nigh_proto::Digest::of(&shown.cert[0]);
        assert_eq!(credentials.reports()[1].fingerprint, fingerprint);
    }

    #[tokio::test]
    async fn the_keys_of_a_state_seal_tickets_from_then_on() {
        let (mut one, mut other) = (credentials(), credentials());
        let key = TicketKey {
            name: "0f".repeat(16),
            key: "1e".repeat(32),
            not_after: Timestamp::from_unix_ms(4_000_000_000_000),
        };
        let state = EdgeState { ticket_keys: vec![key], ..state() };
        let before = one.tickets.encrypt(b"session").unwrap();
        one.take(&state).await;
        other.take(&state).await;
        let after = one.tickets.encrypt(b"session").unwrap();
        assert_eq!(other.tickets.decrypt(&before), None);
        assert!(other.tickets.decrypt(&after).is_some());
        assert!(one.tickets.decrypt(&before).is_some(), "sessions of its own go on");
    }
}
