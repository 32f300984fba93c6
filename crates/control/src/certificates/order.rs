//! How does one certificate come to be?
//!
//! What could fail is looked at before the CA hears of it; then the order, the answers, the CA's look
//! at them, the certificate, and a last look at what came back. An order that a restart interrupts
//! goes on where it was, and every failure is remembered where `limits` finds it.

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, CertificateIdentifier, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use nigh_proto::{
    Timestamp,
    zone::{DnsName, RecordData},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::{
    account::{self, with_nonces},
    caa, challenges, confirm,
    inspect::{inspect, leaf_der},
    issuers::Issuer,
    limits::{self, Event, EventKind, SetbackKind},
    lookup::Resolver,
    plan::Request,
    trouble::{Fault, of_problem, of_whole_ca},
};
use crate::{
    app::App,
    store::{CandidateRow, CertificateRow, ChallengeKind, OrderRow, Source},
};

/// An order that was begun before is taken up again until it is this old; CAs forget them after a week.
const RESUME_MS: i64 = 3 * 24 * 60 * 60 * 1000;
/// How a CA that is busy with an order is asked.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(200))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// One request at one CA.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) app: App,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) request: Request,
    /// What is served now, if anything.
    pub(crate) current: Option<CertificateRow>,
}

impl Errand {
    /// Gets the certificate and leaves it as a candidate.
    pub(crate) async fn run(&self) -> Result<(), Fault> {
        let done = self.try_run().await;
        // Whatever became of it: machines need not answer any longer.
        let hidden = challenges::hide(&self.app, &self.request.id).await;
        done?;
        hidden
    }

    async fn try_run(&self) -> Result<(), Fault> {
        let account = account::account(&self.app, &self.issuer).await?;
        self.check_caa(&account).await?;
        self.rehearse().await?;
        let (mut order, mut row) = self.open(&account).await?;
        let done = self.carry(&mut order, &mut row).await;
        if let Err(fault) = &done {
            // Worth going on with only when nothing was decided against it.
            if order.state().status == OrderStatus::Invalid || fault.is_about_names() {
                self.end().await?;
            }
        }
        done
    }

    fn zones(&self) -> Vec<DnsName> {
        self.app.effective().settings.zones.iter().map(|zone| zone.name.clone()).collect()
    }

    fn of_ca(&self, error: &instant_acme::Error) -> Fault {
        Fault::of_ca(error, &self.issuer, &self.request.names)
    }

    /// Whether the owners of the domains let this CA issue. What cannot be looked up is left to it.
    async fn check_caa(&self, account: &Account) -> Result<(), Fault> {
        let identities = self.issuer.caa_identities().await?;
        if identities.is_empty() {
            return Ok(());
        }
        let effective = self.app.effective();
        let resolver = Resolver::new(&effective.config.certificates.resolvers).await;
        let zones = self.zones();
        let mut known: Vec<(DnsName, Vec<nigh_proto::zone::Caa>)> = Vec::new();
        let mut forbidden = Vec::new();
        for name in &self.request.names {
            for place in caa::climb(name) {
                let found = known.iter().find(|(known, _)| *known == place);
                let records = match found {
                    Some((_, records)) => records.clone(),
                    None => {
                        let own = super::own_zone(&place, &zones);
                        let records = match own {
                            Some(_) => own_caa(&effective.settings.zones, &place),
                            None => resolver.caa(&place).await.unwrap_or_default(),
                        };
                        known.push((place, records.clone()));
                        records
                    }
                };
                if records.is_empty() {
                    continue;
                }
                let method = challenges::kind_for(name, &zones).method();
                let account = Some(account.id());
                let issuer = caa::Issuer { identities: &identities, account, method };
                if let Err(caa::Forbidden(why)) = caa::permits(name, &records, issuer) {
                    forbidden.push((name.clone(), why));
                }
                break;
            }
        }
        match forbidden.is_empty() {
            true => Ok(()),
            false => Err(Fault::of_names(forbidden, SetbackKind::Refused)),
        }
    }

    /// Asks hosts whose DNS is elsewhere what only this fleet can answer, before the CA asks them.
    async fn rehearse(&self) -> Result<(), Fault> {
        let zones = self.zones();
        let is_elsewhere =
            |name: &&DnsName| challenges::kind_for(name, &zones) == ChallengeKind::Http;
        let hosts = self.request.names.iter().filter(is_elsewhere);
        let rows: Vec<_> =
            hosts.map(|host| challenges::rehearsal(&self.request.id, host)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let revision = challenges::show(&self.app, &rows).await?;
        confirm::seen(&self.app, &self.request.id, &rows, revision).await
    }

    /// The order that was begun before, or a new one.
    async fn open(&self, account: &Account) -> Result<(Order, OrderRow), Fault> {
        if let Some(row) = self.app.store().acme_order(&self.request.id).await? {
            let is_same = row.ca == self.issuer.url() && row.names == self.request.names;
            let is_fresh = self.app.now().ms_since(row.created_at) < RESUME_MS;
            if is_same && is_fresh {
                let found = with_nonces!(account.order(row.url.clone()).await);
                if let Ok(mut order) = found
                    && is_open(order.state().status, row.key_pem.is_some())
                {
                    return Ok((order, row));
                }
            }
            self.end().await?;
        }
        let order = self.begin(account).await?;
        let row = OrderRow {
            id: self.request.id.clone(),
            ca: self.issuer.url().to_owned(),
            names: self.request.names.clone(),
            url: order.url().to_owned(),
            key_pem: None,
            created_at: self.app.now(),
        };
        self.save(&row).await?;
        Ok((order, row))
    }

    async fn begin(&self, account: &Account) -> Result<Order, Fault> {
        let ca = self.issuer.url();
        let directory = self.issuer.directory().await?;
        let profile = self.issuer.profile().await?;
        // Counted before it is asked for: a crash must not make it free.
        let order = EventKind::Order;
        let event =
            Event { ca: ca.to_owned(), kind: order, subject: String::new(), at: self.app.now() };
        let mut tx = self.app.store().begin().await?;
        tx.insert_event(&event).await?;
        tx.commit().await?;
        let names = self.request.names.iter();
        let identifiers: Vec<_> = names.map(|name| Identifier::Dns(name.to_string())).collect();
        let replaces = self.replaces(directory.has_renewal_info);
        let mut made =
            with_nonces!(new_order(account, &identifiers, profile, replaces.as_ref()).await);
        if replaces.is_some() && made.as_ref().is_err_and(is_about_replaced) {
            made = with_nonces!(new_order(account, &identifiers, profile, None).await);
        }
        if let Err(error) = &made {
            account::forget_if_gone(&self.app, &self.issuer, error).await?;
        }
        made.map_err(|error| self.of_ca(&error))
    }

    /// What the new certificate takes the place of, where the CA wants to know (RFC 9773, section 5).
    fn replaces(&self, has_renewal_info: bool) -> Option<CertificateIdentifier<'static>> {
        let current = self.current.as_ref()?;
        let is_from_here = current.ca.as_deref() == Some(self.issuer.url());
        if !has_renewal_info || !is_from_here {
            return None;
        }
        identifier(&current.chain_pem)
    }

    async fn carry(&self, order: &mut Order, row: &mut OrderRow) -> Result<(), Fault> {
        let (id, names, zones) = (&self.request.id, &self.request.names, self.zones());
        if order.state().status == OrderStatus::Pending {
            let rows = challenges::gather(order, id, names, &zones, &self.issuer).await?;
            if !rows.is_empty() {
                let revision = challenges::show(&self.app, &rows).await?;
                confirm::seen(&self.app, id, &rows, revision).await?;
                challenges::tell(order, names, &zones, &self.issuer).await?;
            }
            let ready = with_nonces!(order.poll_ready(&POLL).await);
            if !matches!(ready, Ok(OrderStatus::Ready)) {
                return Err(self.not_ready(order, ready.err()).await);
            }
        }
        let key = match &row.key_pem {
            Some(pem) => KeyPair::from_pem(pem),
            None => KeyPair::generate(),
        };
        let key = key.map_err(|error| of_whole_ca(format!("no key could be made: {error}")))?;
        if order.state().status == OrderStatus::Ready {
            row.key_pem = Some(key.serialize_pem());
            self.save(row).await?;
            let csr = csr(names, &key)?;
            with_nonces!(order.finalize_csr(&csr).await).map_err(|error| self.of_ca(&error))?;
        }
        let chain = with_nonces!(order.poll_certificate(&POLL).await);
        self.keep(chain.map_err(|error| self.of_ca(&error))?, key.serialize_pem()).await
    }

    /// What it was that the CA could not validate.
    async fn not_ready(&self, order: &mut Order, error: Option<instant_acme::Error>) -> Fault {
        let failures = challenges::failures(order).await;
        if !failures.is_empty() {
            let Fault::Troubles { troubles, .. } = Fault::of_names(failures, SetbackKind::Failed)
            else {
                unreachable!("names have troubles");
            };
            return Fault::Troubles { troubles, is_counted: true };
        }
        match error {
            Some(instant_acme::Error::Api(problem)) => {
                let troubles = of_problem(&problem, &self.request.names, None);
                Fault::Troubles { troubles, is_counted: true }
            }
            Some(error) => self.of_ca(&error),
            None => of_whole_ca("the CA gave the order up and does not say why".to_owned()),
        }
    }

    /// Looks at what came back, and leaves it for an edge to prove.
    async fn keep(&self, chain_pem: String, key_pem: String) -> Result<(), Fault> {
        let now = self.app.now();
        let read = inspect(&chain_pem, &key_pem);
        let leaf = read.and_then(|leaf| leaf.serves(&self.request.names, now).map(|()| leaf));
        let leaf = match leaf {
            Ok(leaf) => leaf,
            Err(error) => {
                self.end().await?;
                return Err(of_whole_ca(format!(
                    "{} sent a certificate that is none: {error}",
                    self.issuer.url()
                )));
            }
        };
        let row = CandidateRow {
            id: self.request.id.clone(),
            names: self.request.names.clone(),
            chain_pem,
            key_pem,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            source: Source::Acme,
            ca: Some(self.issuer.url().to_owned()),
            asked: None,
            refused: None,
            created_at: now,
        };
        let ca = self.issuer.url();
        let mut tx = self.app.store().begin().await?;
        tx.put_candidate(&row).await?;
        tx.end_acme_order(&row.id).await?;
        for event in limits::issued(ca, &row.names, now) {
            tx.insert_event(&event).await?;
        }
        tx.delete_setbacks(Some(ca), "").await?;
        for name in &row.names {
            tx.delete_setbacks(None, name.as_str()).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.app.publish().await?;
        let (id, until) = (&row.id, row.not_after);
        tracing::info!(certificate.id = %id, ca, not_after = %until, "{ca} made the certificate {id}");
        Ok(())
    }

    async fn save(&self, row: &OrderRow) -> Result<(), Fault> {
        let mut tx = self.app.store().begin().await?;
        tx.put_acme_order(row).await?;
        Ok(tx.commit().await?)
    }

    async fn end(&self) -> Result<(), Fault> {
        let mut tx = self.app.store().begin().await?;
        if tx.end_acme_order(&self.request.id).await? {
            tx.raise_revision().await?;
        }
        tx.commit().await?;
        Ok(self.app.refresh().await?)
    }
}

/// Whether the CA may take the order when it hears of no old certificate: it may have forgotten that
/// one, or think that it was replaced already.
fn is_about_replaced(error: &instant_acme::Error) -> bool {
    match error {
        instant_acme::Error::Api(problem) => {
            !problem.r#type.as_deref().unwrap_or_default().ends_with(":rateLimited")
        }
        instant_acme::Error::Other(error) => error.to_string().starts_with("replaces"),
        _ => false,
    }
}

/// Whether there is something left to do with an order in this state.
fn is_open(status: OrderStatus, has_key: bool) -> bool {
    match status {
        OrderStatus::Pending | OrderStatus::Ready => true,
        // The certificate is for a key that must be at hand.
        OrderStatus::Processing | OrderStatus::Valid => has_key,
        OrderStatus::Invalid => false,
    }
}

async fn new_order(
    account: &Account,
    identifiers: &[Identifier],
    profile: Option<&str>,
    replaces: Option<&CertificateIdentifier<'static>>,
) -> Result<Order, instant_acme::Error> {
    let mut new = NewOrder::new(identifiers);
    if let Some(profile) = profile {
        new = new.profile(profile);
    }
    if let Some(replaces) = replaces {
        new = new.replaces(replaces.clone());
    }
    account.new_order(&new).await
}

/// A request that `key` signs, for `names` (PKCS #10).
fn csr(names: &[DnsName], key: &KeyPair) -> Result<Vec<u8>, Fault> {
    let made = || {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        Ok::<_, rcgen::Error>(params.serialize_request(key)?.der().to_vec())
    };
    made().map_err(|error| of_whole_ca(format!("no certificate request could be made: {error}")))
}

/// What a CA knows a certificate by (RFC 9773, section 4.1).
pub(crate) fn identifier(chain_pem: &str) -> Option<CertificateIdentifier<'static>> {
    let leaf = leaf_der(chain_pem).ok()?;
    CertificateIdentifier::try_from(&leaf).ok().map(CertificateIdentifier::into_owned)
}

fn own_caa(zones: &[nigh_proto::zone::Zone], name: &DnsName) -> Vec<nigh_proto::zone::Caa> {
    let records = zones.iter().flat_map(|zone| &zone.records).filter(|record| record.name == *name);
    records
        .filter_map(|record| match &record.data {
            RecordData::Caa(caa) => Some(caa.clone()),
            _ => None,
        })
        .collect()
}

impl Fault {
    /// Remembers what went wrong with `ca`.
    pub(crate) async fn remember(
        self,
        app: &App,
        ca: &str,
    ) -> Result<(), crate::store::StoreError> {
        let Fault::Troubles { troubles, is_counted } = self else { return Ok(()) };
        let now: Timestamp = app.now();
        let history = app.store().acme_history().await?;
        let mut tx = app.store().begin().await?;
        for trouble in troubles {
            if is_counted && trouble.is_about_name() {
                let (ca, subject) = (ca.to_owned(), trouble.subject.clone());
                tx.insert_event(&Event { ca, kind: EventKind::Failure, subject, at: now }).await?;
            }
            let before = history.setback(ca, &trouble.subject);
            let chance =
                f64::from(u32::from_le_bytes(crate::random::random())) / f64::from(u32::MAX);
            tx.put_setback(&limits::Setback::after(before, ca, trouble, now, chance)).await?;
        }
        tx.commit().await
    }
}
