//! Has an edge served with the new certificate?
//!
//! A CA, or a person, may have made something that no client gets through a handshake with. So one
//! edge is given it first, as a candidate; the fleet gets it when that edge says that it is proven. An
//! edge that says nothing makes way for the next; with no edge here the candidate waits.

use nigh_proto::{
    Digest, MachineName, Timestamp,
    report::{CertificateReport, CertificateStanding},
};

use crate::store::CandidateRow;

/// How long one edge may take.
const PATIENCE_MS: i64 = 60_000;
/// After this long a certificate that was refused is asked for anew.
pub(crate) const REFUSAL_MS: i64 = 6 * 60 * 60 * 1000;

/// An edge that could prove it, and what it last said.
#[derive(Debug)]
pub(crate) struct Prover<'a> {
    pub name: &'a MachineName,
    pub reports: &'a [CertificateReport],
}

/// What is to be done with a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing now; look again by then.
    Wait,
    Ask(MachineName),
    /// The fleet gets it.
    Promote,
    Refuse(String),
    /// It was refused long ago; the next one may be better.
    Forget,
}

/// `provers` are the edges that are here and not drained, by name.
pub(crate) fn next(
    candidate: &CandidateRow,
    fingerprint: Digest,
    provers: &[Prover<'_>],
    now: Timestamp,
) -> Next {
    if candidate.refused.is_some() {
        let is_old = now.ms_since(candidate.created_at) >= REFUSAL_MS;
        return if is_old || candidate.not_after <= now { Next::Forget } else { Next::Wait };
    }
    let Some((asked, since)) = &candidate.asked else {
        return provers.first().map_or(Next::Wait, |prover| Next::Ask(prover.name.clone()));
    };
    let is_this = |report: &&CertificateReport| {
        report.id == candidate.id && report.fingerprint == fingerprint
    };
    let asked_prover = provers.iter().find(|prover| prover.name == asked);
    match asked_prover.and_then(|prover| prover.reports.iter().find(is_this)) {
        Some(CertificateReport { state: CertificateStanding::Refused { reason }, .. }) => {
            Next::Refuse(format!("{asked} could not serve with it: {reason}"))
        }
        Some(_) => Next::Promote,
        None if asked_prover.is_some() && now.ms_since(*since) < PATIENCE_MS => Next::Wait,
        None => {
            let after = provers.iter().find(|prover| prover.name > asked);
            let other = after.or_else(|| provers.first().filter(|first| first.name != asked));
            other.map_or(Next::Wait, |prover| Next::Ask(prover.name.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Source;

    const SECOND: Digest = Digest::from_bytes([2; 32]);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn candidate(asked: Option<&str>) -> CandidateRow {
        CandidateRow {
            id: "site:docs".to_owned(),
            names: Vec::new(),
            chain_pem: String::new(),
            key_pem: String::new(),
            not_before: at(0),
            not_after: at(i64::MAX),
            source: Source::Acme,
            ca: None,
            asked: asked.map(|name| (name.parse().unwrap(), at(0))),
            refused: None,
            created_at: at(0),
        }
    }

    fn says(state: CertificateStanding, fingerprint: Digest) -> Vec<CertificateReport> {
        vec![CertificateReport { id: "site:docs".to_owned(), fingerprint, state }]
    }

    /// The step when these edges are here, of which `ams` said something.
    fn step(asked: Option<&str>, here: &[&str], said: &[CertificateReport], now: i64) -> Next {
        let names: Vec<MachineName> = here.iter().map(|name| name.parse().unwrap()).collect();
        let prover = |name| Prover { name, reports: if *name == names[0] { said } else { &[] } };
        let provers: Vec<Prover<'_>> = names.iter().map(prover).collect();
        next(&candidate(asked), SECOND, &provers, at(now))
    }

    fn ask(name: &str) -> Next {
        Next::Ask(name.parse().unwrap())
    }

    #[test]
    fn one_edge_is_asked_and_its_word_decides() {
        assert_eq!(step(None, &["ams", "fra"], &[], 0), ask("ams"));
        assert_eq!(step(Some("ams"), &["ams", "fra"], &[], PATIENCE_MS - 1), Next::Wait);
        let proven = says(CertificateStanding::Proven, SECOND);
        assert_eq!(step(Some("ams"), &["ams", "fra"], &proven, 1), Next::Promote);
        let reason = "no".to_owned();
        let refused = says(CertificateStanding::Refused { reason }, SECOND);
        assert!(matches!(step(Some("ams"), &["ams"], &refused, 1), Next::Refuse(_)));
    }

    #[test]
    fn what_an_edge_says_of_the_one_before_counts_for_nothing() {
        let earlier = says(CertificateStanding::Served, Digest::from_bytes([1; 32]));
        assert_eq!(step(Some("ams"), &["ams"], &earlier, 1), Next::Wait);
    }

    #[test]
    fn an_edge_that_is_silent_or_gone_makes_way_and_without_any_it_waits() {
        assert_eq!(step(Some("ams"), &["ams", "fra"], &[], PATIENCE_MS), ask("fra"));
        assert_eq!(step(Some("ams"), &["fra"], &[], 1), ask("fra"));
        assert_eq!(step(Some("nyc"), &["ams", "fra"], &[], PATIENCE_MS), ask("ams"));
        assert_eq!(step(Some("ams"), &["ams"], &[], PATIENCE_MS), Next::Wait);
        assert_eq!(step(None, &[], &[], 0), Next::Wait);
    }

    #[test]
    fn a_refused_one_stands_for_a_while() {
        let refused = CandidateRow { refused: Some("no".to_owned()), ..candidate(None) };
        assert_eq!(next(&refused, SECOND, &[], at(REFUSAL_MS - 1)), Next::Wait);
        assert_eq!(next(&refused, SECOND, &[], at(REFUSAL_MS)), Next::Forget);
    }
}
