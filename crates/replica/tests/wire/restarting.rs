//! What is left when control, or the machine, goes away and comes back?

use std::time::Duration;

use nigh_proto::report::JoinRequest;
use tokio::time::Instant;

use crate::{
    clock::FastClock,
    control::{Control, JOIN, WATCH},
    log::Log,
    machine::{admit, following, line},
};

#[tokio::test]
async fn a_control_that_was_away_is_found_again_by_the_next_attempt() {
    let log = Log::start();
    let mut control = Control::start().await;
    let (_home, machine, mut watches, _pipe) = following(&control, 7).await;
    control.stop().await;
    machine.wait_until_connected(false).await;
    let clock = FastClock::start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(watches.is_quiet());
    assert_eq!(machine.revision(), Some(7), "it goes on with what it has");
    let told = log.lines_with("not connected to control");
    assert!((1..=3).contains(&told.len()), "{told:?}");

    control.start_again().await;
    let since = Instant::now();
    let watch = watches.next().await;
    assert!(since.elapsed() <= Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(watch.since().as_deref(), Some("7"));
    drop(clock);
    let pipe = watch.open(200, &[]);
    pipe.send(line(8));
    machine.wait_for(8).await;
    machine.wait_until_connected(true).await;
    assert!(watches.is_quiet(), "one stream is enough");
}

#[tokio::test]
async fn a_machine_starts_from_its_copy_with_control_away() {
    let mut control = Control::start().await;
    let (home, machine, mut watches, _pipe) = following(&control, 7).await;
    drop(machine);
    control.stop().await;
    let machine = home.start();
    assert_eq!(machine.revision(), Some(7), "there as soon as it is opened");
    assert!(!machine.replica.is_connected());

    control.start_again().await;
    let watch = watches.next().await;
    assert_eq!(watch.since().as_deref(), Some("7"));
    watch.open(200, &[]).send(line(8));
    machine.wait_for(8).await;
}

#[tokio::test]
async fn a_damaged_state_is_put_aside_and_asked_for_again() {
    let control = Control::start().await;
    let (home, machine, _, _pipe) = following(&control, 7).await;
    drop(machine);
    let whole = std::fs::read(home.path("state.json")).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\0\0\0\0", &line(7)] {
        std::fs::write(home.path("state.json"), damaged).unwrap();
        let mut watches = control.calls(WATCH);
        let machine = home.start();
        assert_eq!(machine.revision(), None);
        assert_eq!(std::fs::read(home.path("state.json.damaged")).unwrap(), damaged);
        let watch = watches.next().await;
        assert!(watch.has_certificate, "it is still the same machine");
        assert_eq!(watch.since(), None, "it asks for the whole state");
        watch.open(200, &[]).send(line(7));
        machine.wait_for(7).await;
        assert_eq!(home.revision_on_disk(), Some(7));
    }
}

#[tokio::test]
async fn a_machine_with_a_damaged_certificate_starts_and_joins_again_with_a_new_token() {
    let log = Log::start();
    let control = Control::start().await;
    for (revision, damaged) in [&b"damaged"[..], b"", b"\xff\0"].into_iter().enumerate() {
        let revision = revision as u64 + 7;
        let (home, machine, _, _pipe) = following(&control, revision).await;
        drop(machine);
        std::fs::write(home.path("identity/machine.pem"), damaged).unwrap();
        let (mut joins, mut watches) = (control.calls(JOIN), control.calls(WATCH));
        let machine = home.start();
        assert_eq!(machine.revision(), Some(revision));
        joins.next().await.refuse(401, "the token was used before");
        home.write_token("nigh_join_again");
        let mut join = joins.next_soon().await;
        if join.json::<JoinRequest>().token != "nigh_join_again" {
            join.refuse(401, "the token was used before");
            join = joins.next_soon().await;
        }
        admit(&control, join);
        let watch = watches.next_soon().await;
        let since = revision.to_string();
        assert!(watch.has_certificate && watch.since() == Some(since));
    }
    assert_eq!(log.lines_with("identity/machine.pem is not PEM").len(), 3, "once per start");
}

#[tokio::test]
async fn either_copy_of_the_ca_is_enough() {
    let control = Control::start().await;
    let (home, machine, _, _pipe) = following(&control, 7).await;
    drop(machine);
    let ca = control.ca_pem();
    for (kept, file) in [("damaged", ca.as_str()), (ca.as_str(), "damaged"), (ca.as_str(), "")] {
        std::fs::write(home.path("identity/ca.pem"), kept).unwrap();
        std::fs::write(home.path("control-ca.pem"), file).unwrap();
        let mut watches = control.calls(WATCH);
        let _machine = home.start();
        assert!(watches.next_soon().await.has_certificate);
    }
}
