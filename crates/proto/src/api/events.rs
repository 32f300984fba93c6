//! What happened in the fleet, as people and programs are told.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{SiteName, Timestamp};

/// The media type of a stream of events (the HTML standard, section 9.2).
pub const EVENT_STREAM: &str = "text/event-stream";

macro_rules! kinds {
    ($($kind:ident $label:literal $means:literal),* $(,)?) => {
        /// What happened. The list is closed; a later version may add to it.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
            ToSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum EventKind {
            $(#[doc = $means] $kind,)*
        }

        impl EventKind {
            /// Every kind there is.
            pub const ALL: &[EventKind] = &[$(EventKind::$kind),*];

            /// The word in JSON, in a stream and in the database.
            pub const fn label(self) -> &'static str {
                match self {
                    $(EventKind::$kind => $label,)*
                }
            }
        }
    };
}

kinds! {
    SiteCreated "site_created" "A site was made.",
    SiteDeleted "site_deleted" "A site was deleted with all of its releases.",
    HostAdded "host_added" "A site answers to one more host.",
    HostRemoved "host_removed" "A site answers to a host no longer.",
    ReleaseCreated "release_created" "A push has begun.",
    ReleaseFinalized "release_finalized" "Everything is uploaded, edges fetch it.",
    ReleaseStaged "release_staged" "Ready on every edge that counts, and waiting for activation.",
    ReleaseActive "release_active" "Served on the site's hosts.",
    ReleasePreview "release_preview" "Served on a host of its own.",
    ReleaseRolledBack "release_rolled_back" "Somebody asked to go back to it.",
    ReleaseExpired "release_expired" "Given up: replaced, abandoned, or its preview is over.",
    ReleaseFailed "release_failed" "It could not go live.",
    ReleaseDeleted "release_deleted" "It is gone.",
    MachineJoined "machine_joined" "A machine joined the fleet.",
    MachineHeld "machine_held" "A machine holds sites that this control does not know, and is told nothing.",
    MachineRevoked "machine_revoked" "A machine's certificates were made void.",
    CaRotated "ca_rotated" "Control's CA is being replaced, was replaced, or is no longer trusted.",
    MachineAway "machine_away" "A machine is not heard from any more.",
    MachineBack "machine_back" "A machine that was away is heard from again.",
    MachineDrained "machine_drained" "A machine was taken out of the answers.",
    MachineUndrained "machine_undrained" "A machine was taken back into the answers.",
    MachineRemoved "machine_removed" "A machine was removed from the fleet.",
    FleetTakenOver "fleet_taken_over" "What machines held of a lost control is this control's now.",
    FleetDropped "fleet_dropped" "What machines held of another fleet is to be dropped.",
    EdgeLagging "edge_lagging" "An edge does not serve a site's active release and is left out.",
    EdgeCaughtUp "edge_caught_up" "An edge serves a site's active release again.",
    CertificateIssued "certificate_issued" "A certificate was made for new names.",
    CertificateRenewed "certificate_renewed" "A certificate was replaced before its end.",
    CertificateFailed "certificate_failed" "A certificate could not be had; `data.reason` says why.",
    TokenCreated "token_created" "An API token was made.",
    TokenChanged "token_changed" "An API token was given another name, end, or less to do.",
    TokenRevoked "token_revoked" "An API token is worthless now.",
    WebhookTest "webhook_test" "Somebody tests a webhook; only that one is told.",
    WebhookDisabled "webhook_disabled" "A webhook failed for so long that it was turned off.",
}

/// The text names no kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind of event {0:?}; docs/reference/api.md lists all of them")]
pub struct UnknownKind(String);

impl FromStr for EventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let kind = Self::ALL.iter().copied().find(|kind| kind.label() == text);
        kind.ok_or_else(|| UnknownKind(text.chars().take(40).collect()))
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Rises from event to event; give it as `after` or `Last-Event-ID` to go on behind it.
    #[schema(minimum = 1)]
    pub id: u64,
    pub at: Timestamp,
    pub kind: EventKind,
    /// The site that it is about, if it is about one.
    pub site: Option<SiteName>,
    /// What it is about: the id of a release or a token, the name of a host or a machine.
    pub subject: String,
    /// More about it, by kind; fields may be added.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_json_says_and_are_read_back() {
        for &kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.label());
            assert_eq!(kind.label().parse(), Ok(kind));
        }
        assert!("site".parse::<EventKind>().is_err());
    }
}
