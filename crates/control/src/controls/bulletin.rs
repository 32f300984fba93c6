//! What has this control heard that others have not been told?
//!
//! At most one entry per machine, and a report is told only when it says something new: a thousand
//! machines that repeat themselves are one short statement now and then.

use std::collections::BTreeMap;

use nigh_proto::{MachineId, MachineName, report::Report};

use crate::store::HeardRow;

/// What is to be told, by machine.
#[derive(Debug, Default)]
pub(crate) struct Bulletin {
    machines: BTreeMap<MachineName, Entry>,
}

/// How much is told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// What changed.
    News,
    /// Also who is still here.
    Presence,
    /// Also the measurements in reports.
    Everything,
}

#[derive(Debug)]
struct Entry {
    id: MachineId,
    /// How many streams are open here.
    streams: u32,
    /// Of the last report, without what differs in every one.
    told: Option<blake3::Hash>,
    /// The last report, until it was told whole.
    latest: Option<Report>,
    reported: bool,
    left: bool,
    is_news: bool,
}

impl Bulletin {
    fn entry(&mut self, name: &MachineName, id: &MachineId) -> &mut Entry {
        let new = || Entry {
            id: id.clone(),
            streams: 0,
            told: None,
            latest: None,
            reported: false,
            left: false,
            is_news: false,
        };
        let entry = self.machines.entry(name.clone()).or_insert_with(new);
        if entry.id != *id {
            *entry = new();
        }
        entry
    }

    /// A machine has reported; whether others should know at once.
    pub(crate) fn reported(&mut self, id: &MachineId, report: &Report) -> bool {
        let entry = self.entry(&report.about.name, id);
        entry.reported = true;
        entry.latest = Some(report.clone());
        let digest = content(report);
        let is_news = entry.told.replace(digest) != Some(digest);
        entry.is_news |= is_news;
        is_news
    }

    /// A machine's stream is open here.
    pub(crate) fn connected(&mut self, name: &MachineName, id: &MachineId) {
        let entry = self.entry(name, id);
        entry.streams = entry.streams.saturating_add(1);
        entry.is_news = true;
    }

    /// A machine's stream has ended.
    pub(crate) fn disconnected(&mut self, name: &MachineName, id: &MachineId) {
        let Some(entry) = self.machines.get_mut(name).filter(|entry| entry.id == *id) else {
            return;
        };
        entry.streams = entry.streams.saturating_sub(1);
        entry.left |= entry.streams == 0;
        entry.is_news = true;
    }

    /// What is to be told now.
    pub(crate) fn take(&mut self, what: Telling) -> Vec<HeardRow> {
        let mut rows = Vec::new();
        for (name, entry) in &mut self.machines {
            let repeats = what != Telling::News && (entry.reported || entry.streams > 0);
            if !entry.is_news && !repeats {
                continue;
            }
            let is_whole = entry.is_news || what == Telling::Everything;
            let report = if is_whole { entry.latest.take() } else { None };
            rows.push(HeardRow {
                machine: name.clone(),
                machine_id: entry.id.to_string(),
                report: report.and_then(|report| serde_json::to_string(&report).ok()),
                reported: entry.reported,
                watching: entry.streams > 0,
                left: entry.left,
            });
            (entry.reported, entry.left, entry.is_news) = (false, false, false);
        }
        rows
    }

    /// Nothing counts as told: what was taken may not have arrived.
    pub(crate) fn forget_told(&mut self) {
        for entry in self.machines.values_mut() {
            (entry.told, entry.left, entry.is_news) = (None, entry.streams == 0, true);
        }
    }

    /// Forgets machines that the fleet has not.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&MachineName, &MachineId) -> bool) {
        self.machines.retain(|name, entry| is_there(name, &entry.id));
    }
}

/// A digest of all that a report says but the time and its measurements.
fn content(report: &Report) -> blake3::Hash {
    let mut report = report.clone();
    report.sent_at = nigh_proto::Timestamp::default();
    report.health = nigh_proto::report::Health::default();
    let text = serde_json::to_vec(&report).expect("reports always have a JSON form");
    blake3::hash(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixture::{name, report};

    fn id(number: u64) -> MachineId {
        MachineId::new(number, [0; 10])
    }

    #[test]
    fn a_report_that_says_nothing_new_is_not_told_again() {
        let mut bulletin = Bulletin::default();
        bulletin.connected(&name("fra1"), &id(1));
        assert!(bulletin.reported(&id(1), &report("fra1", &[1])));
        let told = bulletin.take(Telling::News);
        assert!(told[0].report.is_some() && told[0].watching && told[0].reported);
        let mut later = report("fra1", &[1]);
        later.sent_at = nigh_proto::Timestamp::from_unix_ms(9);
        assert!(!bulletin.reported(&id(1), &later));
        assert!(bulletin.take(Telling::News).is_empty());
        let told = bulletin.take(Telling::Presence);
        assert!(told[0].report.is_none() && told[0].watching && told[0].reported);
        assert!(bulletin.reported(&id(1), &report("fra1", &[1, 2])));
        assert!(bulletin.take(Telling::News)[0].report.is_some());
    }

    #[test]
    fn the_end_of_the_last_stream_is_told_and_what_was_lost_is_told_again() {
        let mut bulletin = Bulletin::default();
        for _ in 0..2 {
            bulletin.connected(&name("fra1"), &id(1));
        }
        bulletin.disconnected(&name("fra1"), &id(1));
        assert!(bulletin.take(Telling::News)[0].watching);
        bulletin.disconnected(&name("fra1"), &id(1));
        let told = bulletin.take(Telling::News);
        assert!(told[0].left && !told[0].watching);
        bulletin.forget_told();
        assert!(bulletin.take(Telling::News)[0].left);
    }

    #[test]
    fn a_machine_that_joined_again_is_another() {
        let mut bulletin = Bulletin::default();
        bulletin.connected(&name("fra1"), &id(1));
        bulletin.connected(&name("fra1"), &id(2));
        bulletin.disconnected(&name("fra1"), &id(1));
        assert!(bulletin.take(Telling::News)[0].watching);
        bulletin.retain(|_, _| false);
        assert!(bulletin.take(Telling::Everything).is_empty());
    }
}
