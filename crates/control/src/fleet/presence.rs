//! Which machines are there right now, and what did they last say?
//!
//! Nothing here is durable: after a restart machines dial again and report within a moment, and
//! until [`AWAY_AFTER_MS`] has passed control waits for those that it has not heard from yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nigh_proto::{
    MachineName, ReleaseId, SiteName, Timestamp,
    report::{AWAY_AFTER_MS, Health, Report, SiteReport},
};

/// Whether a machine takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Its stream is open and its reports are fresh.
    Here,
    /// Not heard from since control started, or since it dialled, and it still has time.
    Expected,
    /// Neither.
    Away,
}

/// What is known of one machine since control started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Open watch streams: more than one only while an old one dies.
    pub streams: u32,
    pub connected_at: Option<Instant>,
    pub reported_at: Option<Instant>,
    pub seen_at: Option<Timestamp>,
    pub revision: Option<u64>,
    pub health: Health,
    /// How far the machine's clock was ahead of control's, in milliseconds.
    pub clock_ahead_ms: i64,
    pub sites: BTreeMap<SiteName, SiteReport>,
}

/// What is known of every machine. At most one status per machine that has joined.
#[derive(Clone, Debug)]
pub(crate) struct Statuses {
    started_at: Instant,
    machines: BTreeMap<MachineName, Status>,
}

const AWAY_AFTER: Duration = Duration::from_millis(AWAY_AFTER_MS);

impl Statuses {
    /// Nobody has been heard of; control started at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { started_at: now, machines: BTreeMap::new() }
    }

    pub(crate) fn get(&self, name: &MachineName) -> Option<&Status> {
        self.machines.get(name)
    }

    pub(crate) fn connected(&mut self, name: &MachineName, now: Instant) {
        let status = self.machines.entry(name.clone()).or_default();
        status.streams += 1;
        status.connected_at = Some(now);
    }

    pub(crate) fn disconnected(&mut self, name: &MachineName) {
        if let Some(status) = self.machines.get_mut(name) {
            status.streams = status.streams.saturating_sub(1);
        }
    }

    /// Takes in a report, whole: what it does not name is no longer so.
    pub(crate) fn reported(&mut self, report: Report, now: Instant, time: Timestamp) {
        let status = self.machines.entry(report.about.name).or_default();
        status.reported_at = Some(now);
        status.seen_at = Some(time);
        status.revision = report.revision.map(|revision| revision.0);
        status.health = report.health;
        status.clock_ahead_ms = report.sent_at.ms_since(time);
        status.sites = report.sites.into_iter().map(|site| (site.site.clone(), site)).collect();
    }

    /// Forgets a machine that was removed.
    pub(crate) fn forget(&mut self, name: &MachineName) {
        self.machines.remove(name);
    }

    pub(crate) fn presence(&self, name: &MachineName, now: Instant) -> Presence {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < AWAY_AFTER;
        match self.machines.get(name) {
            None if is_recent(self.started_at) => Presence::Expected,
            None => Presence::Away,
            Some(status) if status.streams == 0 => {
                // It reported before its stream was open, as a machine that dials again may.
                let never_connected = status.connected_at.is_none();
                if never_connected && is_recent(self.started_at) {
                    Presence::Expected
                } else {
                    Presence::Away
                }
            }
            Some(status) if status.reported_at.is_some_and(is_recent) => Presence::Here,
            Some(status) if status.connected_at.is_some_and(is_recent) => Presence::Expected,
            Some(_) => Presence::Away,
        }
    }

    /// What a machine last said of one site.
    pub(crate) fn site(&self, name: &MachineName, site: &SiteName) -> Option<&SiteReport> {
        self.machines.get(name)?.sites.get(site)
    }

    /// Whether a machine has said that every blob of `release` is on its disk.
    pub(crate) fn has_staged(
        &self,
        name: &MachineName,
        site: &SiteName,
        release: &ReleaseId,
    ) -> bool {
        self.site(name, site).is_some_and(|report| report.staged.contains(release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixture;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn after_a_restart_control_waits_for_machines_before_it_calls_them_away() {
        let start = Instant::now();
        let statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        assert_eq!(statuses.presence(&edge, after(start, 0)), Presence::Expected);
        assert_eq!(statuses.presence(&edge, after(start, AWAY_AFTER_MS)), Presence::Away);
    }

    #[test]
    fn a_machine_is_here_while_its_stream_is_open_and_its_reports_are_fresh() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        statuses.connected(&edge, start);
        assert_eq!(statuses.presence(&edge, start), Presence::Expected);
        statuses.reported(fixture::report("fra1", &[]), start, Timestamp::default());
        assert_eq!(statuses.presence(&edge, after(start, AWAY_AFTER_MS - 1)), Presence::Here);
        assert_eq!(statuses.presence(&edge, after(start, AWAY_AFTER_MS)), Presence::Away);
        statuses.disconnected(&edge);
        assert_eq!(statuses.presence(&edge, start), Presence::Away);
    }

    #[test]
    fn a_stream_that_replaces_a_dying_one_keeps_the_machine_here() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        statuses.connected(&edge, start);
        statuses.connected(&edge, start);
        statuses.reported(fixture::report("fra1", &[]), start, Timestamp::default());
        statuses.disconnected(&edge);
        assert_eq!(statuses.presence(&edge, start), Presence::Here);
    }
}
