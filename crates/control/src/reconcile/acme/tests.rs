use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use nigh_daemon::{Context, Tasks};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use tokio::{net::TcpListener, sync::Semaphore};

use super::*;
use crate::{
    app::{Effective, fixture::Fixture},
    ca::{Authority, Port, api_config, certified},
    certificates::limits::SetbackKind,
    config::{AcmeConfig, CertificateMode, ControlConfig},
    serve::{FIRST_REQUEST_TIMEOUT, Service, accept},
};

const DAY_MS: i64 = 24 * HOUR_MS;
const ID: &str = "wildcard:nigh.test";

#[test]
fn hosts_that_come_together_are_waited_for_but_not_for_ever() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let hosts = |count: u32| -> BTreeSet<DnsName> {
        (0..count).map(|index| format!("h{index}.test").parse().unwrap()).collect()
    };
    let mut news = News::default();
    assert!(news.is_settled(hosts(0), after(0)));
    assert!(!news.is_settled(hosts(1), after(0)));
    assert!(!news.is_settled(hosts(2), after(900)));
    assert!(!news.is_settled(hosts(2), after(1800)));
    assert!(news.is_settled(hosts(2), after(1900)));
    let mut news = News::default();
    for step in 0..30 {
        assert!(!news.is_settled(hosts(step + 1), after(u64::from(step) * 500)), "{step}");
    }
    assert!(news.is_settled(hosts(31), after(15_000)));
}

#[test]
fn the_moment_is_drawn_once_and_again_when_the_window_moves() {
    let at = Timestamp::from_unix_ms;
    let drawn = within(None, at(100), at(200));
    assert!(at(100) <= drawn && drawn <= at(200));
    assert_eq!(within(Some(at(150)), at(100), at(200)), at(150));
    assert_eq!(within(Some(at(150)), at(300), at(300)), at(300));
    assert_eq!(within(None, at(300), at(200)), at(300), "a window that ends before it begins");
}

/// A control that asks the CA at `directory`, and has a wildcard from there that lasts 90 days.
async fn fixture(directory: &str, ca_file: Option<std::path::PathBuf>) -> (Fixture, Authority) {
    fixture_for(directory, ca_file, None).await
}

/// The same, which asks for certificates of `profile`.
async fn fixture_for(
    directory: &str,
    ca_file: Option<std::path::PathBuf>,
    profile: Option<&str>,
) -> (Fixture, Authority) {
    let fixture = Fixture::new().await;
    let mut config = ControlConfig::new(fixture.dir.path().into());
    let zone = r#"{"name": "nigh.test", "name_servers": ["ns1"]}"#;
    config.zones = vec![serde_json::from_str(zone).unwrap()];
    config.certificates.mode = CertificateMode::Acme;
    config.certificates.acme = vec![AcmeConfig {
        directory: directory.to_owned(),
        contact: Vec::new(),
        agree_to_terms: true,
        eab_key_id: None,
        eab_key_file: None,
        profile: profile.map(str::to_owned),
        ca_file,
        caa_identities: Vec::new(),
    }];
    fixture.app.reload(Effective::new(config).unwrap()).await.unwrap();
    let row = Authority::generate(1, None, fixture.app.now()).unwrap();
    let authority = Authority::open(&row).unwrap();
    let issued = authority.issue(&["*.nigh.test".to_owned()], fixture.app.now()).unwrap();
    let row = CertificateRow {
        id: ID.to_owned(),
        names: vec!["*.nigh.test".parse().unwrap()],
        chain_pem: issued.chain_pem,
        key_pem: issued.key_pem,
        not_before: issued.not_before,
        not_after: issued.not_after,
        source: Source::Acme,
        ca: Some(directory.to_owned()),
        renew_at: None,
        ask_at: None,
    };
    let mut tx = fixture.app.store().begin().await.unwrap();
    tx.put_certificate(&row).await.unwrap();
    tx.raise_revision().await.unwrap();
    tx.commit().await.unwrap();
    fixture.app.publish().await.unwrap();
    (fixture, authority)
}

/// One pass, and everything that it sent off.
async fn step(acme: &mut Acme) {
    acme.pass().await.unwrap();
    while acme.errands.join_next().await.is_some() {}
}

#[tokio::test]
async fn a_ca_that_is_down_for_days_is_asked_seldom_and_what_is_there_serves_on() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = format!("https://{closed}/dir");
    let (fixture, _) = fixture(&directory, None).await;
    let app = &fixture.app;
    let mut acme = Acme::new(app.clone());
    step(&mut acme).await;
    assert!(app.acme_board().waiting.is_empty(), "nothing is due");
    fixture.hand.advance(Duration::from_millis(60 * DAY_MS.unsigned_abs()));
    let begin = app.now();
    while app.now().ms_since(begin) < 5 * DAY_MS {
        step(&mut acme).await;
        fixture.hand.advance(Duration::from_secs(10 * 60));
    }
    let history = app.store().acme_history().await.unwrap();
    let [setback] = history.setbacks.as_slice() else { panic!("{history:?}") };
    assert_eq!((setback.kind, setback.subject.as_str()), (SetbackKind::Down, ""));
    assert!((80..180).contains(&setback.failures), "{setback:?}");
    assert!(history.events.is_empty(), "it never took an order");
    assert_eq!(app.world().certificates.len(), 1);
    step(&mut acme).await;
    // The try that may have come just now has failed as well.
    fixture.hand.advance(Duration::from_secs(1));
    step(&mut acme).await;
    let warnings = app.status(&[]).await.unwrap().warnings;
    let told = format!("the certificate {ID} ends in 24 days and was not renewed: {directory}");
    assert!(warnings.iter().any(|warning| warning.starts_with(&told)), "{warnings:?}");
}

/// A CA that says when to renew and which profiles it has, and that it has too much to do.
#[derive(Debug, Default)]
struct Double {
    url: Mutex<String>,
    /// What orders said.
    orders: Mutex<Vec<Value>>,
    /// The window, in Unix time.
    window: Mutex<(i64, i64)>,
    /// What `meta.profiles` of the directory is.
    profiles: Mutex<serde_json::Map<String, Value>>,
}

type Shared = State<Arc<Double>>;

impl Double {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url.lock().unwrap())
    }
}

async fn directory(State(double): Shared) -> Json<Value> {
    Json(json!({
        "newNonce": double.at("/nonce"),
        "newAccount": double.at("/account"),
        "newOrder": double.at("/order"),
        "renewalInfo": double.at("/renewal"),
        "meta": { "profiles": *double.profiles.lock().unwrap() },
    }))
}

fn with_nonce(answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    answer.headers_mut().insert("replay-nonce", "bm9uY2U".parse().unwrap());
    answer
}

async fn account(State(double): Shared) -> Response {
    let location = [(header::LOCATION, double.at("/account/1"))];
    with_nonce((StatusCode::CREATED, location, Json(json!({}))))
}

async fn order(State(double): Shared, Json(jose): Json<Value>) -> Response {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(jose["payload"].as_str().unwrap()).unwrap();
    double.orders.lock().unwrap().push(serde_json::from_slice(&payload).unwrap());
    let problem = json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many" });
    let told = [(header::RETRY_AFTER, "18000"), (header::CONTENT_TYPE, "application/problem+json")];
    with_nonce((StatusCode::TOO_MANY_REQUESTS, told, problem.to_string()))
}

async fn renewal(State(double): Shared) -> Response {
    let (start, end) = *double.window.lock().unwrap();
    let time = |seconds: i64| Timestamp::from_unix_ms(seconds * 1000).to_string();
    let window = json!({ "suggestedWindow": { "start": time(start), "end": time(end) } });
    ([(header::RETRY_AFTER, "3600")], Json(window)).into_response()
}

/// The double over TLS, and whom to trust for it.
async fn serve(double: Arc<Double>, tasks: &Tasks, dir: &std::path::Path) -> std::path::PathBuf {
    let now = std::time::SystemTime::now().into();
    let row = Authority::generate(1, None, now).unwrap();
    let authority = Authority::open(&row).unwrap();
    let own = authority.issue(&["localhost".to_owned()], now).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *double.url.lock().unwrap() =
        format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let router = Router::new()
        .route("/dir", get(directory))
        .route("/nonce", any(async |_: HeaderMap| with_nonce(StatusCode::OK)))
        .route("/account", post(account))
        .route("/order", post(order))
        .route("/renewal/{id}", get(renewal))
        .with_state(double);
    let service = Service {
        name: "ca",
        tls: Port::new(api_config(certified(&own).unwrap()).unwrap()),
        router,
        places: Arc::new(Semaphore::new(8)),
        first_request_timeout: FIRST_REQUEST_TIMEOUT,
        judge: None,
        sent: Counter::default(),
    };
    tasks.spawn("ca", accept(listener, service, tasks.clone()));
    let file = dir.join("double.pem");
    std::fs::write(&file, row.certificate_pem).unwrap();
    file
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_ca_says_and_the_ca_hears_which_one() {
    let dir = tempfile::tempdir().unwrap();
    let (double, context) = (Arc::new(Double::default()), Context::new("control", "0.0.0"));
    let ca_file = serve(Arc::clone(&double), &context.tasks, dir.path()).await;
    let (fixture, _) = fixture(&double.at("/dir"), Some(ca_file)).await;
    let app = &fixture.app;
    let now = app.now().unix_ms() / 1000;
    *double.window.lock().unwrap() = (now + 7200, now + 7200);
    let mut acme = Acme::new(app.clone());
    step(&mut acme).await;
    let held = app.store().certificates().await.unwrap().remove(0);
    assert_eq!(held.renew_at.unwrap().unix_ms() / 1000, now + 7200);
    assert_eq!(held.ask_at, Some(app.now().plus_ms(3_600_000)));
    assert!(double.orders.lock().unwrap().is_empty());

    // The CA has to revoke in a hurry: the window is over already when it is asked again.
    *double.window.lock().unwrap() = (now - 7200, now - 3600);
    fixture.hand.advance(Duration::from_secs(3600));
    step(&mut acme).await;
    let orders = double.orders.lock().unwrap().clone();
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!(order["replaces"], identifier(&held.chain_pem).unwrap().to_string());
    let history = app.store().acme_history().await.unwrap();
    let [setback] = history.setbacks.as_slice() else { panic!("{history:?}") };
    assert_eq!(setback.kind, SetbackKind::Limited);
    assert_eq!(setback.retry_at, app.now().plus_ms(18_000_000), "as long as the CA said");

    fixture.hand.advance(Duration::from_secs(17_000));
    step(&mut acme).await;
    assert_eq!(double.orders.lock().unwrap().len(), 1, "and no sooner");
    fixture.hand.advance(Duration::from_secs(1_000));
    step(&mut acme).await;
    assert_eq!(double.orders.lock().unwrap().len(), 2);
}

/// What was asked of the double, and why nothing more was, after one pass a day later.
async fn asked(fixture: &Fixture, double: &Double) -> (Vec<Value>, String) {
    fixture.hand.advance(Duration::from_millis(DAY_MS.unsigned_abs()));
    step(&mut Acme::new(fixture.app.clone())).await;
    let orders = double.orders.lock().unwrap().clone();
    let history = fixture.app.store().acme_history().await.unwrap();
    let [setback] = history.setbacks.as_slice() else { panic!("{history:?}") };
    (orders, setback.detail.clone())
}

#[tokio::test]
async fn the_profile_is_asked_for_by_name_and_one_that_the_ca_lacks_is_an_error_of_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (double, context) = (Arc::new(Double::default()), Context::new("control", "0.0.0"));
    let ca_file = serve(Arc::clone(&double), &context.tasks, dir.path()).await;
    let directory = double.at("/dir");
    let (fixture, _) = fixture_for(&directory, Some(ca_file), Some("shortlived")).await;
    let app = &fixture.app;
    fixture.hand.advance(Duration::from_millis(60 * DAY_MS.unsigned_abs()));

    let (orders, why) = asked(&fixture, &double).await;
    let expected = format!(
        "certificates.acme.profile is \"shortlived\", which {directory} does not offer: it has no \
         profiles; remove the line"
    );
    assert_eq!((orders.len(), why), (0, expected), "the CA would give another kind");

    let offer = |names: &[&str]| {
        let offered = names.iter().map(|name| ((*name).to_owned(), json!("https://profile.test")));
        *double.profiles.lock().unwrap() = offered.collect();
    };
    offer(&["classic", "tlsserver"]);
    let (orders, why) = asked(&fixture, &double).await;
    assert!(orders.is_empty() && why.ends_with("it has: classic, tlsserver"), "{orders:?} {why}");
    // It is the next pass that finds that it has to wait.
    step(&mut Acme::new(app.clone())).await;
    let warnings = app.status(&[]).await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("it has: classic")), "{warnings:?}");

    // The CA comes to offer it: nothing has to be started anew.
    offer(&["classic", "shortlived"]);
    let (orders, _) = asked(&fixture, &double).await;
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!(order["profile"], "shortlived");
}
