//! Who changed what, and has anybody changed the record of it since?
//!
//! Every entry carries a hash of itself and of the entry before it, so that an entry that was
//! altered, taken out or put in between breaks the chain at its place. Control writes the chain;
//! whoever reads it follows it with a [`Chain`] and needs to believe nobody. What a chain alone
//! cannot show is that its end was cut off: for that, keep a [`Mark`] elsewhere.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Digest, Timestamp};

/// One change, or one change that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Rises by one with every entry.
    pub seq: u64,
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// `token`, `machine`, `operator` (a command on control's own host) or `control` itself.
    pub actor_kind: String,
    /// The token's or machine's id.
    pub actor_id: Option<String>,
    /// What people call it.
    pub actor_name: String,
    /// What was done, such as `site.create`.
    pub verb: String,
    /// The site that it is about, if it is about one.
    pub site: Option<String>,
    /// What it was done to.
    pub subject: String,
    /// `done`, or `refused` with the code in the details.
    pub outcome: String,
    pub request_id: Option<String>,
    /// Where the request came from, without the part that names one host.
    pub address: Option<String>,
    pub details: BTreeMap<String, String>,
    /// Of the hash before and everything above.
    #[schema(value_type = String)]
    pub hash: Digest,
}

impl AuditEntry {
    /// The hash that this entry must have after one with the hash `before`.
    pub fn chained(&self, before: &Digest) -> Digest {
        let mut text = b"nigh-audit 1\n".to_vec();
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(&self.seq.to_le_bytes());
        text.extend_from_slice(&self.at.unix_ms().to_le_bytes());
        let fields = [
            Some(&self.actor_kind),
            self.actor_id.as_ref(),
            Some(&self.actor_name),
            Some(&self.verb),
            self.site.as_ref(),
            Some(&self.subject),
            Some(&self.outcome),
            self.request_id.as_ref(),
            self.address.as_ref(),
        ];
        for field in fields {
            push(&mut text, field.map(String::as_str));
        }
        for (name, value) in &self.details {
            push(&mut text, Some(name));
            push(&mut text, Some(value));
        }
        Digest::of(&text)
    }
}

/// A length before every field: no two lists of fields have the same text.
fn push(text: &mut Vec<u8>, field: Option<&str>) {
    let length = field.map_or(u64::MAX, |field| field.len() as u64);
    text.extend_from_slice(&length.to_le_bytes());
    text.extend_from_slice(field.unwrap_or_default().as_bytes());
}

/// A place in the chain: `SEQ:HASH` as text. Kept elsewhere, it proves later that everything up to
/// it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mark {
    pub seq: u64,
    #[schema(value_type = String)]
    pub hash: Digest,
}

impl Mark {
    /// Before the first entry ever.
    pub const START: Mark = Mark { seq: 0, hash: Digest::from_bytes([0; 32]) };
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// The text is not a mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mark is SEQ:HASH as `nigh audit --verify` prints it, not {0:?}")]
pub struct InvalidMark(String);

impl FromStr for Mark {
    type Err = InvalidMark;

    fn from_str(text: &str) -> Result<Self, InvalidMark> {
        let invalid = || InvalidMark(text.chars().take(80).collect());
        let (seq, hash) = text.split_once(':').ok_or_else(invalid)?;
        let seq = seq.parse().map_err(|_| invalid())?;
        Ok(Mark { seq, hash: hash.parse().map_err(|_| invalid())? })
    }
}

/// `GET /v1/audit/chain`: where the chain begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditChain {
    /// The last entry that was pruned; before the first entry ever when none was.
    pub start: Mark,
    /// When entries were pruned last.
    #[schema(value_type = Option<String>)]
    pub pruned_at: Option<Timestamp>,
    /// Whether control itself set `start`: its seal is on it.
    pub is_start_sealed: bool,
    /// The newest entry.
    pub end: Mark,
}

/// Where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("entry {seq} was altered, or one before it was exchanged")]
    Altered { seq: u64 },
    #[error("entries {from} to {to} are gone")]
    Gone { from: u64, to: u64 },
    #[error("entry {seq} is not the one that was marked")]
    NotMarked { seq: u64 },
}

/// Follows a chain entry by entry, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Chain(Mark);

impl Chain {
    pub const fn after(start: Mark) -> Self {
        Chain(start)
    }

    /// The last entry that held.
    pub const fn mark(&self) -> Mark {
        self.0
    }

    /// Takes the next entry. A broken one is told, and the chain goes on behind it as it is.
    pub fn follow(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        let Mark { seq, hash } = self.0;
        self.0 = Mark { seq: entry.seq, hash: entry.hash };
        if entry.seq > seq + 1 {
            return Err(Broken::Gone { from: seq + 1, to: entry.seq - 1 });
        }
        if entry.seq != seq + 1 || entry.chained(&hash) != entry.hash {
            return Err(Broken::Altered { seq: entry.seq });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(length: u64) -> Vec<AuditEntry> {
        let mut before = Mark::START;
        (1..=length)
            .map(|seq| {
                let mut entry = AuditEntry {
                    seq,
                    at: Timestamp::from_unix_ms(1_000 * i64::try_from(seq).unwrap()),
                    actor_kind: "token".to_owned(),
                    actor_id: Some(format!("tok_{seq}")),
                    actor_name: "ci".to_owned(),
                    verb: "site.create".to_owned(),
                    site: Some("docs".to_owned()),
                    subject: "docs".to_owned(),
                    outcome: "done".to_owned(),
                    request_id: None,
                    address: None,
                    details: BTreeMap::from([("hosts".to_owned(), seq.to_string())]),
                    hash: Digest::of(b""),
                };
                entry.hash = entry.chained(&before.hash);
                before = Mark { seq, hash: entry.hash };
                entry
            })
            .collect()
    }

    fn broken(entries: &[AuditEntry]) -> Vec<Broken> {
        let mut chain = Chain::after(Mark::START);
        entries.iter().filter_map(|entry| chain.follow(entry).err()).collect()
    }

    #[test]
    fn a_chain_that_nobody_touched_holds() {
        assert_eq!(broken(&chain(5)), []);
    }

    #[test]
    fn what_is_taken_out_is_missed() {
        let mut entries = chain(5);
        entries.remove(2);
        entries.remove(2);
        assert_eq!(broken(&entries), [Broken::Gone { from: 3, to: 4 }]);
        entries.swap(0, 1);
        assert!(!broken(&entries).is_empty());
    }

    #[test]
    fn a_mark_is_read_back() {
        let mark = Mark { seq: 7, hash: Digest::of(b"x") };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        assert!("7".parse::<Mark>().is_err());
    }

    proptest! {
        #[test]
        fn every_field_counts(index in 0usize..4, field in 0usize..11) {
            let mut entries = chain(4);
            let entry = &mut entries[index];
            match field {
                0 => entry.at = entry.at.plus_ms(1),
                1 => entry.actor_kind.push('x'),
                2 => entry.actor_id = None,
                3 => entry.actor_name.push('x'),
                4 => entry.verb.push('x'),
                5 => entry.site = None,
                6 => entry.subject.push('x'),
                7 => entry.outcome.push('x'),
                8 => entry.request_id = Some(String::new()),
                9 => entry.address = Some(String::new()),
                _ => { entry.details.insert("a".to_owned(), String::new()); }
            }
            prop_assert_eq!(broken(&entries), [Broken::Altered { seq: index as u64 + 1 }]);
        }

        #[test]
        fn any_text_is_a_mark_or_refused(text in "[0-9:a-f]{0,90}") {
            if let Ok(mark) = text.parse::<Mark>() {
                prop_assert_eq!(mark.to_string().parse(), Ok(mark));
            }
        }
    }
}
