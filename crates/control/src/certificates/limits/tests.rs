use proptest::prelude::*;

use super::*;

const ONE: &str = "https://one.test/dir";
const TWO: &str = "https://two.test/dir";
const BOTH: [&str; 2] = [ONE, TWO];

fn start() -> Timestamp {
    Timestamp::from_unix_ms(1_790_000_000_000)
}

fn names(texts: &[&str]) -> Vec<DnsName> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn trouble(subject: &str, kind: SetbackKind) -> Trouble {
    Trouble { subject: subject.to_owned(), kind, retry_after_ms: None, detail: "why".to_owned() }
}

fn events(kind: EventKind, subject: &str, times: impl Iterator<Item = i64>) -> Vec<Event> {
    let event = |ago_ms: i64| Event {
        ca: ONE.to_owned(),
        kind,
        subject: subject.to_owned(),
        at: start().plus_ms(-ago_ms),
    };
    times.map(event).collect()
}

fn choose(history: &History, names: &[DnsName], now: Timestamp) -> Result<usize, Hold> {
    history.choose(&BOTH, "site:docs", names, HOUR_MS, now)
}

/// The history after `trouble` came again and again, each time when it was tried again.
fn after(trouble: &Trouble, times: usize) -> (History, Timestamp) {
    let mut history = History::default();
    let mut now = start();
    for _ in 0..times {
        let before = history.setback(ONE, &trouble.subject).cloned();
        now = before.as_ref().map_or(now, |before| before.retry_at);
        history.setbacks = vec![Setback::after(before.as_ref(), ONE, trouble.clone(), now, 0.5)];
    }
    (history, now)
}

#[test]
fn a_host_that_fails_waits_longer_every_time_and_holds_back_nobody() {
    let failing = trouble("bad.test", SetbackKind::Failed);
    let waits = [1, 2, 3, 4, 20].map(|times| {
        let (history, now) = after(&failing, times);
        history.setbacks[0].retry_at.ms_since(now)
    });
    assert_eq!(waits, [5, 10, 20, 40, 24 * 60].map(|minutes| minutes * MINUTE_MS));
    let (history, now) = after(&failing, 1);
    let hold = choose(&history, &names(&["bad.test", "good.test"]), now).unwrap_err();
    assert_eq!((hold.until, hold.why.as_str()), (now.plus_ms(5 * MINUTE_MS), "why"));
    assert_eq!(choose(&history, &names(&["good.test"]), now), Ok(0));
    assert_eq!(choose(&history, &names(&["bad.test"]), hold.until), Ok(0));
    assert_eq!(history.troubled().into_iter().collect::<Vec<_>>(), names(&["bad.test"]));
}

#[test]
fn another_ca_is_not_bothered_with_a_host_that_it_would_not_see_either() {
    let failing = trouble("bad.test", SetbackKind::Failed);
    let (twice, now) = after(&failing, 2);
    assert!(choose(&twice, &names(&["bad.test"]), now).is_err());
    let (thrice, now) = after(&failing, 3);
    assert_eq!(choose(&thrice, &names(&["bad.test"]), now), Ok(1), "the fault may be the CA's");
    let (refused, now) = after(&trouble("bad.test", SetbackKind::Refused), 1);
    assert_eq!(choose(&refused, &names(&["bad.test"]), now), Ok(1));
}

#[test]
fn a_short_outage_is_waited_for_and_a_long_one_is_not() {
    let down = trouble("", SetbackKind::Down);
    let (history, now) = after(&down, 3);
    let hold = choose(&history, &names(&["a.test"]), now).unwrap_err();
    assert_eq!(hold.until, now.plus_ms(4 * MINUTE_MS));
    let (history, now) = after(&down, 9);
    assert!(now.ms_since(history.setbacks[0].since) >= HOUR_MS);
    assert_eq!(choose(&history, &names(&["a.test"]), now), Ok(1));
    // It is tried again all the same, and preferred once it is back.
    assert_eq!(choose(&history, &names(&["a.test"]), history.setbacks[0].retry_at), Ok(0));
}

#[test]
fn a_fleet_that_was_not_ready_is_waited_for_and_blames_nobody() {
    let (history, now) = after(&trouble("site:docs", SetbackKind::Down), 9);
    let hold = choose(&history, &names(&["a.test"]), now).unwrap_err();
    assert_eq!(hold.until, history.setbacks[0].retry_at, "no other CA would see more");
    assert_eq!(history.choose(&BOTH, "host:a.test", &names(&["a.test"]), 0, now), Ok(0));
    assert!(history.troubled().is_empty());
}

#[test]
fn a_ca_that_says_too_many_is_left_alone_for_as_long_as_it_says() {
    let told = Trouble { retry_after_ms: Some(2 * DAY_MS), ..trouble("", SetbackKind::Limited) };
    let (history, now) = after(&told, 1);
    assert_eq!(history.setbacks[0].retry_at, now.plus_ms(2 * DAY_MS));
    assert_eq!(choose(&history, &names(&["a.test"]), now), Ok(1));
    let absurd = Trouble { retry_after_ms: Some(i64::MAX), ..told.clone() };
    assert_eq!(after(&absurd, 1).0.setbacks[0].retry_at, start().plus_ms(7 * DAY_MS));
    let hasty = Trouble { retry_after_ms: Some(1), ..told };
    assert_eq!(after(&hasty, 1).0.setbacks[0].retry_at, start().plus_ms(HOUR_MS));
}

#[test]
fn ceilings_are_below_those_of_the_ca() {
    let asked = names(&["a.one.test"]);
    let full = |kind, subject: &str, count: i64, step_ms: i64| {
        let events = events(kind, subject, (0..count).map(|index| index * step_ms));
        History { events, ..History::default() }.verdict(ONE, "site:docs", &asked, start())
    };
    assert_eq!(full(EventKind::Order, "", 249, 1000), Ok(()));
    let hold = full(EventKind::Order, "", 250, 1000).unwrap_err();
    assert_eq!(
        hold.until,
        start().plus_ms(3 * HOUR_MS - 249 * 1000),
        "when the oldest is forgotten"
    );
    assert_eq!(full(EventKind::Failure, "a.one.test", 2, 1), Ok(()));
    assert!(full(EventKind::Failure, "a.one.test", 3, 1).is_err());
    assert_eq!(full(EventKind::Failure, "b.one.test", 3, 1), Ok(()));
    assert!(full(EventKind::Names, &key(&asked), 4, DAY_MS).is_err());
    assert_eq!(full(EventKind::Names, &key(&asked), 4, 3 * DAY_MS), Ok(()));
    assert!(full(EventKind::Domain, "one.test", 40, 1).is_err());
    assert_eq!(full(EventKind::Domain, "two.test", 40, 1), Ok(()));
}

#[test]
fn a_ca_whose_room_is_used_up_makes_way_at_once() {
    let events = events(EventKind::Domain, "one.test", 0..40);
    let history = History { events, ..History::default() };
    assert_eq!(choose(&history, &names(&["a.one.test"]), start()), Ok(1));
}

#[test]
fn a_week_has_room_for_so_many_certificates_of_each_registered_domain() {
    let subjects = |asked: &[&str]| {
        let counted = issued(ONE, &names(asked), start());
        let domains = counted.into_iter().filter(|event| event.kind == EventKind::Domain);
        domains.map(|event| event.subject).collect::<Vec<_>>()
    };
    for (asked, counted) in [
        (&["*.a.one.test", "b.two.co.uk", "two.co.uk"][..], &["one.test", "two.co.uk"][..]),
        // Not two labels and not three: each a domain of its own, or all of one.
        (&["a.b.kawasaki.jp", "x.city.kawasaki.jp"], &["a.b.kawasaki.jp", "city.kawasaki.jp"]),
        (&["me.github.io", "www.you.github.io"], &["me.github.io", "you.github.io"]),
        (&["a.shop.com.br", "b.shop.com.br"], &["shop.com.br"]),
        (&["github.io", "xn--85x722f.xn--55qx5d.cn"], &["github.io", "xn--85x722f.xn--55qx5d.cn"]),
    ] {
        assert_eq!(subjects(asked), counted, "{asked:?}");
    }
    // Two customers of one suffix do not use up each other's room.
    let events = events(EventKind::Domain, "me.github.io", 0..40);
    let history = History { events, ..History::default() };
    assert_eq!(choose(&history, &names(&["www.me.github.io"]), start()), Ok(1));
    assert_eq!(choose(&history, &names(&["you.github.io"]), start()), Ok(0));
}

proptest! {
    /// However often and whenever a host is tried: whoever asks first never passes the ceiling.
    #[test]
    fn no_sequence_of_tries_fails_more_often_than_allowed(
        waits in proptest::collection::vec(0i64..20 * MINUTE_MS, 1..200),
        chance in 0.0..1.0f64,
    ) {
        let asked = names(&["bad.test"]);
        let mut history = History::default();
        let mut now = start();
        for wait in waits {
            now = now.plus_ms(wait);
            if history.verdict(ONE, "site:docs", &asked, now).is_err() {
                continue;
            }
            let before = history.setback(ONE, "bad.test").cloned();
            let failing = trouble("bad.test", SetbackKind::Failed);
            history.setbacks = vec![Setback::after(before.as_ref(), ONE, failing, now, chance)];
            let subject = "bad.test".to_owned();
            history.events.push(Event { ca: ONE.to_owned(), kind: EventKind::Failure, subject, at: now });
            let recent = history.events.iter().filter(|event| now.ms_since(event.at) < HOUR_MS);
            prop_assert!(recent.count() <= 3);
        }
    }

    #[test]
    fn waits_are_spread_by_a_fifth_and_never_negative(failures in 0usize..60, chance in any::<f64>()) {
        let (history, now) = after(&trouble("a.test", SetbackKind::Failed), failures.max(1));
        let before = &history.setbacks[0];
        let next = Setback::after(Some(before), ONE, trouble("a.test", SetbackKind::Failed), now, chance);
        let wait = next.retry_at.ms_since(now);
        prop_assert!((4 * MINUTE_MS..=DAY_MS / 5 * 6).contains(&wait));
    }
}
