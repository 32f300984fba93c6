//! Does this control do what only one of several may do?
//!
//! One session of PostgreSQL holds a lock for as long as its connection lives; whose it is leads.
//! Each lead is a term with a number in the database, and a [`Tx`] of an earlier
//! term is refused: a control that was cut off and has not noticed writes nothing as leader. A
//! control with a database of its own always leads.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{Session, Store, StoreError, Tx, in_term};

/// How often a control that does not lead tries to, and one that does checks that it still can.
const TRY_INTERVAL: Duration = Duration::from_millis(500);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A control that was killed a moment ago may still hold its place.
const TAKE_PART_ATTEMPTS: u32 = 20;
/// Of one that does not lead. Terms rise from 0.
const NO_TERM: i64 = -1;

/// Whether this control leads; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    term: watch::Receiver<Option<i64>>,
}

/// The other end of a [`Leader`], for the task that campaigns. Dropped, nobody leads here.
#[derive(Debug)]
pub(crate) struct Campaign {
    term: watch::Sender<Option<i64>>,
    session: Option<Session>,
    /// No other control may work on this database: blobs are in this one's folder.
    alone: bool,
}

impl Leader {
    /// A control that leads as soon as [`Campaign::run`] has won.
    pub(crate) async fn of(store: &Store, alone: bool) -> Result<(Self, Campaign), StoreError> {
        let (term, receiver) = watch::channel(None);
        let mut campaign = Campaign { term, session: store.session().await?, alone };
        match &mut campaign.session {
            None => drop(campaign.term.send_replace(Some(0))),
            Some(session) => {
                take_part(session, alone).await?;
                campaign.term.send_replace(session.lead().await?);
            }
        }
        Ok((Leader { term: receiver }, campaign))
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.term.borrow().is_some()
    }

    /// Returns when this control leads.
    pub(crate) async fn elected(&mut self) {
        if self.term.wait_for(Option::is_some).await.is_err() {
            // Control stops, and so does whoever waits here.
            std::future::pending::<()>().await;
        }
    }

    /// Does what only the leader may do: no transaction of it begins once this control leads no
    /// longer, noticed or not.
    pub(crate) async fn leading<F: Future>(&self, work: F) -> F::Output {
        let term = *self.term.borrow();
        in_term(term.unwrap_or(NO_TERM), work).await
    }

    /// Begins a transaction that counts only while this control leads.
    pub(crate) async fn begin(&self, store: &Store) -> Result<Tx, StoreError> {
        if !self.is_leader() {
            return Err(StoreError::LeadLost);
        }
        self.leading(store.begin()).await
    }

    /// Whether this control leads, asked of the database: before something outside of it is done
    /// that nobody may do twice.
    pub(crate) async fn confirm(&self, store: &Store) -> Result<(), StoreError> {
        self.begin(store).await.map(drop)
    }
}

async fn take_part(session: &mut Session, alone: bool) -> Result<(), StoreError> {
    for _ in 0..TAKE_PART_ATTEMPTS {
        if session.take_part(alone).await? {
            return Ok(());
        }
        tokio::time::sleep(TRY_INTERVAL).await;
    }
    Err(StoreError::NotAlone)
}

impl Campaign {
    /// Tries to lead, and leads while its session lasts.
    pub(crate) async fn run(mut self, store: Store, stop: CancellationToken) {
        if !store.is_shared() {
            return stop.cancelled().await;
        }
        while stop.run_until_cancelled(self.step(&store)).await.is_some() {}
    }

    async fn step(&mut self, store: &Store) {
        let is_leader = self.term.borrow().is_some();
        tokio::time::sleep(if is_leader { CHECK_INTERVAL } else { TRY_INTERVAL }).await;
        if let Err(error) = self.hold(store).await {
            self.session = None;
            if self.term.send_replace(None).is_some() {
                let error = nigh_daemon::logging::causes(&error);
                tracing::warn!(error, "this control leads no longer");
            }
        }
    }

    async fn hold(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.session.is_none()
            && let Some(mut session) = store.session().await?
        {
            if !session.take_part(self.alone).await? {
                tracing::error!("{}", StoreError::NotAlone);
                return Err(StoreError::NotAlone);
            }
            self.session = Some(session);
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let term = *self.term.borrow();
        if let Some(term) = term {
            return session.check(term).await;
        }
        if let Some(term) = session.lead().await? {
            self.term.send_replace(Some(term));
            tracing::info!(term, "this control leads");
        }
        Ok(())
    }
}
