//! Which machines are there right now, and what did they last say?
//!
//! Nothing here is durable: after a restart machines dial again and report within a moment, and
//! until [`AWAY_AFTER_MS`] has passed control waits for those that it has not heard from yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nigh_proto::{
    MachineName, ReleaseId, SiteName, Timestamp,
    protocol::Mismatch,
    report::{AWAY_AFTER_MS, CertificateReport, Credentials, Health, Report, Sequel, SiteReport},
    state::Holding,
};

use super::{
    copies::{Copies, Standing},
    starts::Starts,
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
    /// Open watch streams, by number: more than one only while an old one dies.
    pub streams: BTreeSet<u64>,
    /// When another control last said that it has the machine's stream.
    pub watched_elsewhere_at: Option<Instant>,
    pub connected_at: Option<Instant>,
    pub reported_at: Option<Instant>,
    pub seen_at: Option<Timestamp>,
    pub revision: Option<u64>,
    pub health: Health,
    /// How far the machine's clock was ahead of control's, in milliseconds.
    pub clock_ahead_ms: i64,
    /// What it presents and believes.
    pub credentials: Credentials,
    /// Its starts, and what a second machine of its identity says.
    copies: Copies,
    /// The start and the number of the report that its sites and certificates are those of; `None`
    /// when its next report has to tell everything.
    known: Option<(u64, u64)>,
    pub sites: BTreeMap<SiteName, SiteReport>,
    /// What the state on its disk says, in short.
    pub holding: Option<Holding>,
    /// What became of its certificates and candidates.
    pub certificates: Vec<CertificateReport>,
    /// Why it was turned away since it was last let in.
    pub mismatch: Option<Mismatch>,
}

/// What another control has heard of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub name: MachineName,
    /// When it is another than was told before.
    pub report: Option<Report>,
    pub reported_at: Option<Instant>,
    /// When a control last said that it has the machine's stream.
    pub watched_at: Option<Instant>,
    /// Its starts, whichever control heard of them.
    pub starts: Option<Starts>,
    /// When a control last heard of two machines of this identity.
    pub copy_heard_at: Option<Instant>,
}

/// What is known of every machine. At most one status per machine that has joined.
#[derive(Clone, Debug)]
pub(crate) struct Statuses {
    started_at: Instant,
    /// Since when other controls are heard; what they said before may be old though it was true.
    hears_since: Option<Instant>,
    /// How many watch streams there were so far.
    streams_total: u64,
    machines: BTreeMap<MachineName, Status>,
    /// What was said since it was taken last.
    news: BTreeMap<MachineName, News>,
}

/// What is new of one machine, for those who need not look at all the rest again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Sites of which it says something else than before.
    pub sites: BTreeSet<SiteName>,
    /// The revision that it was at, when it has come further: what was activated since is new too.
    pub older: Option<u64>,
    /// It came or went: everything is new.
    pub everything: bool,
}

/// A clock that is further off than this is worth telling once.
const CLOCK_WRONG_MS: i64 = 5_000;
const AWAY_AFTER: Duration = Duration::from_millis(AWAY_AFTER_MS);

impl Statuses {
    /// Nobody has been heard of; control started at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started_at: now,
            hears_since: None,
            streams_total: 0,
            machines: BTreeMap::new(),
            news: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, name: &MachineName) -> Option<&Status> {
        self.machines.get(name)
    }

    /// A stream is open now; its number is for [`disconnected`](Self::disconnected).
    pub(crate) fn connected(&mut self, name: &MachineName, now: Instant) -> u64 {
        self.streams_total += 1;
        self.news.entry(name.clone()).or_default().everything = true;
        let status = self.machines.entry(name.clone()).or_default();
        status.streams.insert(self.streams_total);
        status.connected_at = Some(now);
        status.mismatch = None;
        self.streams_total
    }

    /// A machine speaks another protocol than control.
    pub(crate) fn mismatched(&mut self, name: &MachineName, mismatch: Mismatch) {
        self.machines.entry(name.clone()).or_default().mismatch = Some(mismatch);
    }

    /// A stream has ended. That of a machine which was forgotten since changes nothing.
    pub(crate) fn disconnected(&mut self, name: &MachineName, stream: u64) {
        if let Some(status) = self.machines.get_mut(name) {
            status.streams.remove(&stream);
            self.news.entry(name.clone()).or_default().everything = true;
        }
    }

    /// What the start `instance` of a machine is among those that were seen.
    pub(crate) fn standing(&mut self, name: &MachineName, instance: u64, now: Instant) -> Standing {
        let is_away = self.presence(name, now) == Presence::Away;
        self.machines.entry(name.clone()).or_default().copies.standing(instance, is_away, now)
    }

    /// The starts of a machine that are known here.
    pub(crate) fn starts(&self, name: &MachineName) -> Starts {
        self.machines.get(name).map(|status| status.copies.starts().clone()).unwrap_or_default()
    }

    /// A start of a machine takes the place of the one before, here or at another control. What is older
    /// than what is known changes nothing.
    pub(crate) fn started(&mut self, name: &MachineName, starts: Starts) {
        self.machines.entry(name.clone()).or_default().copies.started(starts);
    }

    /// A machine says when it dials what it holds.
    pub(crate) fn holds(&mut self, name: &MachineName, holding: Holding) {
        self.machines.entry(name.clone()).or_default().holding = Some(holding);
    }

    /// Whether a second machine with the identity of `name` was heard of lately.
    pub(crate) fn has_copy(&self, name: &MachineName, now: Instant) -> bool {
        self.machines.get(name).is_some_and(|status| status.copies.is_heard(now))
    }

    /// Whether the start `instance` was superseded by another one.
    pub(crate) fn is_superseded(&self, name: &MachineName, instance: u64) -> bool {
        self.machines.get(name).is_some_and(|status| status.copies.starts().is_superseded(instance))
    }

    /// Whether what `report` leaves out is known here. So is what was said of sites that were deleted
    /// since: with more than `sites_max` the machine is to tell everything.
    pub(crate) fn can_complete(&self, report: &Report, sites_max: usize) -> bool {
        let Some(since) = report.sequel.since else { return true };
        self.machines.get(&report.about.name).is_some_and(|status| {
            status.known == Some((report.credentials.instance, since))
                && status.sites.len() <= sites_max
        })
    }

    /// `report`, which was taken in last, with nothing left out.
    pub(crate) fn completed(&self, mut report: Report) -> Report {
        if let Some(status) = self.machines.get(&report.about.name) {
            report.sites = status.sites.values().cloned().collect();
            report.certificates.clone_from(&status.certificates);
            report.sequel = Sequel { number: report.sequel.number, ..Sequel::default() };
        }
        report
    }

    /// Takes in a report that [can be completed](Self::can_complete): what a whole one does not name
    /// is no longer so. Whether it is news that the machine's clock is wrong.
    pub(crate) fn reported(&mut self, report: Report, now: Instant, time: Timestamp) -> bool {
        let news = self.news.entry(report.about.name.clone()).or_default();
        let status = self.machines.entry(report.about.name).or_default();
        let revision = report.revision.map(|revision| revision.0);
        if status.revision != revision {
            let older = status.revision.min(revision).unwrap_or(0);
            news.older = Some(news.older.map_or(older, |before| before.min(older)));
        }
        news.everything |= status.reported_at.is_none_or(|at| is_long_ago(at, now));
        status.reported_at = Some(now);
        status.seen_at = Some(time);
        status.revision = revision;
        status.health = report.health;
        let was_wrong = status.clock_ahead_ms.abs() > CLOCK_WRONG_MS;
        status.clock_ahead_ms = report.sent_at.ms_since(time);
        let Sequel { number, since, gone, same_certificates } = report.sequel;
        status.known = (number > 0).then_some((report.credentials.instance, number));
        status.holding = report.holding;
        status.credentials = report.credentials;
        if since.is_none() || !same_certificates {
            status.certificates = report.certificates;
        }
        let gone: BTreeSet<SiteName> = match since {
            Some(_) => gone.into_iter().collect(),
            None => {
                let named: BTreeSet<_> = report.sites.iter().map(|site| &site.site).collect();
                status.sites.keys().filter(|name| !named.contains(name)).cloned().collect()
            }
        };
        for name in gone {
            if status.sites.remove(&name).is_some() {
                news.sites.insert(name);
            }
        }
        for site in report.sites {
            if status.sites.get(&site.site) != Some(&site) {
                news.sites.insert(site.site.clone());
                status.sites.insert(site.site.clone(), site);
            }
        }
        !was_wrong && status.clock_ahead_ms.abs() > CLOCK_WRONG_MS
    }

    /// What is new since this was asked last.
    pub(crate) fn take_news(&mut self) -> BTreeMap<MachineName, News> {
        std::mem::take(&mut self.news)
    }

    /// Other controls are heard from `now` on; before, the database was away from this one or all.
    pub(crate) fn hears_others(&mut self, now: Instant) {
        self.hears_since = Some(now);
    }

    /// Takes in what another control has heard, unless something newer was heard here.
    pub(crate) fn told(&mut self, told: Told, time: Timestamp) {
        let Told { name, report, reported_at, watched_at, starts, copy_heard_at } = told;
        if let Some(starts) = starts {
            self.started(&name, starts);
        }
        // What an original said before it was known that a copy runs is not what the copy says.
        let is_valid = |report: &Report| !self.is_superseded(&name, report.credentials.instance);
        let report = report.filter(is_valid);
        let told_of = name.clone();
        let status = self.machines.entry(name).or_default();
        if status.watched_elsewhere_at.is_some() != watched_at.is_some() {
            self.news.entry(told_of.clone()).or_default().everything = true;
        }
        status.watched_elsewhere_at = watched_at;
        status.copies.told(copy_heard_at);
        status.connected_at = status.connected_at.max(watched_at);
        let is_newer = reported_at >= status.reported_at;
        match (report, reported_at) {
            // Whoever it was said to has told the log of its clock.
            (Some(report), Some(at)) if is_newer => drop(self.reported(report, at, time)),
            (None, Some(at)) if is_newer => {
                if status.reported_at.is_none_or(|before| is_long_ago(before, at)) {
                    self.news.entry(told_of).or_default().everything = true;
                }
                status.reported_at = Some(at);
                status.seen_at = Some(time);
            }
            _ => {}
        }
    }

    /// Forgets what was said by a machine that was removed, or whose name another one has now.
    pub(crate) fn forget(&mut self, name: &MachineName) {
        self.machines.remove(name);
        self.news.remove(name);
    }

    pub(crate) fn presence(&self, name: &MachineName, now: Instant) -> Presence {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < AWAY_AFTER;
        match self.machines.get(name) {
            None if is_recent(self.started_at) => Presence::Expected,
            None => Presence::Away,
            Some(status)
                if status.streams.is_empty()
                    && !status.watched_elsewhere_at.is_some_and(is_recent) =>
            {
                // It reported before its stream was open, as a machine that dials again may.
                let never_connected = status.connected_at.is_none();
                // Who watches it elsewhere could not say so.
                let was_unheard = status.watched_elsewhere_at.is_some()
                    && self.hears_since.is_some_and(is_recent);
                if was_unheard || never_connected && is_recent(self.started_at) {
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

    /// Whether control has started so recently that this machine may not have dialled yet.
    pub(crate) fn is_unheard(&self, name: &MachineName, now: Instant) -> bool {
        let never = |status: &Status| status.connected_at.is_none();
        self.machines.get(name).is_none_or(never)
            && now.saturating_duration_since(self.started_at) < AWAY_AFTER
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

/// Whether who was heard of `at` that time was away since.
fn is_long_ago(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= AWAY_AFTER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let stream = statuses.connected(&edge, start);
        assert_eq!(statuses.presence(&edge, start), Presence::Expected);
        statuses.reported(fixture::report("fra1", &[]), start, Timestamp::default());
        assert_eq!(statuses.presence(&edge, after(start, AWAY_AFTER_MS - 1)), Presence::Here);
        assert_eq!(statuses.presence(&edge, after(start, AWAY_AFTER_MS)), Presence::Away);
        statuses.disconnected(&edge, stream);
        assert_eq!(statuses.presence(&edge, start), Presence::Away);
    }

    #[test]
    fn a_machine_of_another_control_has_time_once_that_one_is_heard_again() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        let told = |at| Told {
            name: fixture::name("fra1"),
            report: None,
            reported_at: Some(at),
            watched_at: Some(at),
            starts: None,
            copy_heard_at: None,
        };
        statuses.told(told(start), Timestamp::default());
        assert_eq!(statuses.presence(&edge, start), Presence::Here);
        // The database was away for a while.
        let back = after(start, 5 * AWAY_AFTER_MS);
        assert_eq!(statuses.presence(&edge, back), Presence::Away);
        statuses.hears_others(back);
        assert_eq!(statuses.presence(&edge, back), Presence::Expected);
        statuses.told(told(after(back, 1000)), Timestamp::default());
        assert_eq!(statuses.presence(&edge, after(back, 1000)), Presence::Here);
        let late = after(back, 1000 + AWAY_AFTER_MS);
        assert_eq!(statuses.presence(&edge, late), Presence::Away, "nobody watches it any more");
    }

    #[test]
    fn a_stream_that_replaces_a_dying_one_keeps_the_machine_here() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        let dying = statuses.connected(&edge, start);
        statuses.connected(&edge, start);
        statuses.reported(fixture::report("fra1", &[]), start, Timestamp::default());
        statuses.disconnected(&edge, dying);
        assert_eq!(statuses.presence(&edge, start), Presence::Here);
    }

    #[test]
    fn news_is_what_differs_from_the_report_before() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        let news = |statuses: &mut Statuses, staged: &[u64], revision| {
            let mut report = fixture::report("fra1", staged);
            report.revision = Some(nigh_proto::state::Revision(revision));
            statuses.reported(report, start, Timestamp::default());
            statuses.take_news().remove(&edge).unwrap()
        };
        assert!(news(&mut statuses, &[1], 5).everything, "it was never heard of");
        assert_eq!(news(&mut statuses, &[1], 5), News::default());
        let further = News { older: Some(5), ..News::default() };
        assert_eq!(news(&mut statuses, &[1], 7), further);
        let staged = News { sites: ["docs".parse().unwrap()].into(), ..News::default() };
        assert_eq!(news(&mut statuses, &[1, 2], 7), staged);
        let stream = statuses.connected(&edge, start);
        assert!(statuses.take_news()[&edge].everything);
        statuses.disconnected(&edge, stream);
        assert!(statuses.take_news()[&edge].everything);
    }

    #[test]
    fn of_two_machines_with_one_identity_the_one_that_started_last_counts() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        let report = |statuses: &mut Statuses, at| {
            statuses.reported(fixture::report("fra1", &[]), at, Timestamp::default());
        };
        let counts =
            |statuses: &mut Statuses, instance, at| match statuses.standing(&edge, instance, at) {
                Standing::Newest => true,
                Standing::New => {
                    let starts = statuses.starts(&edge).with(instance);
                    statuses.started(&edge, starts);
                    true
                }
                Standing::Superseded { .. } => false,
            };
        statuses.connected(&edge, start);
        assert!(counts(&mut statuses, 1, start));
        report(&mut statuses, start);
        assert!(counts(&mut statuses, 2, start), "it was restarted, or copied");
        assert!(!statuses.has_copy(&edge, start));
        assert!(!counts(&mut statuses, 1, start), "this may have been on its way");
        assert!(!statuses.has_copy(&edge, start));
        assert!(!counts(&mut statuses, 1, start), "the older one still talks");
        assert!(statuses.has_copy(&edge, start));
        assert!(counts(&mut statuses, 0, start), "who does not tell is not judged");
        // With the newest gone the other one is all there is.
        let later = after(start, AWAY_AFTER_MS);
        assert!(counts(&mut statuses, 1, later));
    }

    #[test]
    fn a_machine_is_not_judged_by_one_that_had_its_name_before() {
        let start = Instant::now();
        let mut statuses = Statuses::new(start);
        let edge = fixture::name("fra1");
        let old = statuses.connected(&edge, start);
        statuses.reported(fixture::report("fra1", &[1]), start, Timestamp::default());
        statuses.forget(&edge);
        statuses.connected(&edge, start);
        statuses.disconnected(&edge, old);
        assert_eq!(statuses.presence(&edge, start), Presence::Expected);
        assert!(!statuses.has_staged(&edge, &"docs".parse().unwrap(), &fixture::release(1)));
    }
    type Said = BTreeMap<u8, u64>;

    fn report_of(said: &Said, number: u64) -> Report {
        let site = |(name, missing_blobs): (&u8, &u64)| SiteReport {
            site: format!("site{name}").parse().unwrap(),
            staged: Vec::new(),
            active: None,
            failed: Vec::new(),
            missing_blobs: *missing_blobs,
        };
        let mut report = fixture::report("fra1", &[]);
        report.sites = said.iter().map(site).collect();
        report.sequel.number = number;
        report
    }

    /// What is new of `said`, after report `since` which said `before`.
    fn sequel_of(said: &Said, before: &Said, since: u64) -> Report {
        let new = said.iter().filter(|(name, value)| before.get(*name) != Some(*value));
        let mut report = report_of(&new.map(|(name, value)| (*name, *value)).collect(), since + 1);
        report.sequel.since = Some(since);
        report.sequel.same_certificates = true;
        let gone = before.keys().filter(|name| !said.contains_key(*name));
        report.sequel.gone = gone.map(|name| format!("site{name}").parse().unwrap()).collect();
        report
    }

    proptest! {
        /// A machine that leaves out what is known already says as much as one that does not.
        #[test]
        fn sequels_say_what_whole_reports_do(
            said in proptest::collection::vec(
                proptest::collection::btree_map(0u8..6, 0u64..3, 0..6), 1..8,
            ),
        ) {
            let (now, edge) = (Instant::now(), fixture::name("fra1"));
            let (mut short, mut long) = (Statuses::new(now), Statuses::new(now));
            let mut before: Option<&Said> = None;
            for (number, said) in (1..).zip(&said) {
                let whole = report_of(said, number);
                let told = match before {
                    None => whole.clone(),
                    Some(before) => sequel_of(said, before, number - 1),
                };
                prop_assert!(short.can_complete(&told, 100));
                short.reported(told.clone(), now, Timestamp::default());
                long.reported(whole.clone(), now, Timestamp::default());
                prop_assert_eq!(&short.get(&edge).unwrap().sites, &long.get(&edge).unwrap().sites);
                prop_assert_eq!(short.take_news(), long.take_news());
                prop_assert_eq!(short.completed(told).sites, whole.sites);
                before = Some(said);
            }
        }
    }

    #[test]
    fn a_report_goes_on_only_from_the_one_that_is_known() {
        let now = Instant::now();
        let mut statuses = Statuses::new(now);
        let said = Said::from([(1, 1), (2, 2)]);
        let next = sequel_of(&said, &said, 1);
        assert!(!statuses.can_complete(&next, 100), "nothing is known");
        statuses.reported(report_of(&said, 1), now, Timestamp::default());
        assert!(statuses.can_complete(&next, 100));
        assert!(!statuses.can_complete(&next, 1), "more sites than there can be");
        assert!(!statuses.can_complete(&sequel_of(&said, &said, 2), 100), "of a later one");
        let mut other = next.clone();
        other.credentials.instance = 9;
        assert!(!statuses.can_complete(&other, 100), "of another start");
        statuses.reported(report_of(&said, 0), now, Timestamp::default());
        assert!(!statuses.can_complete(&next, 100), "something of it was left out here");
    }
}
