//! How does a machine become one of the fleet, and again when it has been one?

use std::{os::unix::fs::PermissionsExt, time::Duration};

use nigh_proto::report::JoinRequest;

use crate::{
    clock::FastClock,
    control::{Control, JOIN, WATCH},
    log::Log,
    machine::{Home, admit, following, joined, line},
};

#[tokio::test]
async fn a_machine_joins_with_its_token_and_its_key_never_leaves_it() {
    let control = Control::start().await;
    let home = Home::new(&control);
    let (mut joins, mut watches) = (control.calls(JOIN), control.calls(WATCH));
    let _machine = home.start();
    let join = joins.next().await;
    assert!(!join.has_certificate);
    assert!(!String::from_utf8_lossy(&join.body).contains("PRIVATE KEY"));
    let request = admit(&control, join);
    assert_eq!(request.token, "nigh_join_first");
    assert_eq!(request.about.name.as_str(), "fra1");

    let watch = watches.next().await;
    assert!(watch.has_certificate, "it proves who it is from now on");
    assert_eq!(watch.since(), None, "it has no state yet");
    let key = std::fs::metadata(home.path("identity/key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_machine_that_has_joined_does_not_ask_to_join_after_a_restart() {
    let control = Control::start().await;
    let (home, machine, mut watches, _watch) = joined(&control).await;
    drop(machine);
    std::fs::remove_file(home.path("token")).unwrap();
    std::fs::remove_file(home.path("control-ca.pem")).unwrap();
    let mut joins = control.calls(JOIN);
    let _machine = home.start();
    assert!(watches.next().await.has_certificate);
    assert!(joins.is_quiet());
}

#[tokio::test]
async fn a_refused_token_is_reported_once_and_a_new_one_is_taken_without_a_restart() {
    let log = Log::start();
    let control = Control::start().await;
    let home = Home::new(&control);
    let (mut joins, mut watches) = (control.calls(JOIN), control.calls(WATCH));
    let _machine = home.start();
    joins.next().await.refuse(401, "the token was used before");
    for _ in 0..3 {
        joins.next_soon().await.refuse(401, "the token was used before");
    }
    let told = log.lines_with("the token was used before");
    assert_eq!(told.len(), 1, "{told:?}");
    let path = home.path("token");
    assert!(told[0].contains(path.to_str().unwrap()), "{told:?}");
    assert!(told[0].contains("make a new one"), "{told:?}");

    home.write_token("nigh_join_second");
    let mut join = joins.next_soon().await;
    if join.json::<JoinRequest>().token == "nigh_join_first" {
        // It had read the file already.
        join.refuse(401, "the token was used before");
        join = joins.next_soon().await;
    }
    assert_eq!(admit(&control, join).token, "nigh_join_second");
    assert!(watches.next().await.has_certificate);
}

#[tokio::test]
async fn a_machine_waits_for_a_token_that_is_not_there_yet_and_says_so_once() {
    let log = Log::start();
    let control = Control::start().await;
    let home = Home::new(&control);
    std::fs::remove_file(home.path("token")).unwrap();
    let mut joins = control.calls(JOIN);
    let _machine = home.start();
    let clock = FastClock::start();
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(clock);
    assert!(joins.is_quiet());
    let told = log.lines_with("could not read the join token");
    assert_eq!(told.len(), 1, "{told:?}");
    home.write_token("nigh_join_late");
    assert_eq!(admit(&control, joins.next_soon().await).token, "nigh_join_late");
}

#[tokio::test]
async fn a_certificate_that_is_not_for_its_key_does_not_take_the_place_of_none() {
    let log = Log::start();
    let control = Control::start().await;
    let home = Home::new(&control);
    let (mut joins, mut watches) = (control.calls(JOIN), control.calls(WATCH));
    let _machine = home.start();
    let join = joins.next().await;
    let mut response = control.admit(&join.json());
    response.certificate_pem = control.ca_pem();
    join.answer(200, serde_json::to_vec(&response).unwrap());

    let join = joins.next_soon().await;
    assert!(!home.path("identity/machine.pem").exists());
    assert_eq!(log.lines_with("cannot be used").len(), 1);
    admit(&control, join);
    assert!(watches.next().await.has_certificate);
}

#[tokio::test]
async fn a_machine_that_was_removed_joins_again_with_a_new_token_and_keeps_key_and_state() {
    let log = Log::start();
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 7).await;
    let key = std::fs::read(home.path("identity/key.pem")).unwrap();
    let mut joins = control.calls(JOIN);
    drop(pipe);
    for _ in 0..3 {
        watches.next_soon().await.refuse(403, "this machine was removed");
        joins.next_soon().await.refuse(401, "the token was used before");
    }
    assert_eq!(log.lines_with("this machine was removed").len(), 1);
    assert_eq!(log.lines_with("the token was used before").len(), 1);
    assert_eq!(machine.revision(), Some(7));

    home.write_token("nigh_join_again");
    watches.next_soon().await.refuse(403, "this machine was removed");
    let join = joins.next_soon().await;
    assert!(!join.has_certificate);
    assert_eq!(admit(&control, join).token, "nigh_join_again");
    let watch = watches.next_soon().await;
    assert_eq!(watch.since().as_deref(), Some("7"));
    watch.open(200, &[]).send(line(8));
    machine.wait_for(8).await;
    assert_eq!(std::fs::read(home.path("identity/key.pem")).unwrap(), key);
}

#[tokio::test]
async fn a_certificate_that_control_no_longer_takes_is_replaced_with_a_new_token() {
    let mut control = Control::start().await;
    let (home, machine, mut watches, _pipe) = following(&control, 7).await;
    control.stop().await;
    control.replace_ca();
    home.trust(&control);
    home.write_token("nigh_join_again");
    let mut joins = control.calls(JOIN);
    control.start_again().await;
    assert_eq!(admit(&control, joins.next_soon().await).token, "nigh_join_again");
    let watch = watches.next_soon().await;
    assert!(watch.has_certificate);
    watch.open(200, &[]).send(line(8));
    machine.wait_for(8).await;
}

/// Control was lost, and another one has its address: a CA of the same name with another key, and
/// nobody has given the machine a file with it.
#[tokio::test]
async fn a_control_that_took_the_place_of_a_lost_one_is_known_by_its_token_alone() {
    let log = Log::start();
    let mut control = Control::start().await;
    let (home, machine, mut watches, _pipe) = following(&control, 7).await;
    control.stop().await;
    control.replace_ca();
    control.start_again().await;
    let mut joins = control.calls(JOIN);
    let clock = FastClock::start();
    tokio::time::sleep(Duration::from_secs(40)).await;
    drop(clock);
    assert!(joins.is_quiet() && watches.is_quiet(), "it does not talk to a stranger");
    assert!(!log.lines_with("nigh edge token fra1").is_empty(), "it says what to do");
    assert_eq!(machine.revision(), Some(7), "it has what it had");

    home.write_token(&format!("nigh_join_again.{}", control.fingerprint()));
    assert_eq!(admit(&control, joins.next_soon().await).token, "nigh_join_again");
    let watch = watches.next_soon().await;
    assert!(watch.has_certificate);
    assert_eq!(watch.since().as_deref(), Some("7"));
    watch.open(200, &[]).send(line(8));
    machine.wait_for(8).await;
}
