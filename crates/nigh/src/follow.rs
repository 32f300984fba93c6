//! How does a release go live, seen from a terminal?

use std::time::{Duration, Instant};

use clap::ValueEnum;
use nigh_client::{Client, Patience};
use nigh_proto::{
    SiteName,
    api::{EdgeProgress, EdgeReleaseState, ReleaseState, ReleaseView},
};

use crate::{
    console::Console,
    exit::Exit,
    failure::{CallContext, Failure},
};

/// What a command waits for after control has everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Until every edge that can be reached serves it
    #[default]
    All,
    /// Until more than half of the edges serve it
    Quorum,
    /// For nothing
    None,
}

/// How long control may hold one question.
const POLL: Duration = Duration::from_secs(25);
/// How long edges that are still fetching are waited for after the release went live.
const LAGGING_WAIT: Duration = Duration::from_secs(20);

/// What following a release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Live as far as was asked for.
    Live,
    /// Live, and some edges lag.
    Partial,
    /// Not live in time; control goes on.
    TimedOut,
    /// It will not go live.
    Lost,
}

impl Ended {
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Ended::Live => Exit::Ok,
            Ended::Partial => Exit::Partial,
            Ended::TimedOut => Exit::Timeout,
            Ended::Lost => Exit::Conflict,
        }
    }
}

/// Whether there is an end to report now; `is_patient` while edges that lag are worth waiting for.
pub(crate) fn judge(view: &ReleaseView, wait: Wait, is_patient: bool) -> Option<Ended> {
    match view.state {
        ReleaseState::Uploading | ReleaseState::Staging => None,
        // Staged without activation: all that was asked for.
        ReleaseState::Staged => Some(Ended::Live),
        ReleaseState::Superseded | ReleaseState::Expired | ReleaseState::Failed => {
            Some(Ended::Lost)
        }
        ReleaseState::Active | ReleaseState::Preview => judge_edges(&view.edges, wait, is_patient),
    }
}

fn judge_edges(edges: &[EdgeProgress], wait: Wait, is_patient: bool) -> Option<Ended> {
    let serving = edges.iter().filter(|edge| edge.state == EdgeReleaseState::Active).count();
    let is_pending = |edge: &EdgeProgress| {
        matches!(edge.state, EdgeReleaseState::Staging | EdgeReleaseState::Staged)
    };
    let is_enough = match wait {
        Wait::All => serving == edges.len(),
        Wait::Quorum => serving * 2 > edges.len() || edges.is_empty(),
        Wait::None => true,
    };
    if is_enough {
        Some(Ended::Live)
    } else if is_patient && edges.iter().any(is_pending) {
        None
    } else {
        Some(Ended::Partial)
    }
}

/// Follows a release until it is live as `wait` asks, or lost, or `deadline` comes.
pub(crate) async fn follow(
    client: &Client,
    site: &SiteName,
    mut view: ReleaseView,
    wait: Wait,
    deadline: Instant,
    console: &Console,
) -> Result<(ReleaseView, Ended), Failure> {
    if wait == Wait::None {
        return Ok((view, Ended::Live));
    }
    let client = client.with_patience(Patience::until(deadline));
    let mut edges = Ticks::default();
    let mut live_since = None;
    loop {
        edges.note(&view, console);
        if matches!(view.state, ReleaseState::Active | ReleaseState::Preview) {
            live_since.get_or_insert_with(Instant::now);
        }
        let is_patient = live_since.is_none_or(|since: Instant| since.elapsed() < LAGGING_WAIT);
        if let Some(ended) = judge(&view, wait, is_patient) {
            return Ok((view, ended));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((view, Ended::TimedOut));
        }
        let poll = live_since.map_or(POLL, |since| LAGGING_WAIT.saturating_sub(since.elapsed()));
        view = client
            .release_after(site, &view.id, view.progress, poll.min(left))
            .await
            .or_fail(|| format!("release {} could not be followed", view.id.short()))
            .map_err(|failure| {
                let release = view.id.short();
                failure
                    .hint(format!("see how far it is: nigh release show {release} --site {site}"))
            })?;
    }
}

/// Which edges were already told of.
#[derive(Debug, Default)]
struct Ticks {
    told: Vec<(String, EdgeReleaseState)>,
}

impl Ticks {
    /// A line for every edge that has come further.
    fn note(&mut self, view: &ReleaseView, console: &Console) {
        for edge in &view.edges {
            let state = (edge.name.to_string(), edge.state);
            let is_news = matches!(
                edge.state,
                EdgeReleaseState::Active | EdgeReleaseState::Failed | EdgeReleaseState::Away
            );
            if is_news && !self.told.contains(&state) {
                console.note(&edge_line(edge, console));
                self.told.push(state);
            }
        }
    }
}

fn edge_line(edge: &EdgeProgress, console: &Console) -> String {
    let ms = edge.ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
    match edge.state {
        EdgeReleaseState::Active => format!("  {} {:<12} {ms}", console.green("✓"), edge.name),
        _ => {
            let reason = edge.reason.as_deref().unwrap_or("not heard from");
            format!("  ✗ {:<12} {reason}", edge.name)
        }
    }
}

/// The failure of a release that will not go live.
pub(crate) fn lost(view: &ReleaseView) -> Failure {
    let why = view.failure.clone().unwrap_or_else(|| format!("it is {} now", view.state.label()));
    Failure::new(Exit::Conflict, format!("release {} did not go live", view.id.short()))
        .why(why)
        .code(view.state.label())
        .hint(format!("see what is live: nigh release list --site {}", view.site))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(states: &[EdgeReleaseState]) -> Vec<EdgeProgress> {
        let edge = |(index, &state): (usize, &EdgeReleaseState)| EdgeProgress {
            name: format!("e{index}").parse().unwrap(),
            state,
            ms: None,
            reason: None,
        };
        states.iter().enumerate().map(edge).collect()
    }

    #[test]
    fn a_push_ends_when_enough_edges_serve_it() {
        use EdgeReleaseState::{Active, Away, Failed, Staging};
        for (states, wait, is_patient, ended) in [
            (&[][..], Wait::All, true, Some(Ended::Live)),
            (&[Active, Active], Wait::All, true, Some(Ended::Live)),
            (&[Active, Staging], Wait::All, true, None),
            (&[Active, Staging], Wait::All, false, Some(Ended::Partial)),
            (&[Active, Away], Wait::All, true, Some(Ended::Partial)),
            (&[Active, Failed], Wait::All, true, Some(Ended::Partial)),
            (&[Active, Active, Staging], Wait::Quorum, true, Some(Ended::Live)),
            (&[Active, Staging], Wait::Quorum, true, None),
            (&[Staging], Wait::None, true, Some(Ended::Live)),
        ] {
            assert_eq!(judge_edges(&edges(states), wait, is_patient), ended, "{states:?} {wait:?}");
        }
    }
}
