//! How does a machine stay one of the fleet?

use nigh_proto::{
    report::RenewRequest,
    watch::{Frame, Trust},
};
use rcgen::CertificateSigningRequestParams;

use crate::{
    control::{Call, Control, JOIN, RENEW, WATCH},
    log::Log,
    machine::{Home, admit, following, frame, line},
};

/// A line of the watch stream: whom to trust, and to renew.
fn ask_to_renew(control: &Control) -> Vec<u8> {
    frame(&Frame::Trust { trust: Trust { ca_pem: control.ca_pem(), renew: true } })
}

/// Gives the machine its next certificate; returns what the machine asked with.
fn renew(control: &Control, call: Call) -> String {
    assert!(call.has_certificate);
    assert!(!String::from_utf8_lossy(&call.body).contains("PRIVATE KEY"));
    let request: RenewRequest = call.json();
    let csr = CertificateSigningRequestParams::from_pem(&request.csr_pem).unwrap();
    let answer = nigh_proto::report::JoinResponse {
        name: "fra1".parse().unwrap(),
        certificate_pem: control.sign(csr),
        ca_pem: control.ca_pem(),
    };
    call.answer(200, serde_json::to_vec(&answer).unwrap());
    request.csr_pem
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_when_a_stream_was_opened_with_it() {
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 7).await;
    let mut renewals = control.calls(RENEW);
    let before = std::fs::read_to_string(home.path("identity/machine.pem")).unwrap();
    pipe.send(ask_to_renew(&control));
    renew(&control, renewals.next_soon().await);
    let watch = watches.next().await;
    let read = |name: &str| std::fs::read_to_string(home.path("identity").join(name));
    assert_eq!(read("machine.pem").unwrap(), before, "the old pair until the new one works");
    let next = read("next.pem").unwrap();
    pipe.send(line(8));
    machine.replica.connected().wait_for(|connected| *connected).await.unwrap();
    let new_pipe = watch.open(200, &[]);
    new_pipe.send(line(9));
    machine.wait_for(9).await;
    pipe.closed().await;
    assert!(machine.replica.is_connected(), "it was connected all the while");
    assert_eq!(read("machine.pem").unwrap(), next);
    assert!(read("next.pem").is_err());
}

#[tokio::test]
async fn a_renewed_certificate_that_does_not_work_is_forgotten_and_the_stream_goes_on() {
    let log = Log::start();
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 7).await;
    let mut renewals = control.calls(RENEW);
    let before = std::fs::read_to_string(home.path("identity/machine.pem")).unwrap();
    pipe.send(ask_to_renew(&control));
    let first = renew(&control, renewals.next_soon().await);
    watches.next().await.refuse(403, "this machine was removed");
    pipe.send(line(8));
    machine.wait_for(8).await;
    let again = renewals.next_soon().await;
    assert!(!home.path("identity/next.pem").exists());
    assert_eq!(std::fs::read_to_string(home.path("identity/machine.pem")).unwrap(), before);
    assert_eq!(log.lines_with("the certificate was not renewed").len(), 1);
    assert_ne!(renew(&control, again), first, "every try has a key of its own");
    watches.next().await.open(200, &[]).send(line(9));
    machine.wait_for(9).await;
}

#[tokio::test]
async fn a_machine_that_stopped_between_the_two_pairs_tries_the_new_one_first() {
    let control = Control::start().await;
    let (home, machine, mut watches, pipe) = following(&control, 7).await;
    let mut renewals = control.calls(RENEW);
    pipe.send(ask_to_renew(&control));
    renew(&control, renewals.next_soon().await);
    let unanswered = watches.next().await;
    let next = std::fs::read_to_string(home.path("identity/next.pem")).unwrap();
    drop((machine, pipe, unanswered));
    let machine = home.start();
    watches.next().await.open(200, &[]).send(line(8));
    machine.wait_for(8).await;
    assert_eq!(std::fs::read_to_string(home.path("identity/machine.pem")).unwrap(), next);
}

#[tokio::test]
async fn a_token_with_a_fingerprint_is_all_that_a_machine_needs() {
    let log = Log::start();
    let control = Control::start().await;
    let mut home = Home::new(&control);
    home.has_ca_file = false;
    std::fs::remove_file(home.path("control-ca.pem")).unwrap();
    let stranger = nigh_proto::Digest::of(b"another CA");
    home.write_token(&format!("nigh_join_first.{stranger}"));
    let (mut joins, mut watches) = (control.calls(JOIN), control.calls(WATCH));
    let _machine = home.start();
    log.wait_for("a CA that this machine does not trust").await;
    assert!(joins.is_quiet(), "the token was not shown to a stranger");
    home.write_token(&format!("nigh_join_first.{}", control.fingerprint()));
    assert_eq!(admit(&control, joins.next_soon().await).token, "nigh_join_first");
    assert!(watches.next().await.has_certificate);
}
