//! `/v1/events`: what happened, as a list, by waiting, or as a stream.
//!
//! A stream (`text/event-stream`) has no queue: events are read from the database as fast as
//! whoever listens takes them. One that takes nothing for a while is dropped and comes back with
//! `Last-Event-ID`.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use nigh_proto::{
    SiteName,
    api::{EVENT_STREAM, EventKind, EventView, Page, Problem, Scope},
};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    caller::Caller,
    page::{Natural, Paging, Params},
    problem::Refusal,
    segments::Segments,
};
use crate::app::{App, EventFilter};

/// How often a quiet stream says that it lives; the caller's token is looked at as often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A listener that takes nothing for so long is dropped.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Events of a stream that are read at a time.
const STREAM_BATCH: usize = 100;
/// The longest wait of one request.
const WAIT_MAX_MS: u64 = 30_000;
/// What a browser waits before it comes back.
const RETRY_MS: u64 = 2_000;
/// Names in one filter.
const NAMES_MAX: usize = 100;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `?site=&kind=&after=&newest=&wait_ms=` beside a page.
#[derive(Debug, Deserialize)]
pub(crate) struct EventParams {
    /// Names with commas between.
    site: Option<String>,
    /// Kinds with commas between.
    kind: Option<String>,
    after: Option<Natural>,
    /// The newest instead of the oldest.
    newest: Option<u32>,
    wait_ms: Option<Natural>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What happened, oldest first, or as a stream.
///
/// With `Accept: text/event-stream` a stream of server-sent events that begins now, or behind
/// `Last-Event-ID` or `after`. Otherwise a list; `wait_ms` makes an empty one wait for the next
/// event. Events are kept for a while only: a point that is gone is a 410.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(("site" = Option<String>, Query, description = "of these sites, with commas between"),
        ("kind" = Option<String>, Query, description = "of these kinds, with commas between"),
        ("after" = Option<u64>, Query, description = "behind the event of this id; 0: the oldest that is kept"),
        ("newest" = Option<u32>, Query, description = "so many of the newest, instead of the oldest"),
        ("wait_ms" = Option<u64>, Query, description = "how long to wait for an event when there is none"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("last-event-id" = Option<u64>, Header, description = "of a stream: like `after`")),
    responses((status = 200, content((Page<EventView> = "application/json"),
            (String = "text/event-stream"))),
        (status = 409, description = "`events_ahead`", body = Problem),
        (status = 410, description = "`events_gone`", body = Problem),
        (status = 503, description = "`streams_full`", body = Problem)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(params): Params<EventParams>,
) -> Result<Response, Refusal> {
    caller.require_scope(Scope::Read)?;
    let after = params.after.map(|Natural(after)| after);
    let filter = filter(&caller, params.site.as_deref(), params.kind.as_deref())?;
    if accepts_stream(&headers) {
        let resume = resume_point(&headers)?.or(after);
        return stream_events(app, caller, filter, resume).await;
    }
    let paging = Paging::new(params.limit, params.cursor);
    if let Some(newest) = params.newest {
        let look = app.newest_events(&filter, newest.clamp(1, 1000) as usize).await?;
        return Ok(Json(Page { items: look.events, next_cursor: None }).into_response());
    }
    let cursor =
        paging.after()?.map(|key| key.parse().map_err(|_| cursor_invalid())).transpose()?;
    let after = cursor.or(after).unwrap_or(0);
    let wait = Duration::from_millis(params.wait_ms.unwrap_or_default().0.min(WAIT_MAX_MS));
    let look = app.await_events(&filter, after, paging.limit() as usize, wait).await?;
    let next_cursor = (!look.is_end).then(|| paging.cursor_at(look.seen.to_string()));
    Ok(Json(Page { items: look.events, next_cursor }).into_response())
}

/// One event.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", params(("id" = u64, Path)),
    responses((status = 200, body = EventView),
        (status = 404, description = "`event_unknown`", body = Problem)))]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segments(id): Segments<u64>,
) -> Result<Json<EventView>, Refusal> {
    caller.require_scope(Scope::Read)?;
    let filter = filter(&caller, None, None)?;
    let event = app.event(id).await?.filter(|event| filter.passes(event));
    event.map(Json).ok_or_else(|| {
        let why = "there is no such event, or it is kept no longer";
        Refusal::new(StatusCode::NOT_FOUND, "event_unknown", why)
    })
}

fn cursor_invalid() -> Refusal {
    let why = "cursor is not one that this list gave; leave it out to begin again";
    Refusal::new(StatusCode::BAD_REQUEST, "cursor_invalid", why)
}

/// What is asked for, as far as the caller may see it.
fn filter(
    caller: &Caller,
    sites: Option<&str>,
    kinds: Option<&str>,
) -> Result<EventFilter, Refusal> {
    let invalid = |why: String| Refusal::new(StatusCode::BAD_REQUEST, "query_invalid", why);
    let names = |text: &str| -> Result<Vec<String>, Refusal> {
        let names: Vec<String> = text.split(',').map(str::to_owned).collect();
        match names.len() {
            ..=NAMES_MAX => Ok(names),
            _ => Err(invalid(format!("more than {NAMES_MAX} names"))),
        }
    };
    let mut filter = EventFilter::default();
    for name in kinds.map(names).transpose()?.unwrap_or_default() {
        let kind: EventKind = name.parse().map_err(|error| invalid(format!("kind: {error}")))?;
        filter.kinds.push(kind);
    }
    match sites.map(names).transpose()? {
        Some(names) => {
            let mut sites = Vec::new();
            for name in names {
                let site: SiteName =
                    name.parse().map_err(|error| invalid(format!("site: {error}")))?;
                caller.require(Scope::Read, &site)?;
                sites.push(site);
            }
            filter.sites = Some(sites);
        }
        None if caller.0.sites.is_empty() => {}
        None => filter.sites = Some(caller.0.sites.clone()),
    }
    Ok(filter)
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let essence = range.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(EVENT_STREAM)
    })
}

fn resume_point(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let why = "last-event-id is not the id of an event";
        Refusal::new(StatusCode::BAD_REQUEST, "header_invalid", why)
    })
}

async fn stream_events(
    app: App,
    caller: Caller,
    filter: EventFilter,
    resume: Option<u64>,
) -> Result<Response, Refusal> {
    let place = app.event_place().ok_or_else(|| {
        let why = "as many streams are open as control allows; ask for the list with wait_ms";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "streams_full", why)
    })?;
    let after = match resume {
        Some(after) => after,
        None => app.newest_events(&EventFilter::default(), 1).await?.seen,
    };
    // A point that is gone is refused here, where a status can still say so.
    app.events_after(&filter, after, 1).await?;
    let (pieces, receiver) = mpsc::channel(1);
    let follower = Follower { app, caller, filter, after, pieces, _place: place };
    tokio::spawn(follower.run());
    let body = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece: Bytes| (Ok::<_, Infallible>(piece), receiver))
    });
    let mut response = Body::from_stream(body).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers would hold events back.
    fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Whoever writes one stream.
struct Follower {
    app: App,
    caller: Caller,
    filter: EventFilter,
    /// Everything up to here was sent, or is not wanted.
    after: u64,
    pieces: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn run(mut self) {
        let stopping = self.app.stopping().clone();
        tokio::select! {
            _ = self.follow() => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Ends with `None`: the listener is gone or too slow, or may not listen any more.
    async fn follow(&mut self) -> Option<()> {
        let mut rings = self.app.follow_events();
        self.send(format!("retry: {RETRY_MS}\n\n")).await?;
        loop {
            rings.mark_unchanged();
            let look = self.app.events_after(&self.filter, self.after, STREAM_BATCH).await.ok()?;
            for event in &look.events {
                self.send(frame(event)).await?;
            }
            self.after = look.seen;
            if !look.is_end {
                continue;
            }
            let is_quiet = tokio::time::timeout(HEARTBEAT, async {
                tokio::select! {
                    rung = rings.changed() => rung.is_ok(),
                    () = self.pieces.closed() => false,
                }
            });
            match is_quiet.await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => {
                    self.app.is_valid(&self.caller.0).await.ok().filter(|is_valid| *is_valid)?;
                    // The point moves on though nothing was for this listener.
                    self.send(format!(": still here\nid: {}\n\n", self.after)).await?;
                }
            }
        }
    }

    async fn send(&self, piece: String) -> Option<()> {
        let sent = self.pieces.send(piece.into());
        tokio::time::timeout(STALL_MAX, sent).await.ok()?.ok()
    }
}

/// One event as a stream has it.
fn frame(event: &EventView) -> String {
    let data = serde_json::to_string(event).expect("events always have a JSON form");
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_for_those_who_ask_for_it() {
        for (accept, is_stream) in [
            ("*/*", false),
            ("application/json", false),
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts_stream(&headers), is_stream, "{accept}");
        }
    }

    #[test]
    fn an_event_is_one_frame_whatever_it_holds() {
        let event = EventView {
            id: 7,
            at: nigh_proto::Timestamp::default(),
            kind: EventKind::SiteCreated,
            site: None,
            subject: "a\nb\r\n\n: c".to_owned(),
            data: serde_json::Map::new(),
        };
        let frame = frame(&event);
        assert_eq!(frame.lines().count(), 4, "{frame}");
        assert!(
            frame.starts_with("id: 7\nevent: site_created\ndata: {") && frame.ends_with("}\n\n")
        );
    }
}
