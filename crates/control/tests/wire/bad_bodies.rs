//! Every field of every body, wrong in kind, size and meaning: refused with a documented problem, and
//! nothing is changed. The routes and fields come from the description that control gives of itself,
//! so that a new one is tried without anybody's thinking of it.

use std::collections::BTreeSet;

use nigh_proto::{api::TokenCreated, audit::AuditChain};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::fleet::{Fleet, expect, release_of};

/// A field's value of about this length is too long anywhere.
const LONG: usize = 100_000;
const DEEP: usize = 10_000;

/// One route that takes JSON.
struct Route {
    method: Method,
    path: String,
    schema: Value,
    is_large: bool,
    /// If-Match is compared there; elsewhere it is refused.
    is_conditional: bool,
}

/// One field, however deep, and a body that is good but for it.
struct Field {
    pointer: String,
    schema: Value,
    is_required: bool,
    body: Value,
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
            let parameters = operation["parameters"].as_array();
            let is_conditional =
                parameters.into_iter().flatten().any(|one| one["name"] == "if-match");
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                schema: body["schema"].clone(),
                is_large: path.ends_with("/releases"),
                is_conditional,
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
        "/v1/webhooks" => json!({ "url": "https://example.org/hooks" }),
        path if path.ends_with("/hosts") => json!({ "host": "www.example.test" }),
        path if path.ends_with("/prune") => json!({ "keep": 1 }),
        path if path.ends_with("/certificate") => {
            let made = rcgen::generate_simple_self_signed(["docs.nigh.test".to_owned()]).unwrap();
            json!({ "chain_pem": made.cert.pem(), "key_pem": made.signing_key.serialize_pem() })
        }
        path if path.ends_with("/releases") => {
            serde_json::to_value(release_of(&[("index.html", "two")])).unwrap()
        }
        _ => json!({}),
    }
}

/// The like for an object within a body.
fn good_part(schema: &str) -> Value {
    match schema {
        "Redirect" => json!({ "from": "/a", "to": "/b", "status": 301 }),
        "HeaderBlock" => json!({ "for": "/*" }),
        "Hsts" => json!({ "max_age_s": 1 }),
        _ => json!({}),
    }
}

/// What a schema is when it is not null, and its name.
fn named<'a>(document: &'a Value, schema: &'a Value) -> (&'a str, &'a Value) {
    if let Some(link) = schema["$ref"].as_str() {
        let (_, name) = link.rsplit_once('/').unwrap();
        return (name, resolved(document, schema));
    }
    let mut choices = schema["oneOf"].as_array().into_iter().flatten();
    match choices.find(|one| one["type"] != "null") {
        Some(one) => named(document, one),
        None => ("", schema),
    }
}

/// Puts a value where a pointer says; what is around it is there.
fn put(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Array(items) => *items = vec![value],
        parent => parent[name] = value,
    }
}

/// Every field of a schema, at `at` in a good body, with all that are in it.
fn fields(document: &Value, schema: &Value, at: &str, body: &Value, into: &mut Vec<Field>) {
    let (_, schema) = named(document, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array();
        let is_required = required.is_some_and(|names| names.iter().any(|known| known == name));
        value(document, field, &format!("{at}/{name}"), body, is_required, into);
    }
}

fn value(
    document: &Value,
    schema: &Value,
    pointer: &str,
    body: &Value,
    is_required: bool,
    into: &mut Vec<Field>,
) {
    let own = Field {
        pointer: pointer.to_owned(),
        schema: schema.clone(),
        is_required,
        body: body.clone(),
    };
    into.push(own);
    let (name, inner) = named(document, schema);
    let mut body = body.clone();
    if inner["items"].is_object() {
        put(&mut body, pointer, json!([null]));
        value(document, &inner["items"], &format!("{pointer}/0"), &body, false, into);
    } else if inner["additionalProperties"].is_object() {
        put(&mut body, pointer, json!({}));
        let of_any = &inner["additionalProperties"];
        value(document, of_any, &format!("{pointer}/x"), &body, false, into);
    } else if inner["properties"].is_object() {
        if !body.pointer(pointer).is_some_and(Value::is_object) {
            put(&mut body, pointer, good_part(name));
        }
        fields(document, inner, pointer, &body, into);
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
        let schema = resolved(document, schema);
        if let Some(min) = schema["minimum"].as_i64() {
            values.push(json!(min - 1));
        }
        if let Some(max) = schema["maximum"].as_u64() {
            values.push(json!(max + 1));
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
    token: String,
    tried: usize,
}

impl Probe<'_> {
    async fn send(&self, route: &Route, media_type: &str, body: Vec<u8>) -> Response {
        let path = route
            .path
            .replace("{site}", "docs")
            .replace("{release}", &self.release)
            .replace("{host}", "www.example.test")
            .replace("{name}", "fra1")
            .replace(
                "{id}",
                if route.path.contains("/tokens/") { &self.token } else { "site:docs" },
            );
        let mut request = self.fleet.request(route.method.clone(), &path);
        if route.is_conditional {
            request = request.header("if-match", "*");
        }
        let request = request.header("content-type", media_type);
        request.body(body).send().await.unwrap()
    }

    /// Sends a body that must be refused for the field at `pointer`, or for something in it; or, in a
    /// document that is a language of its own, for the document.
    async fn refuses_field(&mut self, route: &Route, what: &str, pointer: &str, body: Vec<u8>) {
        let what = format!("{pointer}: {what}");
        let problem = self.refuses(route, &what, json_type(route), body).await;
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let is_named = errors.iter().filter_map(|error| error["pointer"].as_str()).any(|at| {
            at.starts_with(pointer) || (!at.is_empty() && pointer.starts_with(&format!("{at}/")))
        });
        assert!(is_named, "{} {} with {what}: {problem}", route.method, route.path);
    }

    /// Sends what must be refused; the problem that says so.
    async fn refuses(
        &mut self,
        route: &Route,
        what: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Value {
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
        problem
    }
}

fn json_type(route: &Route) -> &'static str {
    match route.method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
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
    let token = fleet.post("/v1/tokens", &json!({ "name": "ci", "scope": "push" })).await;
    let token: TokenCreated = expect(StatusCode::CREATED, token).await;
    let document: Value = fleet.get("/v1/openapi.json").await;
    let routes = routes(&document);
    assert!(routes.len() >= 8, "{}", routes.len());
    let before: AuditChain = fleet.get("/v1/audit/chain").await;
    let release = begun.release.id.to_string();
    let codes = documented();
    let mut probe =
        Probe { fleet: &fleet, codes, release, token: token.token.id.to_string(), tried: 0 };
    for route in &routes {
        let kind = json_type(route);
        let good = good(&route.path);
        let mut all = Vec::new();
        fields(&document, &route.schema, "", &good, &mut all);
        assert!(!all.is_empty(), "{} has no field", route.path);
        for Field { pointer, schema, is_required, body } in &all {
            for value in wrong(&document, schema) {
                let mut body = body.clone();
                let what: String = value.to_string().chars().take(80).collect();
                put(&mut body, pointer, value);
                probe.refuses_field(route, &what, pointer, body.to_string().into()).await;
            }
            let mut body = body.clone();
            put(&mut body, pointer, json!("@deep@"));
            let deep = "[".repeat(DEEP) + &"]".repeat(DEEP);
            let text = body.to_string().replace("\"@deep@\"", &deep);
            probe.refuses_field(route, "too deep", pointer, text.into()).await;
            if *is_required {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
                let text = body.to_string().into_bytes();
                probe.refuses_field(route, "left out", pointer, text).await;
            }
        }
        let mut body = good.clone();
        body["zz"] = json!(1);
        let text = body.to_string().into_bytes();
        probe.refuses_field(route, "a field that nobody knows", "/zz", text).await;
        let whole = [
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
    assert!(probe.tried > 400, "{}", probe.tried);
    // Every change would have left an entry.
    let after: AuditChain = fleet.get("/v1/audit/chain").await;
    assert_eq!(after.end, before.end);
}
