//! Servers that are told what happens.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nigh_daemon::{Clock, clock::Hand};
use nigh_proto::api::{
    DeliveryOutcome, DeliveryView, EventKind, EventView, Page, WebhookCreated, WebhookView,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::fleet::{DEADLINE, Fleet, expect, refused};

/// What a receiver was sent.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Received {
    fn event(&self) -> EventView {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn field(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// As the standard tells receivers to.
    fn verify(&self, secret: &str) {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let mut signed =
            format!("{}.{}.", self.field("webhook-id"), self.field("webhook-timestamp"))
                .into_bytes();
        signed.extend_from_slice(&self.body);
        let signature = self.field("webhook-signature").strip_prefix("v1,").unwrap();
        hmac::verify(&key, &signed, &STANDARD.decode(signature).unwrap()).expect("it is control's");
    }
}

/// A server that answers as it is told.
#[derive(Clone, Default)]
struct Receiver {
    received: Arc<Mutex<Vec<Received>>>,
    /// What it answers next; 200 when there is nothing.
    answers: Arc<Mutex<Vec<u16>>>,
}

async fn answer(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let is_huge = path == "/huge";
    receiver.received.lock().unwrap().push(Received { path, headers, body });
    let mut answers = receiver.answers.lock().unwrap();
    let status = if answers.is_empty() { 200 } else { answers.remove(0) };
    let status = StatusCode::from_u16(status).unwrap();
    if is_huge {
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 16 << 10]))
        });
        return (status, Body::from_stream(endless)).into_response();
    }
    (status, [("location", "/elsewhere")]).into_response()
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn answers(&self, statuses: &[u16]) {
        *self.answers.lock().unwrap() = statuses.to_vec();
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    async fn has(&self, total: usize) -> Vec<Received> {
        until(|| async { self.received().len() >= total }).await;
        self.received()
    }
}

async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let soon = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, soon).await.expect("it comes to that");
}

async fn fleet() -> (Fleet, Hand) {
    let (clock, hand) = Clock::manual(SystemTime::now());
    let allow = |config: &mut nigh_control::ControlConfig| config.webhooks.allow_private = true;
    (Fleet::start_with(allow, clock).await, hand)
}

async fn add(fleet: &Fleet, url: &str, events: &[EventKind]) -> WebhookCreated {
    let made = fleet.post("/v1/webhooks", &json!({ "url": url, "events": events })).await;
    expect(StatusCode::CREATED, made).await
}

async fn deliveries(fleet: &Fleet, hook: &WebhookCreated) -> Vec<DeliveryView> {
    let path = format!("/v1/webhooks/{}/deliveries", hook.webhook.id);
    fleet.get::<Page<DeliveryView>>(&path).await.items
}

async fn show(fleet: &Fleet, hook: &WebhookCreated) -> WebhookView {
    fleet.get(&format!("/v1/webhooks/{}", hook.webhook.id)).await
}

#[tokio::test]
async fn events_are_delivered_signed_in_order_and_again_after_a_failure() {
    let (fleet, hand) = fleet().await;
    let (receiver, url) = Receiver::start().await;
    let hook = add(&fleet, &url, &[EventKind::SiteCreated]).await;
    receiver.answers(&[200, 500]);
    for site in ["a", "b", "c"] {
        fleet.create_site(site).await;
    }
    receiver.has(2).await;
    until(|| async { deliveries(&fleet, &hook).await.len() == 2 }).await;
    let failing = show(&fleet, &hook).await;
    assert!(failing.failing_since.is_some() && failing.next_attempt_at.is_some(), "{failing:?}");
    hand.advance(Duration::from_secs(6));
    let received = receiver.has(4).await;
    let subjects: Vec<String> = received.iter().map(|one| one.event().subject).collect();
    assert_eq!(subjects, ["a", "b", "b", "c"]);
    for one in &received {
        one.verify(&hook.secret);
        assert_eq!(one.field("content-type"), "application/json");
    }
    let id = |index: usize| received[index].field("webhook-id").to_owned();
    assert!(id(1) == id(2) && id(0) != id(1), "an event keeps its id");
    until(|| async { deliveries(&fleet, &hook).await.len() == 4 }).await;
    let told = deliveries(&fleet, &hook).await;
    let outcomes: Vec<_> = told.iter().rev().map(|one| (one.outcome, one.attempt)).collect();
    let (done, retry) = (DeliveryOutcome::Delivered, DeliveryOutcome::Retrying);
    assert_eq!(outcomes, [(done, 1), (retry, 1), (done, 2), (done, 1)]);
    let view = show(&fleet, &hook).await;
    assert!(view.failing_since.is_none() && view.delivered_at.is_some(), "{view:?}");
}

#[tokio::test]
async fn redirects_are_not_followed_and_endless_answers_not_read() {
    let (fleet, _hand) = fleet().await;
    let (receiver, url) = Receiver::start().await;
    let hook = add(&fleet, &url, &[]).await;
    let test = async |hook: &WebhookCreated| -> DeliveryView {
        let path = format!("/v1/webhooks/{}/test", hook.webhook.id);
        let answer = fleet.request(Method::POST, &path).send().await.unwrap();
        expect(StatusCode::OK, answer).await
    };
    receiver.answers(&[302]);
    let redirected = test(&hook).await;
    assert_eq!((redirected.outcome, redirected.status), (DeliveryOutcome::Failed, Some(302)));
    let huge = add(&fleet, &format!("{url}/huge"), &[]).await;
    assert_eq!(test(&huge).await.outcome, DeliveryOutcome::Delivered);
    let paths: Vec<_> = receiver.received().into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["/", "/huge"]);
    assert_eq!(receiver.received()[0].event().kind, EventKind::WebhookTest);
}

#[tokio::test]
async fn a_receiver_that_wants_no_more_is_left_alone_until_somebody_says_otherwise() {
    let (fleet, _hand) = fleet().await;
    let (receiver, url) = Receiver::start().await;
    let hook = add(&fleet, &url, &[EventKind::SiteCreated]).await;
    receiver.answers(&[410]);
    fleet.create_site("a").await;
    until(|| async { !show(&fleet, &hook).await.is_enabled }).await;
    let reason = show(&fleet, &hook).await.disabled_reason.unwrap();
    assert!(reason.contains("410"), "{reason}");
    let told: Page<EventView> = fleet.get("/v1/events?kind=webhook_disabled").await;
    assert_eq!(told.items[0].subject, hook.webhook.id.as_str());
    let status: nigh_proto::api::StatusView = fleet.get("/v1/status").await;
    assert!(status.warnings.iter().any(|warning| warning.contains(hook.webhook.id.as_str())));
    let path = format!("/v1/webhooks/{}/enable", hook.webhook.id);
    let enabled = fleet.request(Method::POST, &path).send().await.unwrap();
    assert_eq!(enabled.status(), StatusCode::OK);
    let received = receiver.has(2).await;
    assert_eq!(received[1].event().subject, "a", "nothing was lost");
}

#[tokio::test]
async fn the_inside_of_the_operators_network_is_out_of_reach() {
    let fleet = Fleet::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for url in [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://10.1/x",
        "http://example.org/",
        "file:///etc/passwd",
        "https://a:b@example.org/",
    ] {
        let made = fleet.post("/v1/webhooks", &json!({ "url": url })).await;
        assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, made).await, "webhook_url", "{url}");
    }
    let hook = add(&fleet, &format!("https://localhost:{port}/"), &[]).await;
    let path = format!("/v1/webhooks/{}/test", hook.webhook.id);
    let tested: DeliveryView =
        expect(StatusCode::OK, fleet.request(Method::POST, &path).send().await.unwrap()).await;
    assert_eq!(tested.outcome, DeliveryOutcome::Failed);
    assert!(tested.error.unwrap().contains("private"), "the name is looked at when it resolves");
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "nobody connected");
}

#[tokio::test]
async fn a_secret_is_shown_once_and_sealed_at_rest() {
    let (fleet, _hand) = fleet().await;
    let hook = add(&fleet, "http://127.0.0.1:9/", &[]).await;
    let listed = fleet.request(Method::GET, "/v1/webhooks").send().await.unwrap();
    assert!(!listed.text().await.unwrap().contains("whsec_"));
    for name in ["control.db", "control.db-wal"] {
        let bytes = std::fs::read(fleet.dir.path().join("state").join(name)).unwrap_or_default();
        let secret = hook.secret.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{name}");
    }
    let path = format!("/v1/webhooks/{}", hook.webhook.id);
    let gone = fleet.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let unknown = fleet.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, unknown).await, "webhook_unknown");
}
