//! How is the API described to programs?
//!
//! The handlers and types say what each route takes and gives. What all routes have in common is
//! said once, here: how a caller shows who they are, which problems there are, how names are
//! spelled. `docs/reference/openapi.json` is the result; a test compares the two.

use std::collections::BTreeSet;

use nigh_proto::{Digest, Host, MachineName, OperationId, SiteName, Timestamp, TokenId, WebhookId};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, openapi::OpenApi};

/// What the parts of a path look like: the name in braces, the path it begins, its schema.
const PATH_PARAMETERS: [(&str, &str, &str); 10] = [
    ("site", "/v1/sites/", "SiteName"),
    ("host", "/v1/sites/", "Host"),
    ("release", "/v1/sites/", "ReleaseReference"),
    ("digest", "/v1/blobs/", "Digest"),
    ("name", "/v1/machines/", "MachineName"),
    ("id", "/v1/certificates/", "CertificateId"),
    ("id", "/v1/tokens/", "TokenId"),
    ("id", "/v1/events/", "EventId"),
    ("id", "/v1/webhooks/", "WebhookId"),
    ("id", "/v1/operations/", "OperationId"),
];

/// Any text but one with the character NUL, which nothing of control's may hold.
const TEXT_PATTERN: &str = r"^[^\x00]*$";

/// What a query parameter of this name always looks like.
fn query_schema(name: &str) -> Option<Value> {
    Some(match name {
        "limit" | "newest" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "after" | "wait_ms" => json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX }),
        "cursor" => {
            json!({ "type": "string", "pattern": "^c1([2-7][0-9a-e])*$", "maxLength": 602 })
        }
        "since" | "until" => reference("Timestamp"),
        _ => return None,
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Schemas of texts that several routes share.
fn texts() -> Value {
    fn of<T: PartialSchema>() -> Value {
        serde_json::to_value(T::schema()).expect("a schema has a JSON form")
    }
    json!({
        "Digest": of::<Digest>(),
        "Host": of::<Host>(),
        "MachineName": of::<MachineName>(),
        "OperationId": of::<OperationId>(),
        "SiteName": of::<SiteName>(),
        "Timestamp": of::<Timestamp>(),
        "TokenId": of::<TokenId>(),
        "WebhookId": of::<WebhookId>(),
        "CertificateId": {
            "type": "string",
            "pattern": "^(site|host|wildcard|import):[0-9a-z.:-]{1,280}$|^previews$",
            "examples": ["site:docs", "wildcard:example.com"],
        },
        "EventId": { "type": "integer", "minimum": 1, "maximum": i64::MAX, "examples": [17] },
        "ReleaseReference": {
            "type": "string",
            "pattern": "^(rel_[0-9a-hjkmnp-tv-z]{26}|[0-9a-z]{4,26})$",
            "description": "An id, or any end of it that only one release of the site has.",
            "examples": ["rel_01jd0000007000800000000000", "0000000000"],
        },
    })
}

/// Problems that any route may answer with.
const ALWAYS: [u16; 5] = [400, 401, 403, 429, 500];
/// Problems of a route with a name in its path.
const WITH_NAME: [u16; 1] = [404];
/// Problems of a route that changes something.
const WITH_CHANGE: [u16; 6] = [404, 409, 412, 422, 503, 507];
/// Problems of a route that takes a body.
const WITH_BODY: [u16; 3] = [408, 413, 415];

/// The whole description, as it is served and as it is checked in.
pub(crate) fn describe(document: &OpenApi, version: &str) -> Value {
    let mut document = serde_json::to_value(document).expect("a description has a JSON form");
    document["info"]["version"] = version.into();
    document["info"]["license"] = json!({
        "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0",
    });
    document["servers"] = json!([{ "url": "/", "description": "this control" }]);
    document["security"] = json!([{ "token": [] }]);
    let components = object(&mut document["components"]);
    components.insert(
        "securitySchemes".to_owned(),
        json!({ "token": {
            "type": "http", "scheme": "bearer", "bearerFormat": "nigh_pat_…",
            "description": "`nigh token create`, or the file `admin-token` in control's state folder.",
        }}),
    );
    components.insert("responses".to_owned(), problems());
    let schemas = components.entry("schemas").or_insert_with(|| json!({}));
    for (name, schema) in object(&mut texts()) {
        object(schemas).entry(name.clone()).or_insert(schema.take());
    }
    has_power(&mut schemas["NewToken"]);
    whole_numbers(&mut document);
    whole_tuples(&mut document);
    plain_texts(&mut document);
    optional_bodies(&mut document);
    for (path, operations) in object(&mut document["paths"]) {
        for (method, operation) in object(operations) {
            complete(operation, path, method);
        }
    }
    document
}

/// An absent body stands for a document without fields; where none is required, neither is the body.
fn optional_bodies(document: &mut Value) {
    let schemas = object(&mut document["components"]["schemas"]).clone();
    let is_optional = |body: &Value| {
        let reference = body["content"]["application/json"]["schema"]["$ref"].as_str();
        let name = reference.and_then(|reference| reference.rsplit('/').next());
        let schema = name.and_then(|name| schemas.get(name));
        schema
            .is_some_and(|schema| schema.get("required").is_none() && schema.get("anyOf").is_none())
    };
    for operations in object(&mut document["paths"]).values_mut() {
        for operation in object(operations).values_mut() {
            if operation.get("requestBody").is_some_and(is_optional) {
                operation["requestBody"]["required"] = false.into();
            }
        }
    }
}

/// A token without a scope has verbs; no attribute of the type can say so.
fn has_power(new_token: &mut Value) {
    new_token["anyOf"] = json!([
        { "required": ["scope"], "properties": { "scope": reference("Scope") } },
        { "required": ["verbs"], "properties": { "verbs": { "minItems": 1 } } },
    ]);
}

/// Texts of bodies that no form is given for are what [`super::json`] takes.
fn plain_texts(document: &mut Value) {
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, into));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }
    let mut open = BTreeSet::new();
    let paths = document["paths"].as_object().into_iter().flatten();
    for (_, operation) in paths.flat_map(|(_, methods)| methods.as_object().into_iter().flatten()) {
        references(&operation["requestBody"], &mut open);
    }
    let mut done = BTreeSet::new();
    while let Some(link) = open.pop_first() {
        let Some(schema) = link.strip_prefix('#').and_then(|at| document.pointer_mut(at)) else {
            continue;
        };
        plain_text(schema);
        let mut found = BTreeSet::new();
        references(schema, &mut found);
        done.insert(link);
        open.extend(found.into_iter().filter(|link| !done.contains(link)));
    }
}

fn plain_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let has_form =
                ["pattern", "enum", "format"].iter().any(|key| fields.contains_key(*key));
            let is_text = match fields.get("type") {
                Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
                Some(kind) => kind == "string",
                None => false,
            };
            if is_text && !has_form {
                fields.insert("pattern".to_owned(), TEXT_PATTERN.into());
            }
            fields.values_mut().for_each(plain_text);
        }
        Value::Array(items) => items.iter_mut().for_each(plain_text),
        _ => {}
    }
}

/// Numbers that cannot be negative are as large as their type allows, not as its format says.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("minimum").and_then(Value::as_u64).is_some() {
                let maximum = match fields.get("format").and_then(Value::as_str) {
                    Some("int32") => Some(u64::from(u32::MAX)),
                    Some("int64") => Some(i64::MAX.unsigned_abs()),
                    _ => None,
                };
                if let Some(maximum) = maximum {
                    fields.remove("format");
                    fields.entry("maximum").or_insert_with(|| maximum.into());
                }
            }
            fields.values_mut().for_each(whole_numbers);
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// A pair has two items: `prefixItems` alone allows fewer.
fn whole_tuples(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(length) = fields.get("prefixItems").and_then(Value::as_array).map(Vec::len)
            {
                fields.insert("minItems".to_owned(), length.into());
            }
            fields.values_mut().for_each(whole_tuples);
        }
        Value::Array(items) => items.iter_mut().for_each(whole_tuples),
        _ => {}
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was just made one")
}

fn complete(operation: &mut Value, path: &str, method: &str) {
    let tag = operation["tags"][0].as_str().unwrap_or("api").to_owned();
    let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
    operation["operationId"] = format!("{tag}.{name}").into();
    for parameter in
        operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten()
    {
        complete_parameter(parameter, path);
    }
    let has_body = operation["requestBody"].is_object();
    let is_head = method == "head";
    let changes = !matches!(method, "get" | "head");
    let responses = object(&mut operation["responses"]);
    let statuses = ALWAYS
        .iter()
        .chain(WITH_NAME.iter().filter(|_| path.contains('{')))
        .chain(WITH_CHANGE.iter().filter(|_| changes))
        .chain(WITH_BODY.iter().filter(|_| has_body));
    for status in statuses {
        let shared = json!({ "$ref": format!("#/components/responses/Problem{status}") });
        responses.entry(status.to_string()).or_insert(shared);
    }
    for (status, response) in responses {
        let is_problem = status.starts_with(['4', '5']);
        if response.get("$ref").is_some() {
            continue;
        }
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = reason(status).into();
        }
        if is_problem {
            // What a handler says of its own problem is its description.
            response["content"] = problem_content();
        }
        if is_head {
            object(response).remove("content");
        }
    }
}

fn complete_parameter(parameter: &mut Value, path: &str) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let known = match parameter["in"].as_str() {
        Some("path") => PATH_PARAMETERS
            .iter()
            .find(|(known, prefix, _)| *known == name && path.starts_with(prefix))
            .map(|(_, _, schema)| reference(schema)),
        Some("query") if path == "/v1/events" && matches!(name.as_str(), "site" | "kind") => {
            // Names with commas between.
            parameter["style"] = "form".into();
            parameter["explode"] = false.into();
            let of = if name == "site" { "SiteName" } else { "EventKind" };
            let items = json!({ "$ref": format!("#/components/schemas/{of}") });
            Some(json!({ "type": "array", "items": items, "minItems": 1, "maxItems": 100 }))
        }
        // Positions in these lists are numbers.
        Some("query")
            if name == "cursor"
                && (matches!(path, "/v1/audit" | "/v1/events")
                    || path.ends_with("/deliveries")) =>
        {
            Some(json!({ "type": "string", "pattern": "^c1(3[0-9]){1,18}$" }))
        }
        Some("query") if name == "site" => Some(reference("SiteName")),
        Some("query") => query_schema(&name),
        Some("header") if name == "upload-length" => {
            let maximum = nigh_proto::api::BLOB_MAX_BYTES;
            Some(json!({ "type": "integer", "minimum": 0, "maximum": maximum }))
        }
        _ => None,
    };
    if let Some(schema) = known {
        parameter["schema"] = schema;
    }
    // What may be left out is left out: there is no way to write `null` in a query.
    let schema = &mut parameter["schema"];
    if let Some(kinds) = schema["type"].as_array()
        && let Some(kind) = kinds.iter().find(|kind| **kind != "null").cloned()
    {
        schema["type"] = kind;
    }
    let of_one = schema["oneOf"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["type"] != "null").cloned());
    if let Some(one) = of_one {
        *schema = one;
    }
    if parameter["in"] == "query" {
        plain_text(&mut parameter["schema"]);
    }
}

fn problem_content() -> Value {
    json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } })
}

/// What each problem is, in general; `code` says more.
fn problems() -> Value {
    let all = ALWAYS.iter().chain(&WITH_NAME).chain(&WITH_CHANGE).chain(&WITH_BODY);
    let problems = all.map(|status| {
        let status = status.to_string();
        let mut problem = json!({ "description": reason(&status), "content": problem_content() });
        if matches!(status.as_str(), "429" | "503") {
            problem["headers"] = json!({ "retry-after": {
                "description": "seconds", "schema": { "type": "integer", "minimum": 0 },
            }});
        }
        (format!("Problem{status}"), problem)
    });
    Value::Object(problems.collect())
}

/// A status in words.
fn reason(status: &str) -> &'static str {
    match status {
        "200" => "done",
        "201" => "made",
        "202" => "taken; work goes on",
        "204" => "done, and there is nothing to say",
        "304" => "nothing has changed",
        "400" => "the request cannot be read",
        "401" => "no token, or one that is not valid",
        "403" => "the token may not do this",
        "404" => "there is no such thing",
        "408" => "the body did not come in time",
        "409" => "not possible as things stand",
        "410" => "it is gone",
        "411" => "the length must be said",
        "412" => "it was changed meanwhile",
        "413" => "the body is too large",
        "415" => "the body is of another kind",
        "422" => "it was read, and cannot be done",
        "428" => "say which state the change is for",
        "429" => "too many; `retry-after` says when to come back",
        "502" => "somebody else did not do their part; the detail says who",
        "500" => "control failed; its log says why",
        "503" => "busy; come back in a moment",
        "507" => "control's disk is full",
        _ => "see `code`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::description;

    fn operations(document: &Value) -> Vec<(String, Value)> {
        let paths = document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
        });
        all.collect()
    }

    /// `NIGH_UPDATE=1` writes the file instead.
    #[test]
    fn the_description_that_is_checked_in_is_that_of_the_code() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/reference/openapi.json");
        let document = description(env!("CARGO_PKG_VERSION"));
        let text = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
        if std::env::var_os("NIGH_UPDATE").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            checked_in == text,
            "run `NIGH_UPDATE=1 cargo test -p nigh-control description` and look at what changed"
        );
    }

    #[test]
    fn every_route_says_what_it_is_what_it_takes_and_what_it_answers() {
        let document = description("0.0.0");
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (name, operation) in operations(&document) {
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 5), "{name}");
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(id.contains('.') && ids.insert(id), "{name} has the name of another");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
            for status in ["400", "401", "403", "500"] {
                assert!(responses.contains_key(status), "{name} {status}");
            }
            let path = name.split_once(' ').unwrap().1;
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for part in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let described = parameters.iter().find(|parameter| parameter["name"] == part);
                let schema = &described.unwrap_or_else(|| panic!("{name}: {part}"))["schema"];
                assert!(schema["$ref"].is_string(), "{name}: {part} has no form");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    into.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, into));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, into)),
                _ => {}
            }
        }
        let document = description("0.0.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
