//! How do several controls on one database act as one?
//!
//! `leader` says which of them does what only one may do, `bulletin` what this one has heard and
//! the others have not been told. [`Colleagues`] is the task that tells and listens: a commit
//! anywhere reaches every machine at once by a notification, and a look every second makes up for
//! one that was lost. With a database in a file there is nobody else, and nothing of this runs.

mod bulletin;
mod leader;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nigh_proto::{MachineId, MachineName, report::Report};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    fleet::{World, presence::Told},
    random::random,
    store::{Listener, News, StoreError, ToldRow},
};
use bulletin::{Bulletin, Telling};
pub(crate) use leader::{Campaign, Leader};

#[cfg(test)]
mod tests;

/// How often the database is looked at, whatever was announced.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often others are told who is still here; far less than it takes to be counted as away.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(2);
/// Every so many of these also the measurements in reports.
const EVERYTHING_EVERY: u32 = 5;
/// Reports of so long a time are told together.
const BATCH: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);

/// What this control has to tell others.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Names this run of control to the others.
    name: String,
    /// `None` when there cannot be others.
    bulletin: Option<Mutex<Bulletin>>,
    news: Notify,
}

impl Desk {
    pub(crate) fn new(is_shared: bool) -> Self {
        let name = random::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, bulletin: is_shared.then(Mutex::default), news: Notify::new() }
    }

    /// What this run of control is called in the database.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn bulletin(&self) -> Option<MutexGuard<'_, Bulletin>> {
        let bulletin = self.bulletin.as_ref()?;
        Some(bulletin.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The fleet is another than before.
    pub(crate) fn forget_strangers(&self, world: &World) {
        if let Some(mut bulletin) = self.bulletin() {
            bulletin.retain(|name, id| world.machine(name).is_some_and(|row| row.id == *id));
        }
    }

    /// Whether there may be others to tell.
    pub(crate) const fn is_shared(&self) -> bool {
        self.bulletin.is_some()
    }

    /// A machine has reported here: all of what it says.
    pub(crate) fn reported(&self, id: &MachineId, report: &Report) {
        if self.bulletin().is_some_and(|mut bulletin| bulletin.reported(id, report)) {
            self.news.notify_one();
        }
    }

    /// A machine's stream is open here.
    pub(crate) fn connected(&self, name: &MachineName, id: &MachineId) {
        if let Some(mut bulletin) = self.bulletin() {
            bulletin.connected(name, id);
            self.news.notify_one();
        }
    }

    /// A machine's stream has ended.
    pub(crate) fn disconnected(&self, name: &MachineName, id: &MachineId) {
        if let Some(mut bulletin) = self.bulletin() {
            bulletin.disconnected(name, id);
            self.news.notify_one();
        }
    }
}

/// Tells other controls what happens here, and hears what happens there.
#[derive(Debug)]
pub(crate) struct Colleagues {
    app: App,
    /// The newest change that was heard of.
    heard: i64,
}

impl Colleagues {
    /// Everything that others know already is known here when this returns.
    pub(crate) async fn meet(app: App) -> Result<Self, StoreError> {
        let mut colleagues = Self { app, heard: 0 };
        if colleagues.app.store().is_shared() {
            colleagues.hear(true).await?;
        }
        Ok(colleagues)
    }

    /// Tells and listens until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if !self.app.store().is_shared() {
            return stop.cancelled().await;
        }
        let telling = tell(self.app.clone());
        let listening = async {
            loop {
                let Err(error) = self.listen().await;
                let error = nigh_daemon::logging::causes(&error);
                tracing::warn!(error, "other controls are not heard; trying again");
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = telling => {}
            () = listening => {}
            () = stop.cancelled() => {}
        }
    }

    /// Follows the others over one connection to its end.
    async fn listen(&mut self) -> Result<std::convert::Infallible, StoreError> {
        let app = self.app.clone();
        let listener = app.store().listen(&app.desk().name).await?;
        let mut listener = listener.ok_or(StoreError::LeadLost)?;
        app.statuses().hears_others(app.instant());
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match heard(&mut listener, &mut looks).await? {
                None => {
                    app.refresh().await?;
                    self.hear(true).await?;
                }
                Some(News::Revision) => app.refresh().await?,
                Some(News::Reports) => self.hear(false).await?,
            }
        }
    }

    /// Takes in what machines said elsewhere.
    async fn hear(&mut self, all: bool) -> Result<(), StoreError> {
        let app = &self.app;
        let rows = app.store().shared_reports(&app.desk().name, self.heard, all).await?;
        let (now, time) = (app.instant(), app.now());
        let (mut is_news, mut is_behind) = (false, false);
        for row in rows {
            let world = app.world();
            let machine = world.machine(&row.machine);
            // It may have joined in a revision that is not here yet: then it is asked for again.
            is_behind |= machine.is_none_or(|machine| machine.id.as_str() != row.machine_id);
            if is_behind {
                continue;
            }
            self.heard = self.heard.max(row.changed);
            is_news |= row.report.is_some();
            app.statuses().told(told(row, now), time);
        }
        if is_behind {
            app.refresh().await?;
        }
        if is_news {
            app.reported().notify_one();
        }
        Ok(())
    }
}

/// The next news, or `None` when it is time for a look.
async fn heard(
    listener: &mut Listener,
    looks: &mut tokio::time::Interval,
) -> Result<Option<News>, StoreError> {
    tokio::select! {
        news = listener.next() => news.map(Some),
        _ = looks.tick() => Ok(None),
    }
}

fn told(row: ToldRow, now: Instant) -> Told {
    let before = |ms: Option<i64>| {
        let ago = Duration::from_millis(ms?.max(0).unsigned_abs());
        now.checked_sub(ago)
    };
    Told {
        name: row.machine,
        reported_at: before(row.reported_ms_ago),
        watched_at: before(row.watched_ms_ago),
        starts: row.starts,
        copy_heard_at: before(row.copy_heard_ms_ago),
        // One of a newer version that this one cannot read is as good as none.
        report: row.report.and_then(|text| serde_json::from_str(&text).ok()),
    }
}

/// Tells the others what is heard here, for as long as it is polled.
async fn tell(app: App) {
    let desk = app.desk();
    let mut presence = interval(PRESENCE_INTERVAL);
    presence.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = 0u32;
    loop {
        let what = tokio::select! {
            () = desk.news.notified() => Telling::News,
            _ = presence.tick() => {
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(EVERYTHING_EVERY) { Telling::Everything } else { Telling::Presence }
            }
        };
        let rows = desk.bulletin().map(|mut bulletin| bulletin.take(what)).unwrap_or_default();
        if rows.is_empty() {
            continue;
        }
        if let Err(error) = app.store().share_reports(&desk.name, &rows).await {
            let error = nigh_daemon::logging::causes(&error);
            tracing::warn!(error, "other controls were not told what machines say; trying again");
            if let Some(mut bulletin) = desk.bulletin() {
                bulletin.forget_told();
            }
            tokio::time::sleep(RETRY).await;
            desk.news.notify_one();
        }
        tokio::time::sleep(BATCH).await;
    }
}
