//! When does control hear how things stand?

use std::time::Duration;

use nigh_proto::{
    ReleaseId,
    report::{REPORT_MAX_BYTES, REPORT_MS, REPORT_NUMBER, Report, SiteReport, StageFailure},
    state::Revision,
};
use nigh_replica::Standing;
use tokio::time::Instant;

use crate::{
    clock::FastClock,
    control::{Control, REPORT},
    log::Log,
    machine::following,
};

const PERIOD: Duration = Duration::from_millis(REPORT_MS);
/// Between what is measured here and where the machine begins to wait.
const A_MOMENT: Duration = Duration::from_secs(1);

fn standing(revision: u64) -> Standing {
    Standing { revision: Some(Revision(revision)), ..Standing::default() }
}

#[tokio::test]
async fn a_change_is_reported_at_once() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    reports.next_soon().await.answer(204, "");
    for revision in 1..10 {
        let began = Instant::now();
        machine.replica.report(standing(revision));
        let call = reports.next().await;
        assert!(began.elapsed() < PERIOD / 2, "{:?}", began.elapsed());
        assert_eq!(call.json::<Report>().revision, Some(Revision(revision)));
        call.answer(204, "");
    }
}

#[tokio::test]
async fn what_control_has_acknowledged_is_left_out() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    reports.next_soon().await.answer(204, "");
    let site = |name: &str, missing_blobs| SiteReport {
        site: name.parse().unwrap(),
        staged: Vec::new(),
        active: None,
        failed: Vec::new(),
        missing_blobs,
    };
    let with = |revision, sites| Standing { sites, ..standing(revision) };
    let known = |told: &Report| [(REPORT_NUMBER, told.sequel.number.to_string())];

    machine.replica.report(with(1, vec![site("docs", 1), site("blog", 2), site("old", 3)]));
    let call = reports.next().await;
    let first: Report = call.json();
    assert_eq!((first.sites.len(), first.sequel.since), (3, None));
    call.answer_with(204, &known(&first), "");

    let now = vec![site("docs", 1), site("blog", 0)];
    machine.replica.report(with(2, now.clone()));
    let call = reports.next().await;
    let second: Report = call.json();
    assert_eq!(second.sites, [site("blog", 0)]);
    assert_eq!(second.sequel.since, Some(first.sequel.number));
    assert_eq!(second.sequel.gone, ["old".parse().unwrap()]);
    // A control that was only just started says nothing of it, and is told everything at once.
    call.answer(204, "");
    let call = reports.next_soon().await;
    let third: Report = call.json();
    assert_eq!((third.sites, third.sequel.since), (now, None));
    call.answer(204, "");
}

#[tokio::test]
async fn a_machine_reports_every_five_seconds_when_nothing_changes() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    machine.replica.report(standing(1));
    let mut call = reports.next().await;
    while call.json::<Report>().revision.is_none() {
        call.answer(204, "");
        call = reports.next().await;
    }
    call.answer(204, "");
    let _clock = FastClock::start();
    for _ in 0..3 {
        let began = Instant::now();
        // What is the same as before is no change.
        machine.replica.report(standing(1));
        reports.next().await.answer(204, "");
        let waited = began.elapsed();
        assert!(waited + A_MOMENT >= PERIOD && waited < 2 * PERIOD, "{waited:?}");
    }
}

#[tokio::test]
async fn changes_while_a_report_is_on_its_way_are_one_report() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    let on_its_way = reports.next_soon().await;
    for revision in 1..=1000 {
        machine.replica.report(standing(revision));
        tokio::task::yield_now().await;
    }
    assert!(reports.is_quiet(), "one at a time");
    on_its_way.answer(204, "");
    let call = reports.next().await;
    assert_eq!(call.json::<Report>().revision, Some(Revision(1000)));
    call.answer(204, "");
    let _clock = FastClock::start();
    let began = Instant::now();
    reports.next().await.answer(204, "");
    assert!(began.elapsed() + A_MOMENT >= PERIOD, "nothing was left to say");
}

#[tokio::test]
async fn a_report_that_is_refused_is_told_once_and_tried_again() {
    let log = Log::start();
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    machine.replica.report(standing(5));
    for _ in 0..5 {
        reports.next_soon().await.refuse(403, "the certificate is that of edge fra2");
    }
    assert_eq!(log.lines_with("the certificate is that of edge fra2").len(), 1);
    let call = reports.next_soon().await;
    assert_eq!(call.json::<Report>().revision, Some(Revision(5)));
}

#[tokio::test]
async fn a_report_without_answer_is_given_up_and_control_hears_the_newest() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    let unanswered = reports.next_soon().await;
    machine.replica.report(standing(6));
    let call = reports.next_soon().await;
    assert_eq!(call.json::<Report>().revision, Some(Revision(6)));
    drop(unanswered);
}

#[tokio::test]
async fn a_report_of_too_many_failures_fits_and_still_says_what_is_served() {
    let log = Log::start();
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut reports = control.calls(REPORT);
    let sites: Vec<SiteReport> = (0..6000).map(site).collect();
    let sites_told = sites.clone();
    let revision = Some(Revision(5));
    machine.replica.report(Standing { revision, sites: sites_told, ..Standing::default() });
    for _ in 0..3 {
        let mut call = reports.next_soon().await;
        while call.json::<Report>().sites.is_empty() {
            call.answer(204, "");
            call = reports.next_soon().await;
        }
        assert!(call.body.len() <= REPORT_MAX_BYTES);
        let told: Report = call.json();
        let served = |sites: &[SiteReport]| -> Vec<_> {
            sites.iter().map(|site| (site.site.clone(), site.active.clone())).collect()
        };
        assert_eq!(served(&told.sites), served(&sites));
        call.answer(204, "");
    }
    assert_eq!(log.lines_with("too much to report").len(), 1);
}

fn site(number: u64) -> SiteReport {
    let release = ReleaseId::new(number, [7; 10]);
    let reason = "control sent 2 blobs less than it was asked for; ".repeat(20);
    SiteReport {
        site: format!("site-{number}").parse().unwrap(),
        staged: vec![release.clone()],
        active: Some(release.clone()),
        failed: vec![StageFailure { release, reason }; 3],
        missing_blobs: 2,
    }
}
