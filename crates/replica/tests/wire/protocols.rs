//! Does a machine follow a control that speaks something else?

use nigh_proto::{Protocols, protocol::PROTOCOL};

use crate::{
    control::{Control, REPORT, WATCH},
    log::Log,
    machine::{following, joined, line},
};

#[tokio::test]
async fn every_call_names_what_the_machine_speaks() {
    let control = Control::start().await;
    let mut reports = control.calls(REPORT);
    let (_home, _machine, _watches, watch) = joined(&control).await;
    let here = Protocols::HERE.to_string();
    assert_eq!(watch.header(PROTOCOL), Some(&*here));
    let _pipe = watch.open(200, &[(PROTOCOL, here.clone())]);
    let report = reports.next_soon().await;
    assert_eq!(report.header(PROTOCOL), Some(&*here));
    let said: serde_json::Value = report.json();
    assert_eq!(said["about"]["protocols"], here);
}

#[tokio::test]
async fn a_machine_keeps_what_it_has_from_a_control_that_it_does_not_understand() {
    let log = Log::start();
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 1).await;
    drop(pipe);
    for (named, words) in [
        ("7-8", "control 7-8: install control's version of nigh on the machine"),
        ("two", "protocols are written as"),
    ] {
        // What it sends may mean something else than it seems to.
        let strange = watches.next_soon().await.open(200, &[(PROTOCOL, named.to_owned())]);
        strange.send(line(2));
        log.wait_for(words).await;
        assert_eq!((machine.revision(), home.revision_on_disk()), (Some(1), Some(1)));
        assert!(!machine.replica.is_connected());
    }
    // One that names nothing is of before the numbers, which the machine speaks still.
    let pipe = watches.next_soon().await.open(200, &[]);
    pipe.send(line(3));
    machine.wait_for(3).await;
}

#[tokio::test]
async fn the_words_of_a_control_that_turns_it_away_are_told_and_nothing_is_lost() {
    let log = Log::start();
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 1).await;
    drop(pipe);
    watches.next_soon().await.refuse(409, "upgrade control first, then machines");
    log.wait_for("upgrade control first, then machines").await;
    assert_eq!((machine.revision(), home.revision_on_disk()), (Some(1), Some(1)));
    let mut joins = control.calls(crate::control::JOIN);
    drop(watches);
    let mut watches = control.calls(WATCH);
    watches.next_soon().await.open(200, &[]).send(line(2));
    machine.wait_for(2).await;
    assert!(joins.is_quiet(), "it is one of the fleet all the while");
}
