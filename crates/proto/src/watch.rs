//! What control tells a machine: `GET /machine/v1/watch?since=REV&changes=1`.
//!
//! One stream of JSON documents, one per line. The first is the whole state, unless control knows
//! what has changed since the revision that the machine has; then every change as it happens, and
//! heartbeats between. Silence for longer than [`SILENCE_MAX_MS`] means that the stream is dead.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    document::{Change, Document},
    state::Revision,
};

/// How often control sends a heartbeat on a quiet stream.
pub const HEARTBEAT_MS: u64 = 5_000;
/// After how long a machine gives up on a silent stream and dials again.
pub const SILENCE_MAX_MS: u64 = 15_000;
/// The longest frame, in bytes.
pub const FRAME_MAX_BYTES: usize = 64 << 20;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Frame {
    /// The whole desired state.
    State { state: Document },
    /// What changes in the state that the machine has. Only for machines that ask for changes.
    Change { change: Change },
    /// Control is alive and the machine is up to date.
    Heartbeat { revision: Revision },
    /// What the machine is to trust from now on, if it differs from what it said it does.
    Trust { trust: Trust },
}

/// Whose word is control's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Every CA of control, PEM, the newest first.
    pub ca_pem: String,
    /// Whether the machine is to renew its certificate now: it ends soon, or its CA does.
    pub renew: bool,
}

/// Written out since states stay as they were written, which a tagged enum does not let them.
impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Line {
            kind: String,
            #[serde(default)]
            state: Option<Document>,
            #[serde(default)]
            change: Option<Change>,
            #[serde(default)]
            revision: Option<Revision>,
            #[serde(default)]
            trust: Option<Trust>,
        }
        let missing = |field| move || D::Error::missing_field(field);
        let Line { kind, state, change, revision, trust } = Line::deserialize(deserializer)?;
        Ok(match kind.as_str() {
            "state" => Frame::State { state: state.ok_or_else(missing("state"))? },
            "change" => Frame::Change { change: change.ok_or_else(missing("change"))? },
            "heartbeat" => Frame::Heartbeat { revision: revision.ok_or_else(missing("revision"))? },
            "trust" => Frame::Trust { trust: trust.ok_or_else(missing("trust"))? },
            kind => {
                let known = &["state", "change", "heartbeat", "trust"];
                return Err(D::Error::unknown_variant(kind, known));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_as_they_were_written() {
        let state = Document::parse(r#"{"revision":7,"new":[1.50]}"#).unwrap();
        let change = Change { since: Revision(1), revision: Revision(2), ..Change::default() };
        for frame in [
            Frame::State { state },
            Frame::Change { change },
            Frame::Heartbeat { revision: Revision(3) },
            Frame::Trust { trust: Trust { ca_pem: "pem".to_owned(), renew: true } },
        ] {
            let text = serde_json::to_string(&frame).unwrap();
            assert_eq!(serde_json::from_str::<Frame>(&text).unwrap(), frame);
        }
    }

    #[test]
    fn what_is_half_a_frame_or_none_is_refused() {
        for kind in ["state", "change", "heartbeat", "trust", "order"] {
            let half = format!("{{\"kind\":\"{kind}\"}}");
            assert!(serde_json::from_str::<Frame>(&half).is_err(), "{half}");
        }
        assert!(serde_json::from_str::<Frame>("{}").is_err());
    }
}
