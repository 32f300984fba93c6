//! Every field of every body, wrong in kind, size and meaning: refused with a documented problem, and
//! nothing is changed. The routes and fields come from the description that control gives of itself,
//! so that a new one is tried without anybody's thinking of it.

use std::collections::BTreeSet;

use nigh_proto::audit::AuditChain;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::fleet::{Fleet, release_of};

/// A field's value of about this length is too long anywhere.
const LONG: usize = 100_000;
const DEEP: usize = 10_000;

/// One route that takes JSON.
struct Route {
    method: Method,
    path: String,
    /// Names of the fields, with what they may be.
    fields: Vec<(String, Value)>,
    is_large: bool,
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(link) => resolved(document, document.pointer(&link[1..]).expect("a schema")),
        None => schema,
    }
}

/// The JSON types that a schema allows.
fn kinds(document: &Value, schema: &Value) -> BTreeSet<String> {
    let schema = resolved(document, schema);
    let mut all = BTreeSet::new();
    match &schema["type"] {
        Value::String(kind) => drop(all.insert(kind.clone())),
        Value::Array(several) => {
            all.extend(several.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => {}
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for part in schema[choice].as_array().into_iter().flatten() {
            all.extend(kinds(document, part));
        }
    }
    all
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let content = &operation["requestBody"]["content"];
            let kinds = ["application/json", "application/merge-patch+json"];
            let Some(body) = kinds.iter().map(|kind| &content[*kind]).find(|body| body.is_object())
            else {
                continue;
            };
            let schema = resolved(document, &body["schema"]);
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                fields: fields.into_iter().collect(),
                is_large: path.ends_with("/releases"),
            });
        }
    }
    routes
}

/// A body that the route takes, so that the one wrong field is what it is refused for.
fn good(path: &str) -> Value {
    match path {
        "/v1/sites" => json!({ "name": "other" }),
        "/v1/tokens" => json!({ "name": "other", "scope": "read" }),
        "/v1/join-tokens" => json!({ "role": "edge", "name": "fra1" }),
        path if path.ends_with("/hosts") => json!({ "host": "www.example.test" }),
        path if path.ends_with("/prune") => json!({ "keep": 1 }),
        path if path.ends_with("/releases") => {
            serde_json::to_value(release_of(&[("index.html", "two")])).unwrap()
        }
        _ => json!({}),
    }
}

/// Values that a field of this schema cannot have.
fn wrong(document: &Value, schema: &Value) -> Vec<Value> {
    let kinds = kinds(document, schema);
    let may = |kind: &str| kinds.contains(kind);
    let mut values = Vec::new();
    for (kind, value) in [
        ("null", Value::Null),
        ("boolean", json!(true)),
        ("string", json!("x")),
        ("array", json!([1])),
        ("object", json!({ "x": 1 })),
    ] {
        if !kinds.is_empty() && !may(kind) {
            values.push(value);
        }
    }
    if !may("number") {
        values.push(json!(1.5));
    }
    if may("string") {
        values.push(json!("x".repeat(LONG)));
        values.push(json!("\u{0}\u{202e}"));
    }
    if may("integer") {
        values.push(json!(1e30));
        if resolved(document, schema)["minimum"] == json!(0) {
            values.push(json!(-1));
        }
    }
    if may("array") {
        values.push(json!([[]]));
        values.push(json!(["x".repeat(LONG)]));
    }
    values
}

struct Probe<'a> {
    fleet: &'a Fleet,
    codes: BTreeSet<String>,
    release: String,
    tried: usize,
}

impl Probe<'_> {
    async fn send(&self, route: &Route, media_type: &str, body: Vec<u8>) -> Response {
        let path = route
            .path
            .replace("{site}", "docs")
            .replace("{release}", &self.release)
            .replace("{host}", "www.example.test")
            .replace("{name}", "fra1");
        let request = self.fleet.request(route.method.clone(), &path);
        let request = request.header("if-match", "*").header("content-type", media_type);
        request.body(body).send().await.unwrap()
    }

    /// Sends what must be refused.
    async fn refuses(&mut self, route: &Route, what: &str, media_type: &str, body: Vec<u8>) {
        let answer = self.send(route, media_type, body).await;
        let what = format!("{} {} with {what}", route.method, route.path);
        let status = answer.status();
        assert!(status.is_client_error(), "{what}: {status}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
        let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let code = problem["code"].as_str().unwrap();
        assert!(self.codes.contains(code), "{what}: {code} is not documented");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && detail.len() < 4096, "{what}: {} bytes", detail.len());
        self.tried += 1;
    }
}

/// The codes in the documents.
fn documented() -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| 4"));
    rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect()
}

#[tokio::test]
async fn nothing_wrong_is_taken_and_nothing_is_changed_by_it() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let begun = fleet.begin("docs", &[("index.html", "one")]).await;
    let document: Value = fleet.get("/v1/openapi.json").await;
    let routes = routes(&document);
    assert!(routes.len() >= 8, "{}", routes.len());
    let before: AuditChain = fleet.get("/v1/audit/chain").await;
    let release = begun.release.id.to_string();
    let mut probe = Probe { fleet: &fleet, codes: documented(), release, tried: 0 };
    let json_type = |route: &Route| match route.method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    for route in &routes {
        let kind = json_type(route);
        let good = good(&route.path);
        for (field, schema) in &route.fields {
            for value in wrong(&document, schema) {
                let mut body = good.clone();
                body[field] = value.clone();
                let what: String = format!("{field}: {value}").chars().take(80).collect();
                probe.refuses(route, &what, kind, body.to_string().into()).await;
            }
            let deep = format!("{{{field:?}:{}{}}}", "[".repeat(DEEP), "]".repeat(DEEP));
            probe.refuses(route, &format!("a deep {field}"), kind, deep.into()).await;
        }
        let mut body = good.clone();
        body["zz"] = json!(1);
        let whole = [
            ("a field that nobody knows", body.to_string().into_bytes()),
            ("a list", b"[]".to_vec()),
            ("a number", b"7".to_vec()),
            ("half a document", b"{\"name\": \"a".to_vec()),
            ("two documents", b"{} {}".to_vec()),
            ("no text", b"{\"\xff\xfe\": 1}".to_vec()),
            ("brackets without end", vec![b'['; DEEP]),
            ("braces", "{\"a\":".repeat(DEEP).into_bytes()),
        ];
        for (what, body) in whole {
            probe.refuses(route, what, kind, body).await;
        }
        let text = good.to_string().into_bytes();
        probe.refuses(route, "another media type", "text/plain", text).await;
        if !route.is_large {
            let long = format!("{{\"name\": \"{}\"}}", "a".repeat(300_000)).into_bytes();
            probe.refuses(route, "a body that is too large", kind, long).await;
        }
    }
    assert!(probe.tried > 200, "{}", probe.tried);
    // Every change would have left an entry.
    let after: AuditChain = fleet.get("/v1/audit/chain").await;
    assert_eq!(after.end, before.end);
}
