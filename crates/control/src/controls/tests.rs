use std::time::Duration;

use nigh_proto::{MachineName, ReleaseId, api::NewSite, report::MachineRole};
use nigh_testkit::postgres::DatabaseKind;

use super::*;
use crate::{
    app::{
        AppError,
        fixture::{Fixture, docs},
    },
    fleet::{
        fixture::{name, report},
        presence::Presence,
    },
    reconcile::{Reconcile as _, tickets::Tickets},
    store::{MachineRow, in_this_term},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Two controls on one PostgreSQL, the first of which leads, and what they are told to stop with.
struct Pair {
    first: Fixture,
    second: Fixture,
    stop: CancellationToken,
}

impl Pair {
    async fn start() -> Self {
        let database = DatabaseKind::Postgres.make().unwrap();
        let pair = Pair {
            first: Fixture::on(database.clone()).await,
            second: Fixture::on(database).await,
            stop: CancellationToken::new(),
        };
        for app in [&pair.first.app, &pair.second.app] {
            let colleagues = Colleagues::meet(app.clone()).await.unwrap();
            tokio::spawn(colleagues.run(pair.stop.clone()));
        }
        pair.first.app.create_site(NewSite { name: docs(), hosts: Vec::new() }).await.unwrap();
        pair
    }

    /// An edge of the fleet, known to both.
    async fn join(&self, name: &str) -> MachineRow {
        let row = self.first.commit_join(name).await;
        self.first.app.publish().await.unwrap();
        until("the edge is known", || self.second.app.world().machine(&row.name).is_some()).await;
        row
    }

    /// A release that both know: what a machine says of others is not believed.
    async fn push(&self, page: &str) -> ReleaseId {
        let id = self.first.push(page).await.id;
        until("the release is known", || {
            let world = self.second.app.world();
            world.site(&docs()).is_some_and(|site| site.release(&id).is_some())
        })
        .await;
        id
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waited).await.unwrap_or_else(|_| panic!("not so: {what}"));
}

/// A report of `edge` that it has staged `release`.
fn staging(edge: &str, release: &ReleaseId) -> Report {
    let mut report = report(edge, &[]);
    report.sites[0].staged.push(release.clone());
    report
}

fn presence(app: &App, name: &MachineName) -> Presence {
    app.statuses().presence(name, app.instant())
}

#[tokio::test]
async fn a_commit_on_one_control_reaches_those_who_wait_on_another() {
    let pair = Pair::start().await;
    let mut worlds = pair.second.app.follow();
    let pushed = pair.first.push("one").await;
    let seen = worlds.wait_for(|world| {
        world.site(&docs()).is_some_and(|site| site.release(&pushed.id).is_some())
    });
    tokio::time::timeout(DEADLINE, seen).await.unwrap().unwrap();
    let view = pair.second.app.show_release(&docs(), &pushed.id).await.unwrap();
    let app = pair.second.app.clone();
    let id = pushed.id.clone();
    let waiting = tokio::spawn(async move {
        app.await_release(&docs(), &id, view.progress, DEADLINE).await.unwrap()
    });
    let replaced = pair.first.push("two").await;
    assert_ne!(replaced.id, pushed.id);
    let woken = tokio::time::timeout(DEADLINE / 2, waiting).await.unwrap().unwrap();
    assert!(woken.failure.unwrap().contains("replaced by"));
}

#[tokio::test]
async fn what_a_machine_says_to_one_control_is_known_to_all() {
    let pair = Pair::start().await;
    let staged = pair.push("one").await;
    let edge = pair.join("fra1").await;
    assert_eq!(edge.role, MachineRole::Edge);
    let (first, second) = (&pair.first.app, &pair.second.app);
    let stream = second.statuses().connected(&edge.name, second.instant());
    second.desk().connected(&edge.name, &edge.id);
    second.take_report(&edge, staging("fra1", &staged)).await.unwrap();
    until("the first control counts it as here", || {
        presence(first, &edge.name) == Presence::Here
            && first.statuses().has_staged(&edge.name, &docs(), &staged)
    })
    .await;
    second.statuses().disconnected(&edge.name, stream);
    second.desk().disconnected(&edge.name, &edge.id);
    until("the first control counts it as away", || presence(first, &edge.name) == Presence::Away)
        .await;
}

#[tokio::test]
async fn a_machine_that_joined_again_is_not_judged_by_what_it_said_elsewhere() {
    let pair = Pair::start().await;
    let staged = pair.push("one").await;
    let edge = pair.join("fra1").await;
    let (first, second) = (&pair.first.app, &pair.second.app);
    second.desk().connected(&edge.name, &edge.id);
    second.take_report(&edge, staging("fra1", &staged)).await.unwrap();
    let has_staged = || first.statuses().has_staged(&edge.name, &docs(), &staged);
    until("the first control has heard of it", has_staged).await;
    let again = second_join(&pair, "fra1").await;
    assert_ne!(again.id, edge.id);
    until("it is forgotten", || !has_staged()).await;
    tokio::time::sleep(2 * LOOK_INTERVAL).await;
    assert!(!has_staged(), "the old report came back");
}

async fn second_join(pair: &Pair, name: &str) -> MachineRow {
    let row = pair.second.commit_join(name).await;
    pair.second.app.publish().await.unwrap();
    row
}

#[tokio::test]
async fn a_listener_that_was_cut_off_listens_again() {
    let pair = Pair::start().await;
    let database = pair.first.database.as_ref().unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    until("both listen", || database.run(cut).unwrap() == "2").await;
    let pushed = pair.first.push("one").await;
    let edge = name("fra1");
    pair.first.commit_join("fra1").await;
    pair.first.app.publish().await.unwrap();
    until("the second control sees it", || {
        let world = pair.second.app.world();
        world.machine(&edge).is_some()
            && world.site(&docs()).is_some_and(|site| site.release(&pushed.id).is_some())
    })
    .await;
}

#[tokio::test]
async fn one_control_leads_and_another_takes_over_when_its_session_ends() {
    let mut pair = Pair::start().await;
    let (first, second) = (pair.first.app.clone(), pair.second.app.clone());
    assert!(first.leader().is_leader() && !second.leader().is_leader());
    assert!(matches!(second.begin_leading().await, Err(StoreError::LeadLost)));
    first.begin_leading().await.unwrap().commit().await.unwrap();
    let campaign = pair.second.campaign.take().unwrap();
    tokio::spawn(campaign.run(second.store().clone(), pair.stop.clone()));
    let database = pair.first.database.clone().unwrap();
    database
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
             AND granted AND mode = 'ExclusiveLock' \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .unwrap();
    tokio::time::timeout(DEADLINE, second.leader().clone().elected()).await.unwrap();
    // The first has not noticed yet, and can do no harm.
    assert!(first.leader().is_leader());
    assert!(matches!(first.begin_leading().await, Err(StoreError::LeadLost)));
    second.begin_leading().await.unwrap().commit().await.unwrap();
    // Nor in a pass that was begun before, or in what such a pass has sent off.
    let revision = second.store().revision().await.unwrap();
    let mut tickets = Tickets(first.clone());
    let refused = first.leader().leading(tickets.pass()).await;
    assert!(matches!(refused, Err(AppError::Store(StoreError::LeadLost))), "{refused:?}");
    let sent_off = first.leader().leading(async {
        let store = first.store().clone();
        tokio::spawn(in_this_term(async move { store.begin().await.map(drop) })).await.unwrap()
    });
    let refused = sent_off.await;
    assert!(matches!(refused, Err(StoreError::LeadLost)), "{refused:?}");
    assert_eq!(second.store().revision().await.unwrap(), revision);
    // What anybody may do it may still: somebody asks for it.
    first.create_site(NewSite { name: "blog".parse().unwrap(), hosts: Vec::new() }).await.unwrap();
    second.leader().leading(Tickets(second.clone()).pass()).await.unwrap();
    let campaign = pair.first.campaign.take().unwrap();
    tokio::spawn(campaign.run(first.store().clone(), pair.stop.clone()));
    until("the first has noticed", || !first.leader().is_leader()).await;
}

#[tokio::test]
async fn controls_that_keep_blobs_in_their_own_folders_refuse_to_work_side_by_side() {
    let pair = Pair::start().await;
    let store = pair.first.app.store();
    let mut third = store.session().await.unwrap().unwrap();
    assert!(!third.take_part(true).await.unwrap(), "others are here");
    assert!(third.take_part(false).await.unwrap());
    assert_eq!(third.lead().await.unwrap(), None);
}

/// An original talks to one control, a restored snapshot of it to the other.
#[tokio::test]
async fn two_machines_with_one_identity_are_seen_though_each_talks_to_another_control() {
    let pair = Pair::start().await;
    let edge = pair.join("fra1").await;
    let (first, second) = (&pair.first.app, &pair.second.app);
    let started_as = |instance: u64| {
        let mut report = report("fra1", &[]);
        report.credentials.instance = instance;
        report
    };
    let (original, copy) = (u64::MAX, 7);
    for app in [first, second] {
        app.statuses().connected(&edge.name, app.instant());
        app.desk().connected(&edge.name, &edge.id);
    }
    first.take_report(&edge, started_as(original)).await.unwrap();
    until("the second control knows of the original", || {
        second
            .statuses()
            .get(&edge.name)
            .is_some_and(|known| known.credentials.instance == original)
    })
    .await;
    second.take_report(&edge, started_as(copy)).await.unwrap();
    until("the first control knows of the copy", || {
        first.statuses().is_superseded(&edge.name, original)
    })
    .await;
    // What started last counts, wherever it talks; the other is refused everywhere.
    for app in [first, second, first] {
        app.take_report(&edge, started_as(copy)).await.unwrap();
        let refused = app.take_report(&edge, started_as(original)).await;
        assert!(matches!(refused, Err(AppError::MachineDuplicate(_))), "{refused:?}");
    }
    let warns = |app: &App| app.statuses().has_copy(&edge.name, app.instant());
    until("both controls tell of it", || warns(first) && warns(second)).await;
    // A control that starts now knows as well.
    let third = Fixture::on(pair.first.database.clone()).await;
    let _hears = Colleagues::meet(third.app.clone()).await.unwrap();
    assert!(warns(&third.app));
    let refused = third.app.take_report(&edge, started_as(original)).await;
    assert!(matches!(refused, Err(AppError::MachineDuplicate(_))), "{refused:?}");
}
