//! `nigh audit`: who changed what, and is the record of it whole?

use std::time::Duration;

use nigh_client::AuditQuery;
use nigh_proto::{
    Timestamp,
    audit::{AuditChain, AuditEntry, Broken, Chain, Mark},
};
use serde::Serialize;
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    table::Table,
    units,
};

/// Entries of one call.
const PAGE: u32 = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what was done this long ago or later
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    since: Option<Duration>,
    /// Only what this token or machine did: an id
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Only this, such as site.create
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// How many entries, newest first; all with 0
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Read the whole log and follow its chain of hashes
    #[arg(long)]
    verify: bool,
    /// What an earlier --verify printed: the log must still hold it
    #[arg(long, value_name = "SEQ:HASH", requires = "verify")]
    mark: Option<Mark>,
}

pub(crate) async fn run(args: Args, site: Option<&str>, app: &App<'_>) -> Result<Exit, Failure> {
    if args.verify {
        return verify(args.mark, app).await;
    }
    let since = args.since.and_then(|since| i64::try_from(since.as_millis()).ok());
    let query = AuditQuery {
        site: site.map(str::to_owned),
        actor: args.actor,
        verb: args.verb,
        since: since.map(|since| Timestamp::from_unix_ms(units::now_ms()).plus_ms(-since)),
        is_oldest_first: false,
    };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut entries = Vec::new();
    let mut cursor = None;
    loop {
        let wanted = (limit - entries.len()).min(PAGE as usize) as u32;
        let page = page(app, &query, wanted, cursor.as_deref()).await?;
        entries.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() || entries.len() >= limit {
            break;
        }
    }
    app.console.result(&json!({ "items": entries }), |_| table(&entries));
    Ok(Exit::Ok)
}

async fn page(
    app: &App<'_>,
    query: &AuditQuery,
    limit: u32,
    cursor: Option<&str>,
) -> Result<nigh_proto::api::Page<AuditEntry>, Failure> {
    let what = || "the audit log cannot be read".to_owned();
    app.client.audit(query, limit, cursor).await.or_fail(what)
}

fn table(entries: &[AuditEntry]) -> String {
    let mut table = Table::new(&["TIME", "WHO", "FROM", "DID", "TO", "SITE"]);
    for entry in entries {
        let verb = match entry.outcome.as_str() {
            "done" => entry.verb.clone(),
            outcome => format!("{} ({outcome})", entry.verb),
        };
        table.row([
            entry.at.to_string(),
            entry.actor_name.clone(),
            entry.address.clone().unwrap_or_else(|| "-".to_owned()),
            verb,
            entry.subject.clone(),
            entry.site.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.render("nothing of that kind was done")
}

/// What a look at the whole log found.
#[derive(Debug, Serialize)]
struct Verdict {
    is_whole: bool,
    entries_total: u64,
    /// Keep it elsewhere: it shows later whether the end was cut off.
    mark: String,
    pruned_before: Option<u64>,
    broken: Vec<String>,
}

async fn verify(marked: Option<Mark>, app: &App<'_>) -> Result<Exit, Failure> {
    let what = || "the audit log cannot be read".to_owned();
    let known = app.client.audit_chain().await.or_fail(what)?;
    let query = AuditQuery { is_oldest_first: true, ..AuditQuery::default() };
    let mut look = Look::new(known, marked);
    let mut cursor = None;
    loop {
        let page = page(app, &query, PAGE, cursor.as_deref()).await?;
        page.items.iter().for_each(|entry| look.at(entry));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let verdict = look.verdict();
    let exit = if verdict.is_whole { Exit::Ok } else { Exit::Failure };
    app.console.result(&verdict, describe);
    Ok(exit)
}

fn describe(verdict: &Verdict) -> String {
    let mut text = verdict.broken.join("\n");
    if verdict.is_whole {
        text = format!("{} entries, each as it was written", verdict.entries_total);
    }
    format!("{text}\nmark  {}", verdict.mark)
}

/// Reads a log from its beginning.
struct Look {
    start: Mark,
    chain: Chain,
    marked: Option<Mark>,
    entries_total: u64,
    broken: Vec<String>,
}

impl Look {
    fn new(known: AuditChain, marked: Option<Mark>) -> Self {
        let mut broken = Vec::new();
        if !known.is_start_sealed {
            broken.push("control did not itself prune the entries that are gone".to_owned());
        }
        let marked = marked.filter(|mark| mark.seq > known.start.seq);
        let (start, chain) = (known.start, Chain::after(known.start));
        Self { start, chain, marked, entries_total: 0, broken }
    }

    fn at(&mut self, entry: &AuditEntry) {
        self.entries_total += 1;
        if let Err(error) = self.chain.follow(entry) {
            self.broken.push(error.to_string());
        }
        if let Some(mark) = self.marked.take_if(|mark| mark.seq <= entry.seq)
            && (mark.seq, mark.hash) != (entry.seq, entry.hash)
        {
            self.broken.push(Broken::NotMarked { seq: mark.seq }.to_string());
        }
    }

    fn verdict(mut self) -> Verdict {
        if let Some(mark) = self.marked {
            let from = self.chain.mark().seq + 1;
            self.broken.push(Broken::Gone { from, to: mark.seq }.to_string());
        }
        Verdict {
            is_whole: self.broken.is_empty(),
            entries_total: self.entries_total,
            mark: self.chain.mark().to_string(),
            pruned_before: (self.start.seq > 0).then_some(self.start.seq + 1),
            broken: self.broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nigh_proto::Digest;

    use super::*;

    fn log(length: u64) -> Vec<AuditEntry> {
        let mut before = Mark::START.hash;
        let entry = |seq| {
            let mut entry = AuditEntry {
                seq,
                at: Timestamp::from_unix_ms(1),
                actor_kind: "token".to_owned(),
                actor_id: None,
                actor_name: "ci".to_owned(),
                verb: "site.create".to_owned(),
                site: None,
                subject: "docs".to_owned(),
                outcome: "done".to_owned(),
                request_id: None,
                address: None,
                details: BTreeMap::new(),
                hash: Digest::of(b""),
            };
            entry.hash = entry.chained(&before);
            before = entry.hash;
            entry
        };
        (1..=length).map(entry).collect()
    }

    fn verdict(entries: &[AuditEntry], marked: Option<Mark>) -> Verdict {
        let end = Mark::START;
        let known = AuditChain { start: Mark::START, pruned_at: None, is_start_sealed: true, end };
        let mut look = Look::new(known, marked);
        entries.iter().for_each(|entry| look.at(entry));
        look.verdict()
    }

    #[test]
    fn an_end_that_was_cut_off_is_missed_with_a_mark() {
        let entries = log(5);
        let mark: Mark = verdict(&entries, None).mark.parse().unwrap();
        assert!(verdict(&entries, Some(mark)).is_whole);
        assert!(verdict(&entries[..3], None).is_whole, "nobody can know");
        let cut = verdict(&entries[..3], Some(mark));
        assert_eq!(cut.broken, ["entries 4 to 5 are gone"]);
    }

    #[test]
    fn a_log_that_was_written_anew_is_not_the_marked_one() {
        let mut entries = log(5);
        let mark: Mark = verdict(&entries, None).mark.parse().unwrap();
        let mut before = Mark::START.hash;
        for entry in &mut entries {
            entry.actor_name = "nobody".to_owned();
            entry.hash = entry.chained(&before);
            before = entry.hash;
        }
        assert!(verdict(&entries, None).is_whole, "it is whole in itself");
        let anew = verdict(&entries, Some(mark));
        assert_eq!(anew.broken, ["entry 5 is not the one that was marked"]);
    }
}
