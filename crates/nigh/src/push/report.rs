//! How did a push go, for people and for scripts?

use nigh_core::rules::Notice;
use nigh_proto::{
    MachineName, OperationId, ReleaseId, SiteName,
    api::{EdgeReleaseState, ReleaseState, ReleaseView},
};
use serde::Serialize;

use crate::{console::Console, follow::Ended, units};

/// The result of a push. Scripts rely on these names.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) site: SiteName,
    pub(crate) release: ReleaseId,
    pub(crate) state: ReleaseState,
    pub(crate) url: Option<String>,
    pub(crate) files: Files,
    pub(crate) edges: Vec<Edge>,
    pub(crate) duration_ms: u64,
    pub(crate) warnings: Vec<Notice>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Files {
    pub(crate) total: u64,
    /// Files whose bytes control did not have.
    pub(crate) new: u64,
    pub(crate) reused: u64,
    pub(crate) bytes_sent: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Edge {
    name: MachineName,
    state: EdgeReleaseState,
    ms: Option<u64>,
}

impl Report {
    pub(crate) fn new(
        view: ReleaseView,
        files: Files,
        duration_ms: u64,
        warnings: Vec<Notice>,
    ) -> Self {
        let ReleaseView { id, site, state, url, edges, .. } = view;
        let edges =
            edges.into_iter().map(|edge| Edge { name: edge.name, state: edge.state, ms: edge.ms });
        Self { site, release: id, state, url, files, edges: edges.collect(), duration_ms, warnings }
    }

    /// The end of the output on a terminal.
    pub(crate) fn describe(&self, ended: Ended, is_new: bool, console: &Console) -> String {
        let release = self.release.short();
        let url = self.url.as_deref().unwrap_or_default();
        if !is_new {
            return format!("nothing changed: release {release} is live at {url}");
        }
        let duration = units::duration(std::time::Duration::from_millis(self.duration_ms));
        let lags = || {
            let behind = self.edges.iter().filter(|edge| edge.state != EdgeReleaseState::Active);
            behind.map(|edge| edge.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let site = &self.site;
        if matches!(self.state, ReleaseState::Uploading | ReleaseState::Staging) {
            return format!(
                "release {release} of {site} is on its way to the edges after {duration}; control goes on\nfollow it: nigh release show {release} --site {site}"
            );
        }
        match ended {
            Ended::Live | Ended::Lost => {
                let tick = console.green("✓");
                let state = match self.state {
                    ReleaseState::Preview => "live as a preview",
                    state => state.label(),
                };
                let next = match self.state {
                    ReleaseState::Preview => {
                        format!("make it live: nigh release activate {release} --site {site}")
                    }
                    _ => format!("back to the one before: nigh rollback --site {site}"),
                };
                format!(
                    "{tick} {url}\nrelease {release} of {site} is {state} after {duration}\n{next}"
                )
            }
            Ended::Partial => format!(
                "{url}\nrelease {release} of {site} is {} after {duration}; behind are {} (left out of DNS answers until they have caught up)",
                self.state.label(),
                lags(),
            ),
            Ended::TimedOut => format!(
                "{url}\nrelease {release} of {site} is {} after {duration}, and {} not there yet; control goes on\nfollow it: nigh operation show {} --follow",
                self.state.label(),
                lags(),
                OperationId::of(&self.release),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_fields_they_rely_on() {
        let report = Report {
            site: "docs".parse().unwrap(),
            release: ReleaseId::new(1, [1; 10]),
            state: ReleaseState::Active,
            url: Some("https://docs.nigh.test".to_owned()),
            files: Files { total: 3, new: 1, reused: 2, bytes_sent: 9 },
            edges: vec![Edge {
                name: "fra".parse().unwrap(),
                state: EdgeReleaseState::Active,
                ms: Some(12),
            }],
            duration_ms: 50,
            warnings: Vec::new(),
        };
        let expected = serde_json::json!({
            "site": "docs", "release": ReleaseId::new(1, [1; 10]), "state": "active",
            "url": "https://docs.nigh.test",
            "files": { "total": 3, "new": 1, "reused": 2, "bytes_sent": 9 },
            "edges": [{ "name": "fra", "state": "active", "ms": 12 }],
            "duration_ms": 50, "warnings": [],
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    }
}
