//! Which of control's CAs signs what, and which are trusted, while they are being rotated?
//!
//! A new CA is `next` first: machines come to trust it and get their certificates from it, while
//! control's own are still those of the `current` one. Then it is `current`, and the one before is
//! `retired`: it signs nothing, and is trusted until nobody needs it. Whoever trusts only a retired
//! CA still believes control, since every CA is signed by the one before it as well and control
//! shows these cross certificates.

use nigh_proto::{Digest, Timestamp, api::AuthorityStage};

use super::{Authority, CaError, Identity, Issued, MachineCertificate, fingerprint, read};
use crate::store::AuthorityRow;

/// Every CA that is trusted, and those that sign.
#[derive(Debug)]
pub(crate) struct Authorities {
    /// The newest first.
    rows: Vec<AuthorityRow>,
    current: Authority,
    current_name: String,
    signer_name: String,
    next: Option<Authority>,
    /// Of the newest that control's own certificates come from.
    fingerprint: Digest,
}

impl Authorities {
    /// From the rows of the database, the newest first.
    pub(crate) fn open(rows: Vec<AuthorityRow>) -> Result<Self, CaError> {
        let at = |stage| rows.iter().find(|row: &&AuthorityRow| row.stage == stage);
        let row = at(AuthorityStage::Current).ok_or(CaError::NoAuthority)?;
        let name_of = |row: &AuthorityRow| {
            read(&row.certificate_pem).map(|read| read.subject).ok_or(CaError::Damaged)
        };
        let current_name = name_of(row)?;
        let next = at(AuthorityStage::Next);
        let signer_name = next.map_or(Ok(current_name.clone()), name_of)?;
        Ok(Self {
            current: Authority::open(row)?,
            current_name,
            signer_name,
            fingerprint: fingerprint(&row.certificate_pem)?,
            next: next.map(Authority::open).transpose()?,
            rows,
        })
    }

    pub(crate) fn rows(&self) -> &[AuthorityRow] {
        &self.rows
    }

    /// What clients and machines are to trust, PEM.
    pub(crate) fn bundle_pem(&self) -> String {
        self.rows.iter().map(|row| row.certificate_pem.as_str()).collect()
    }

    /// The CA that control's own certificates come from, as a new machine pins it.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    pub(crate) fn current_name(&self) -> &str {
        &self.current_name
    }

    /// Whether the CA called `name` is trusted.
    pub(crate) fn is_trusted(&self, name: &str) -> bool {
        let subjects = self.rows.iter().filter_map(|row| read(&row.certificate_pem));
        subjects.into_iter().any(|found| found.subject == name)
    }

    /// The name of the CA that machines' certificates come from.
    pub(crate) fn signer_name(&self) -> &str {
        &self.signer_name
    }

    /// A server certificate with the chain to every CA that is trusted.
    pub(crate) fn issue(&self, names: &[String], now: Timestamp) -> Result<Issued, CaError> {
        let mut issued = self.current.issue(names, now)?;
        // That of the oldest would lead to a CA that is trusted no more.
        let settled: Vec<_> = self.settled().collect();
        for row in &settled[..settled.len().saturating_sub(1)] {
            issued.chain_pem.push_str(&row.cross_pem);
        }
        Ok(issued)
    }

    /// As [`issue`](Self::issue), with the CAs themselves behind it: a machine that was told only
    /// the fingerprint of one finds it there.
    pub(crate) fn issue_own(&self, names: &[String], now: Timestamp) -> Result<Issued, CaError> {
        let mut issued = self.issue(names, now)?;
        for row in self.settled() {
            issued.chain_pem.push_str(&row.certificate_pem);
        }
        Ok(issued)
    }

    /// A machine's certificate, of the newest CA that there is.
    pub(crate) fn sign_machine(
        &self,
        csr_pem: &str,
        machine: &Identity,
        lifetime_ms: u64,
        now: Timestamp,
    ) -> Result<MachineCertificate, CaError> {
        let signer = self.next.as_ref().unwrap_or(&self.current);
        signer.sign_machine(csr_pem, machine, lifetime_ms, now)
    }

    /// All but the next one, the newest first.
    fn settled(&self) -> impl Iterator<Item = &AuthorityRow> {
        self.rows.iter().filter(|row| row.stage != AuthorityStage::Next)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    };
    use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1_790_000_000_000)
    }

    fn at(row: &AuthorityRow, stage: AuthorityStage) -> AuthorityRow {
        AuthorityRow { stage, ..row.clone() }
    }

    /// Whether a client that trusts `roots` alone believes `issued`.
    fn is_believed(issued: &Issued, roots: &str) -> bool {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        let time = Duration::from_millis(now().unix_ms().unsigned_abs());
        let name = "control.test".try_into().unwrap();
        let verifier = verifier.build().unwrap();
        let time = UnixTime::since_unix_epoch(time);
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], time).is_ok()
    }

    #[test]
    fn whoever_trusts_any_ca_of_a_row_of_rotations_believes_control() {
        use AuthorityStage::{Current, Next, Retired};
        let one = Authority::generate(1, None, now()).unwrap();
        let two = Authority::generate(2, Some(&Authority::open(&one).unwrap()), now()).unwrap();
        let three = Authority::generate(3, Some(&Authority::open(&two).unwrap()), now()).unwrap();
        let names = ["control.test".to_owned()];
        let stages = [
            (vec![at(&one, Current)], [true, false, false]),
            (vec![at(&two, Next), at(&one, Current)], [true, false, false]),
            (vec![at(&two, Current), at(&one, Retired)], [true, true, false]),
            (vec![at(&two, Current)], [false, true, false]),
            (vec![at(&three, Current), at(&two, Retired), at(&one, Retired)], [true, true, true]),
        ];
        for (rows, believed) in stages {
            let authorities = Authorities::open(rows).unwrap();
            let issued = authorities.issue_own(&names, now()).unwrap();
            let found = [&one, &two, &three].map(|row| is_believed(&issued, &row.certificate_pem));
            assert_eq!(found, believed, "{:?}", authorities.rows());
            assert!(is_believed(&issued, &authorities.bundle_pem()));
        }
        let stranger = Authority::generate(1, None, now()).unwrap();
        let issued = Authorities::open(vec![at(&one, Current)]).unwrap();
        let issued = issued.issue(&names, now()).unwrap();
        assert!(!is_believed(&issued, &stranger.certificate_pem));
    }

    #[test]
    fn machines_move_to_the_next_ca_before_anything_else_does() {
        let one = Authority::generate(1, None, now()).unwrap();
        let two = Authority::generate(2, Some(&Authority::open(&one).unwrap()), now()).unwrap();
        let authorities = Authorities::open(vec![two, one]).unwrap();
        assert_eq!(authorities.signer_name(), "nigh control CA 2");
        assert_eq!(authorities.current_name(), "nigh control CA 1");
        assert!(authorities.is_trusted("nigh control CA 2"));
        assert!(!authorities.is_trusted("nigh control CA 3"));
    }

    #[test]
    fn without_a_current_ca_nothing_is_signed() {
        assert!(matches!(Authorities::open(Vec::new()), Err(CaError::NoAuthority)));
    }
}
