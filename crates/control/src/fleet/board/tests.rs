use proptest::prelude::*;

use super::*;
use crate::fleet::fixture;

fn edge(state: EdgeReleaseState) -> Vec<EdgeProgress> {
    vec![EdgeProgress { name: fixture::name("fra1"), state, ms: None, reason: None }]
}

#[test]
fn progress_rises_when_something_changed_and_only_then() {
    let mut board = Board::default();
    let mut row = fixture::release_row(1, ReleaseState::Staging);
    row.staging_at = Some(Timestamp::from_unix_ms(1_000));
    let at = Timestamp::from_unix_ms;
    assert!(board.observe(&row, edge(EdgeReleaseState::Staging), at(1_000)));
    let first = board.line(&row.id).unwrap().1;
    assert!(!board.observe(&row, edge(EdgeReleaseState::Staging), at(1_010)));
    assert!(board.observe(&row, edge(EdgeReleaseState::Staged), at(1_020)));
    let (edges, second) = board.line(&row.id).unwrap();
    assert_eq!(edges[0].ms, Some(20));
    assert!(second > first);
    assert!(!board.observe(&row, edge(EdgeReleaseState::Staged), at(1_500)));
    row.state = ReleaseState::Active;
    assert!(board.observe(&row, edge(EdgeReleaseState::Active), at(1_600)));
    assert_eq!(board.line(&row.id).unwrap().0[0].ms, Some(600));
}

#[test]
fn progress_rises_past_that_of_another_control_whose_clock_is_ahead() {
    let row = fixture::release_row(1, ReleaseState::Staging);
    let at = Timestamp::from_unix_ms;
    let mut board = Board::default();
    board.goes_on_from(1_500, at(1_000));
    board.observe(&row, edge(EdgeReleaseState::Staging), at(1_000));
    assert!(board.line(&row.id).unwrap().1 > 1_500);
    board.goes_on_from(u64::MAX, at(1_000));
    board.observe(&row, edge(EdgeReleaseState::Staged), at(1_000));
    assert!(board.line(&row.id).unwrap().1 <= 61_001, "nonsense is bounded");
}

#[test]
fn progress_rises_over_a_restart() {
    let row = fixture::release_row(1, ReleaseState::Staging);
    let at = Timestamp::from_unix_ms;
    let mut before = Board::default();
    before.observe(&row, edge(EdgeReleaseState::Staging), at(5_000));
    let mut after = Board::default();
    after.observe(&row, edge(EdgeReleaseState::Staging), at(5_500));
    assert!(after.line(&row.id).unwrap().1 > before.line(&row.id).unwrap().1);
}
/// What an edge may say or do between two looks.
#[derive(Clone, Debug)]
enum Happening {
    Says { edge: usize, staged: Vec<u64>, active: Option<u64>, revision: u64 },
    Connects(usize),
    Disconnects(usize),
    Activates(u64),
    Joins,
    Time(u64),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let staged = proptest::collection::vec(1u64..4, 0..3);
    let active = proptest::option::of(1u64..4);
    prop_oneof![
        (0..3usize, staged, active, 5u64..12).prop_map(|(edge, staged, active, revision)| {
            Happening::Says { edge, staged, active, revision }
        }),
        (0..3usize).prop_map(Happening::Connects),
        (0..3usize).prop_map(Happening::Disconnects),
        (1u64..4).prop_map(Happening::Activates),
        Just(Happening::Joins),
        (1u64..20_000).prop_map(Happening::Time),
    ]
}

proptest! {
    /// Looking only at what is new finds what looking at everything does.
    #[test]
    fn no_news_is_missed(
        happenings in proptest::collection::vec(any_happening(), 1..40),
    ) {
        let names = ["fra1", "nyc1", "sin1"];
        let start = Instant::now();
        let (mut instant, mut time) = (start, Timestamp::from_unix_ms(1_000_000));
        let mut world = fixture::world(&["fra1", "nyc1"], Some(1), None);
        let releases = (1..4).map(|number| {
            let mut row = fixture::release_row(number, ReleaseState::Staging);
            row.staging_at = Some(time);
            row
        });
        world.sites[0].releases = releases.collect();
        let mut statuses = Statuses::new(start);
        let mut streams = BTreeMap::new();
        let mut board = Board::default();
        for happening in happenings {
            match happening {
                Happening::Says { edge, staged, active, revision } => {
                    let mut report = fixture::report(names[edge], &staged);
                    report.sites[0].active = active.map(fixture::release);
                    report.revision = Some(nigh_proto::state::Revision(revision));
                    statuses.reported(report, instant, time);
                }
                Happening::Connects(edge) => {
                    let name = fixture::name(names[edge]);
                    streams.insert(edge, statuses.connected(&name, instant));
                }
                Happening::Disconnects(edge) => {
                    if let Some(stream) = streams.remove(&edge) {
                        statuses.disconnected(&fixture::name(names[edge]), stream);
                    }
                }
                Happening::Activates(number) => {
                    world.revision += 1;
                    for row in &mut world.sites[0].releases {
                        if row.id == fixture::release(number) {
                            row.state = ReleaseState::Active;
                            row.live_revision = Some(world.revision);
                            row.activated_at = Some(time);
                        }
                    }
                }
                Happening::Joins => {
                    world.revision += 1;
                    world.machines = names.iter().map(|name| fixture::machine(name)).collect();
                }
                Happening::Time(ms) => {
                    instant += Duration::from_millis(LOOK_EVERY.as_millis() as u64 + ms);
                    time = time.plus_ms(ms.cast_signed() + 500);
                }
            }
            let news = statuses.take_news();
            board.look(&world, &statuses, &news, instant, time);
            for row in &world.sites[0].releases {
                let (found, _) = board.line(&row.id).unwrap();
                let mut edges = edges_of(&world, &statuses, &world.sites[0], row, instant);
                for (edge, found) in edges.iter_mut().zip(found) {
                    edge.ms = found.ms;
                }
                prop_assert_eq!(found, edges.as_slice());
            }
        }
    }
}
