//! What happened, as those who follow it are told.

use std::time::Duration;

use nigh_proto::api::{EventKind, EventView, Page, TokenCreated};
use reqwest::{Method, Response, StatusCode, header};

use crate::fleet::{DEADLINE, Fleet, expect, refused};

/// A stream that is read frame by frame.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(fleet: &Fleet, query: &str, resume: Option<u64>) -> Self {
        let mut request = fleet
            .request(Method::GET, &format!("/v1/events{query}"))
            .header(header::ACCEPT, "text/event-stream");
        if let Some(resume) = resume {
            request = request.header("last-event-id", resume);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut stream = Self { response, text: String::new() };
        assert_eq!(stream.frame().await.unwrap(), "retry: 2000");
        stream
    }

    /// `None` when the stream has ended.
    async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let frame = frame.to_owned();
                self.text = rest.to_owned();
                return Some(frame);
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    async fn event(&mut self) -> EventView {
        let frame = self.frame().await.expect("the stream goes on");
        let field = |name: &str| {
            let prefix = format!("{name}: ");
            frame.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
        };
        let event: EventView = serde_json::from_str(&field("data")).unwrap();
        assert_eq!((event.id.to_string(), event.kind.label()), (field("id"), &*field("event")));
        event
    }
}

async fn list(fleet: &Fleet, query: &str) -> Vec<EventView> {
    fleet.get::<Page<EventView>>(&format!("/v1/events{query}")).await.items
}

#[tokio::test]
async fn a_stream_resumes_exactly_where_it_ended() {
    let fleet = Fleet::start().await;
    let mut live = Stream::open(&fleet, "?kind=site_created", None).await;
    for site in ["a", "b", "c"] {
        fleet.create_site(site).await;
    }
    let first = live.event().await;
    assert_eq!((first.subject.as_str(), first.kind), ("a", EventKind::SiteCreated));
    drop(live);
    let mut resumed = Stream::open(&fleet, "?kind=site_created", Some(first.id)).await;
    assert_eq!(resumed.event().await.subject, "b");
    assert_eq!(resumed.event().await.subject, "c");
    // What happens while it is open comes as well.
    fleet.create_site("d").await;
    assert_eq!(resumed.event().await.subject, "d");
    let begin = Stream::open(&fleet, "?after=0&site=b", None).await.event().await;
    assert_eq!(begin.subject, "b");
    let one: EventView = fleet.get(&format!("/v1/events/{}", first.id)).await;
    assert_eq!(one, first);
}

#[tokio::test]
async fn a_list_has_pages_filters_and_can_be_waited_for() {
    let fleet = Fleet::start().await;
    for site in ["a", "b"] {
        fleet.create_site(site).await;
    }
    let all = list(&fleet, "").await;
    let mut paged = Vec::new();
    let mut query = "?limit=1".to_owned();
    loop {
        let page: Page<EventView> = fleet.get(&format!("/v1/events{query}")).await;
        paged.extend(page.items);
        let Some(cursor) = page.next_cursor else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    assert_eq!(paged, all);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(list(&fleet, "?newest=1").await, all[all.len() - 1..]);
    assert!(list(&fleet, "?site=a").await.iter().all(|event| event.site == "a".parse().ok()));

    let last = all.last().unwrap().id;
    let path = format!("?after={last}&wait_ms=20000&kind=site_created");
    let (waited, ()) = tokio::join!(list(&fleet, &path), fleet.create_site("c"));
    assert_eq!(waited[0].subject, "c");

    for query in ["?kind=site", "?site=A", "?after=-1", "?wait_ms=x", "?cursor=c1zz", "?kind="] {
        let response = fleet.request(Method::GET, &format!("/v1/events{query}")).send().await;
        assert_eq!(response.unwrap().status(), StatusCode::BAD_REQUEST, "{query}");
    }
    let ahead = fleet.request(Method::GET, "/v1/events?after=4000000").send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, ahead).await, "events_ahead");
}

#[tokio::test]
async fn a_token_for_a_site_sees_that_site_only() {
    let fleet = Fleet::start().await;
    for site in ["a", "b"] {
        fleet.create_site(site).await;
    }
    let new = serde_json::json!({ "name": "ci", "scope": "read", "sites": ["b"] });
    let made = fleet.post("/v1/tokens", &new).await;
    let made: TokenCreated = expect(StatusCode::CREATED, made).await;
    let ask = async |query: &str| {
        let request = fleet.http.get(format!("{}/v1/events{query}", fleet.api));
        request.bearer_auth(&made.secret).send().await.unwrap()
    };
    let seen: Page<EventView> = expect(StatusCode::OK, ask("").await).await;
    assert!(!seen.items.is_empty());
    assert!(seen.items.iter().all(|event| event.site == "b".parse().ok()), "{seen:?}");
    assert_eq!(refused(StatusCode::FORBIDDEN, ask("?site=a").await).await, "not_allowed");
    let hidden = list(&fleet, "?site=a").await[0].id;
    let request = fleet.http.get(format!("{}/v1/events/{hidden}", fleet.api));
    let hidden = request.bearer_auth(&made.secret).send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, hidden).await, "event_unknown");
}

#[tokio::test]
async fn streams_are_bounded_and_a_place_is_free_again_when_one_ends() {
    let one = |config: &mut nigh_control::ControlConfig| config.events.streams_max = 1;
    let fleet = Fleet::start_with(one, nigh_daemon::Clock::system()).await;
    let first = Stream::open(&fleet, "", None).await;
    let ask = async || {
        let request = fleet.request(Method::GET, "/v1/events");
        request.header(header::ACCEPT, "text/event-stream").send().await.unwrap()
    };
    let full = ask().await;
    assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, full).await, "streams_full");
    drop(first);
    let again = async {
        while ask().await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("the place is free again");
}

#[tokio::test]
async fn open_streams_end_when_control_stops() {
    let fleet = Fleet::start().await;
    let mut stream = Stream::open(&fleet, "", None).await;
    let (stopped, frame) =
        tokio::join!(tokio::time::timeout(DEADLINE, fleet.restart()), stream.frame());
    assert!(stopped.is_ok() && frame.is_none());
}
