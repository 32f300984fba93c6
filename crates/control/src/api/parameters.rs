//! Are the parameters of a request those that its route is described with?
//!
//! Whatever the description says of names, numbers and words in a query and in header fields is looked
//! at here, for every route and before its handler: also where a handler has no use for a value, so
//! that a mistake is told instead of passed over. A query may have nothing besides, and nothing twice;
//! a condition that the route does not compare is refused, since what it forbids must not be done.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts as _, MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use percent_encoding::percent_decode;
use serde_json::Value;

use super::{caller::Caller, problem::Refusal};
use crate::app::App;

/// The parameters of every route, by its path.
#[derive(Debug)]
pub(crate) struct Parameters(HashMap<String, Vec<Operation>>);

#[derive(Debug)]
struct Operation {
    method: Method,
    query: Vec<Parameter>,
    fields: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    form: Form,
}

/// What a value looks like, as far as that is looked at here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Number { min: u64, max: u64 },
    Word(Vec<String>),
}

impl Parameters {
    /// Reads them from the description.
    pub(crate) fn of(document: &Value) -> Self {
        let mut routes: HashMap<String, Vec<Operation>> = HashMap::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let Ok(method) = method.to_uppercase().parse() else { continue };
                let of = |place: &str| -> Vec<Parameter> {
                    let all = operation["parameters"].as_array().into_iter().flatten();
                    let there = all.filter(|parameter| parameter["in"] == place);
                    there.filter_map(|parameter| Parameter::of(document, parameter)).collect()
                };
                let operation = Operation { method, query: of("query"), fields: of("header") };
                routes.entry(path.clone()).or_default().push(operation);
            }
        }
        Self(routes)
    }

    fn check(
        &self,
        path: &str,
        method: &Method,
        uri: &Uri,
        fields: &HeaderMap,
    ) -> Result<(), Refusal> {
        let Some(operations) = self.0.get(path) else { return Ok(()) };
        let of = |method: &Method| operations.iter().find(|one| one.method == *method);
        // What can be got can be asked about.
        let or_get = || of(&Method::GET).filter(|_| *method == Method::HEAD);
        let Some(operation) = of(method).or_else(or_get) else { return Ok(()) };
        operation.check_query(uri.query().unwrap_or_default())?;
        operation.check_fields(fields)
    }
}

impl Parameter {
    fn of(document: &Value, parameter: &Value) -> Option<Self> {
        let name = parameter["name"].as_str()?.to_owned();
        let schema = &parameter["schema"];
        let schema = match schema["$ref"].as_str().and_then(|link| link.strip_prefix('#')) {
            Some(pointer) => document.pointer(pointer)?,
            None => schema,
        };
        let form = match (schema["type"].as_str(), schema["enum"].as_array()) {
            (_, Some(words)) => {
                Form::Word(words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            (Some("boolean"), _) => Form::Word(vec!["false".to_owned(), "true".to_owned()]),
            (Some("integer"), _) => Form::Number {
                min: schema["minimum"].as_u64().unwrap_or(0),
                max: schema["maximum"].as_u64().unwrap_or(i64::MAX.unsigned_abs()),
            },
            _ => Form::Text,
        };
        Some(Self { name, form })
    }

    /// What is wrong with a value, if anything is.
    fn fault(&self, value: &str) -> Option<String> {
        let name = &self.name;
        match &self.form {
            Form::Text => value
                .contains('\0')
                .then(|| format!("{name} has the character NUL, which no text has")),
            Form::Number { min, max } => {
                let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse().ok().filter(|_| is_plain);
                let is_number = number.is_some_and(|number: u64| (*min..=*max).contains(&number));
                (!is_number).then(|| format!("{name} is not a whole number of {min} to {max}"))
            }
            Form::Word(words) => (!words.iter().any(|word| word == value))
                .then(|| format!("{name} is none of {}", words.join(", "))),
        }
    }
}

impl Operation {
    fn check_query(&self, query: &str) -> Result<(), Refusal> {
        let invalid = |why: String| Refusal::new(StatusCode::BAD_REQUEST, "query_invalid", why);
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let no_text = || invalid("the query is not percent-encoded UTF-8".to_owned());
            let name = decoded(name).ok_or_else(no_text)?;
            let value = decoded(value).ok_or_else(no_text)?;
            let Some(parameter) = self.query.iter().find(|known| known.name == name) else {
                return Err(invalid(self.unknown(&name)));
            };
            if seen.contains(&parameter.name.as_str()) {
                return Err(invalid(format!("{name} is there twice")));
            }
            seen.push(&parameter.name);
            if let Some(why) = parameter.fault(&value) {
                return Err(invalid(why));
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<&str> = self.query.iter().map(|known| known.name.as_str()).collect();
        let all = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let name: String = name.chars().take(40).collect();
        format!("this route has no query parameter {name:?}; there are: {all}")
    }

    fn check_fields(&self, fields: &HeaderMap) -> Result<(), Refusal> {
        let compares = self.fields.iter().any(|known| known.name == header::IF_MATCH.as_str());
        // RFC 9110, section 13.1.1.
        if !self.method.is_safe() && !compares && fields.contains_key(header::IF_MATCH) {
            let why = "this route does not compare If-Match; leave it out";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "header_invalid", why));
        }
        for parameter in self.fields.iter().filter(|parameter| parameter.form != Form::Text) {
            for value in fields.get_all(parameter.name.as_str()) {
                if let Some(why) = parameter.fault(value.to_str().unwrap_or_default()) {
                    return Err(Refusal::new(StatusCode::BAD_REQUEST, "header_invalid", why));
                }
            }
        }
        Ok(())
    }
}

/// A name or a value of a query (`application/x-www-form-urlencoded`), if it is text.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).decode_utf8().ok();
    }
    let text = text.replace('+', " ");
    percent_decode(text.as_bytes()).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

/// Refuses a request whose parameters are not those of its route.
pub(crate) async fn as_described(
    State((app, parameters)): State<(App, Arc<Parameters>)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let checked = parameters.check(path, request.method(), request.uri(), request.headers());
    let Err(refusal) = checked else { return next.run(request).await };
    // Whoever is nobody is told that first.
    let (mut parts, _) = request.into_parts();
    match Caller::from_request_parts(&mut parts, &app).await {
        Ok(_) => refusal.into_response(),
        Err(unknown) => unknown.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::api::description;

    fn code(path: &str, query: &str, field: Option<(&'static str, &str)>) -> Option<&'static str> {
        code_of(&Method::GET, path, query, field)
    }

    fn code_of(
        method: &Method,
        path: &str,
        query: &str,
        field: Option<(&'static str, &str)>,
    ) -> Option<&'static str> {
        let parameters = Parameters::of(&description("0.0.0"));
        let uri = format!("{path}?{query}").parse().unwrap();
        let mut fields = HeaderMap::new();
        if let Some((name, value)) = field {
            fields.insert(name, HeaderValue::from_str(value).unwrap());
        }
        parameters.check(path, method, &uri, &fields).err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_query_has_what_its_route_takes_and_has_it_once() {
        for (query, is_good) in [
            ("", true),
            ("&", true),
            ("limit=5&name=a+b%20c", true),
            ("name=", true),
            ("lim%69t=5", true),
            ("limit=", false),
            ("limit", false),
            ("limit=-1", false),
            ("limit=%2B1", false),
            ("limit=4294967296", false),
            ("limit=1&limit=1", false),
            ("limits=1", false),
            ("name=%00", false),
            ("name=%ff", false),
            ("%ff=1", false),
        ] {
            let expected = (!is_good).then_some("query_invalid");
            assert_eq!(code("/v1/sites", query, None), expected, "{query}");
        }
        assert_eq!(code("/v1/backup", "blobs=false", None), None);
        assert_eq!(code("/v1/backup", "blobs=0", None), Some("query_invalid"));
        assert_eq!(code("/v1/operations", "state=running", None), None);
        assert_eq!(code("/v1/operations", "state=walking", None), Some("query_invalid"));
        assert_eq!(code("/v1/whoami", "x=1", None), Some("query_invalid"));
    }

    #[test]
    fn a_field_is_a_number_where_the_description_says_so() {
        for (value, is_good) in [("17", true), ("", false), ("x", false), ("1.5", false)] {
            let expected = (!is_good).then_some("header_invalid");
            let field = Some(("last-event-id", value));
            assert_eq!(code("/v1/events", "", field), expected, "{value}");
        }
    }

    #[test]
    fn a_condition_that_is_not_compared_is_refused() {
        let field = Some(("if-match", "*"));
        for (method, path, is_good) in [
            (Method::POST, "/v1/sites/{site}/rollback", true),
            (Method::DELETE, "/v1/sites/{site}", true),
            (Method::GET, "/v1/sites", true),
            (Method::POST, "/v1/sites", false),
            (Method::PUT, "/v1/sites/{site}/certificate", false),
        ] {
            let expected = (!is_good).then_some("header_invalid");
            assert_eq!(code_of(&method, path, "", field), expected, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_taken_or_refused(query in "([a-z_%0-9+]{0,6}[=&]?){0,6}") {
            let _ = code("/v1/events", &query, None);
        }
    }
}
