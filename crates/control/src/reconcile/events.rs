//! Which machines went away or came back, what did other controls write, and what is too old?

use std::{collections::BTreeSet, time::Duration};

use nigh_proto::{MachineName, api::EventKind};
use serde_json::json;

use super::Reconcile;
use crate::{
    app::{App, AppError},
    fleet::presence::Presence,
};

/// How soon followers hear of what another control wrote, at the latest.
const WAIT: Duration = Duration::from_secs(1);
/// Events are pruned when so many more than those that are kept are there.
const PRUNE_SLACK: u64 = 1_000;

/// Follows the log of events and keeps it bounded.
#[derive(Debug)]
pub(crate) struct Events(pub(crate) App);

impl Reconcile for Events {
    const NAME: &'static str = "events";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let leader = self.0.leader();
        if leader.is_leader() {
            leader.leading(self.tell_presence()).await?;
            leader.leading(self.prune()).await?;
        }
        self.0.ring_events().await?;
        Ok(WAIT)
    }
}

impl Events {
    async fn tell_presence(&self) -> Result<(), AppError> {
        let app = &self.0;
        let told: BTreeSet<MachineName> = app.store().away().await?.into_iter().collect();
        let (world, instant) = (app.world(), app.instant());
        let mut news = Vec::new();
        {
            let statuses = app.statuses();
            for machine in &world.machines {
                match statuses.presence(&machine.name, instant) {
                    Presence::Away if !told.contains(&machine.name) => news.push((machine, true)),
                    Presence::Here if told.contains(&machine.name) => news.push((machine, false)),
                    Presence::Away | Presence::Here | Presence::Expected => {}
                }
            }
        }
        if news.is_empty() {
            return Ok(());
        }
        let now = app.now();
        let mut tx = app.store().begin().await?;
        for (machine, is_away) in news {
            if !tx.set_away(&machine.name, is_away.then_some(now)).await? {
                continue;
            }
            let kind = if is_away { EventKind::MachineAway } else { EventKind::MachineBack };
            let data = json!({ "role": machine.role });
            tx.record(now, kind, None, machine.name.as_str(), data).await?;
            let what = if is_away { "is away" } else { "is back" };
            tracing::info!(machine.name = %machine.name, "{} {what}", machine.name);
        }
        Ok(tx.commit().await?)
    }

    async fn prune(&self) -> Result<(), AppError> {
        let keep = self.0.effective().config.events.keep_max;
        let log = self.0.store().event_log().await?;
        let first_kept = log.last.saturating_sub(keep);
        if first_kept < log.pruned + PRUNE_SLACK {
            return Ok(());
        }
        let mut tx = self.0.store().begin().await?;
        tx.prune_events(first_kept).await?;
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::report::AWAY_AFTER_MS;

    use super::*;
    use crate::{
        app::{EventFilter, fixture::Fixture},
        fleet::fixture::report,
    };

    #[tokio::test]
    async fn a_machine_that_goes_and_comes_is_told_once_each() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let row = fixture.commit_join("fra1").await;
        app.publish().await.unwrap();
        let mut events = Events(app.clone());
        let last = app.store().event_log().await.unwrap().last;
        let told = async || {
            let look = app.events_after(&EventFilter::default(), last, 9).await.unwrap();
            look.events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
        };
        events.pass().await.unwrap();
        assert_eq!(told().await, []);
        fixture.hand.advance(Duration::from_millis(AWAY_AFTER_MS));
        events.pass().await.unwrap();
        events.pass().await.unwrap();
        assert_eq!(told().await, [EventKind::MachineAway]);
        app.statuses().connected(&row.name, app.instant());
        app.take_report(&row, report("fra1", &[])).await.unwrap();
        events.pass().await.unwrap();
        events.pass().await.unwrap();
        assert_eq!(told().await, [EventKind::MachineAway, EventKind::MachineBack]);
    }

    #[tokio::test]
    async fn the_log_is_kept_bounded() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let keep = app.effective().config.events.keep_max;
        let mut tx = app.store().begin().await.unwrap();
        // As if there had been so many.
        tx.skip_events(keep + PRUNE_SLACK).await.unwrap();
        tx.commit().await.unwrap();
        Events(app.clone()).pass().await.unwrap();
        let log = app.store().event_log().await.unwrap();
        assert_eq!(log.pruned, log.last - keep);
        let look = app.events_after(&EventFilter::default(), 0, 9).await.unwrap();
        assert_eq!(look.events.len(), 0);
    }
}
