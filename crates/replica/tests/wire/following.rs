//! How does a machine follow control, and what does it not believe?

use std::time::Duration;

use bytes::Bytes;
use nigh_proto::{
    state::{DnsState, MachineState, Revision},
    watch::{FRAME_MAX_BYTES, Frame, HEARTBEAT_MS, SILENCE_MAX_MS},
};
use tokio::time::Instant;

use crate::{
    clock::FastClock,
    control::Control,
    machine::{following, heartbeat, joined, line, line_for},
};

/// No wait between attempts is longer, as `backoff` says.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What handshakes may take on a fast clock and a busy machine.
const SLACK: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_state_is_on_disk_before_anyone_hears_of_it() {
    let control = Control::start().await;
    let (home, machine, _watches, pipe) = following(&control, 1).await;
    let mut states = machine.replica.state();
    states.mark_unchanged();
    for revision in 2..20 {
        pipe.send(line(revision));
        states.changed().await.unwrap();
        let heard = states.borrow_and_update().as_ref().unwrap().revision().0;
        assert!(heard >= 2);
        assert!(home.revision_on_disk() >= Some(heard), "{heard} is told and not kept");
        machine.wait_for(revision).await;
    }
}

#[tokio::test]
async fn an_older_state_is_refused_and_the_same_one_is_a_success() {
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 5).await;
    let mut states = machine.replica.state();
    states.mark_unchanged();
    for revision in [4, 5, 0, 5, 6] {
        pipe.send(line(revision));
    }
    states.changed().await.unwrap();
    assert_eq!(states.borrow_and_update().as_ref().unwrap().revision().0, 6);
    assert_eq!(home.revision_on_disk(), Some(6));
    assert!(watches.is_quiet() && machine.replica.is_connected(), "the stream goes on");
}

#[tokio::test]
async fn what_is_no_frame_or_for_another_machine_leaves_the_state_and_control_is_dialled_again() {
    let control = Control::start().await;
    let (home, machine, mut watches, mut pipe) = following(&control, 5).await;
    let bad: [Vec<u8>; 6] = [
        b"garbage\n".to_vec(),
        b"{\"kind\":\"state\",\"state\":{}}\n".to_vec(),
        b"{\"kind\":\"order\"}\n".to_vec(),
        vec![0xff, 0xfe, b'\n'],
        line_for("fra2", 9),
        dns_line(9),
    ];
    for bytes in bad {
        pipe.send(bytes);
        pipe.closed().await;
        let watch = watches.next_soon().await;
        assert_eq!(watch.since().as_deref(), Some("5"));
        assert_eq!((machine.revision(), home.revision_on_disk()), (Some(5), Some(5)));
        assert!(!machine.replica.is_connected());
        pipe = watch.open(200, &[]);
        pipe.send(heartbeat(5));
        machine.wait_until_connected(true).await;
    }
    pipe.send(line(6));
    machine.wait_for(6).await;
}

#[tokio::test]
async fn changes_are_acted_on_and_still_there_after_a_restart() {
    let control = Control::start().await;
    let (home, machine, _watches, pipe) = following(&control, 5).await;
    let change = |since: u64, revision: u64, region: &str| {
        let change = serde_json::json!({
            "since": since, "revision": revision, "fields": {"region": region},
            "lists": {"sites": {"drop": ["gone"]}},
        });
        format!("{{\"kind\":\"change\",\"change\":{change}}}\n")
    };
    for (since, revision) in [(5, 6), (6, 9)] {
        pipe.send(change(since, revision, "eu-paris"));
        machine.wait_for(revision).await;
    }
    drop((machine, control));
    let again = home.start();
    let state = again.replica.state().borrow().clone().unwrap();
    let MachineState::Edge(state) = &*state else { panic!("this is an edge") };
    assert_eq!((state.revision, state.region.as_str()), (Revision(9), "eu-paris"));
}

#[tokio::test]
async fn a_change_of_another_revision_is_refused_and_control_is_asked_again() {
    let control = Control::start().await;
    let (_home, machine, mut watches, pipe) = following(&control, 5).await;
    pipe.send("{\"kind\":\"change\",\"change\":{\"since\":4,\"revision\":6}}\n");
    pipe.closed().await;
    let watch = watches.next_soon().await;
    assert_eq!(watch.since().as_deref(), Some("5"));
    assert_eq!(machine.revision(), Some(5));
}

#[tokio::test]
async fn a_frame_longer_than_the_bound_is_not_read_to_its_end() {
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 5).await;
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    for _ in 0..=FRAME_MAX_BYTES / piece.len() {
        pipe.send(piece.clone());
    }
    pipe.closed().await;
    assert_eq!(watches.next().await.since().as_deref(), Some("5"));
    assert_eq!((machine.revision(), home.revision_on_disk()), (Some(5), Some(5)));
}

#[tokio::test]
async fn a_silent_stream_is_given_up_and_control_is_dialled_again() {
    let control = Control::start().await;
    let (_home, machine, mut watches, pipe) = following(&control, 5).await;
    let _clock = FastClock::start();
    let silent_since = Instant::now();
    machine.wait_until_connected(false).await;
    let silence = Duration::from_millis(SILENCE_MAX_MS);
    let waited = silent_since.elapsed();
    let a_moment = Duration::from_millis(100);
    assert!(waited + a_moment >= silence && waited <= silence + SLACK, "{waited:?}");
    watches.next().await.open(200, &[]).send(line(6));
    machine.wait_for(6).await;
    drop(pipe);
}

#[tokio::test]
async fn heartbeats_keep_a_quiet_stream_open() {
    let control = Control::start().await;
    let (_home, machine, mut watches, pipe) = following(&control, 5).await;
    let _clock = FastClock::start();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)).await;
        pipe.send(heartbeat(5));
    }
    assert!(machine.replica.is_connected() && watches.is_quiet());
}

#[tokio::test]
async fn an_answer_that_never_begins_is_given_up() {
    let control = Control::start().await;
    let (_home, machine, mut watches, unanswered) = joined(&control).await;
    watches.next_soon().await.open(200, &[]).send(line(1));
    machine.wait_for(1).await;
    drop(unanswered);
}

#[tokio::test]
async fn a_control_that_talks_nonsense_is_asked_less_and_less_often() {
    let control = Control::start().await;
    let (_home, _machine, mut watches, watch) = joined(&control).await;
    let _clock = FastClock::start();
    let began = Instant::now();
    let mut asked = Some(watch);
    for _ in 0..12 {
        let pipe = asked.take().unwrap().open(200, &[]);
        pipe.send(heartbeat(0));
        pipe.send("nonsense\n");
        pipe.closed().await;
        let since = Instant::now();
        asked = Some(watches.next().await);
        assert!(since.elapsed() <= WAIT_MAX + SLACK, "{:?}", since.elapsed());
    }
    // Without growing waits they take half a second on average.
    assert!(began.elapsed() > WAIT_MAX, "{:?}", began.elapsed());
}

fn dns_line(revision: u64) -> Vec<u8> {
    let state = MachineState::Dns(DnsState {
        fleet: None,
        revision: Revision(revision),
        machine: "fra1".parse().unwrap(),
        zones: Vec::new(),
        edges: Vec::new(),
        sites: Vec::new(),
        networks: Vec::new(),
        steered_ttl_s: 20,
        answer_addresses_max: 2,
        challenges: Vec::new(),
    });
    let mut line =
        serde_json::to_vec(&Frame::State { state: nigh_proto::document::Document::of(&state) })
            .unwrap();
    line.push(b'\n');
    line
}
