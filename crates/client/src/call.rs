//! How is one request made, repeated where that is safe, and its answer read?

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use nigh_proto::api::{Page, Problem};
use reqwest::Url;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Client,
    backoff::{random, wait_before},
    backup::Download,
    error::CallError,
    line::Line,
};

/// The largest answer that is read: a manifest of a million files.
const ANSWER_MAX_BYTES: usize = 512 << 20;
/// How many pages of a list are followed at most.
const PAGES_MAX: usize = 10_000;
/// How many controls are asked one after the other without a wait, or beyond what patience allows.
const CONTROLS_MAX: usize = 8;
/// How long a call may take unless it says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What makes a `POST` one that control does once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

fn new_key() -> HeaderValue {
    let key = format!("{:016x}{:016x}", random(), random());
    HeaderValue::from_str(&key).expect("hex digits are a field")
}

/// One request to be made.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
    timeout: Duration,
    is_repeatable: bool,
}

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub enum Body {
    #[default]
    Empty,
    /// Bytes of a media type, sent as they are.
    Bytes { media_type: &'static str, bytes: Bytes },
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub url: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    /// A request for the path of `segments`, each of them one name whatever it holds.
    pub fn new(method: Method, segments: &[&str]) -> Self {
        // With a key control does it once, however often it is sent.
        let is_repeatable = method != Method::PATCH;
        let mut headers = HeaderMap::new();
        if method == Method::POST {
            headers.insert(IDEMPOTENCY_KEY, new_key());
        }
        Self {
            method,
            segments: segments.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            headers,
            body: Body::Empty,
            timeout: CALL_TIMEOUT,
            is_repeatable,
        }
    }

    /// A request for a path as people write it, escapes, query and all.
    pub fn to_path(method: Method, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        // Read as a reference of any base, so that escapes mean what they mean everywhere.
        let decoded = Url::parse("http://any/").and_then(|base| base.join(&format!("?{query}")));
        let pairs = decoded.iter().flat_map(|url| url.query_pairs()).filter(|_| !query.is_empty());
        let query = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        Self { query, ..Self::new(method, &segments) }
    }

    /// Carries `value` as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Self {
        let bytes = serde_json::to_vec(value)
            .expect("the API's bodies are texts, numbers, lists and maps of texts");
        self.body(Body::Bytes { media_type: "application/json", bytes: bytes.into() })
    }

    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Not to be repeated once it may have arrived: the caller knows better what is to be done then.
    pub(crate) const fn once(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        url.path_segments_mut()
            .expect("a client's base has a host, so it has a path")
            .pop_if_empty()
            .extend(&self.segments);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

impl Client {
    /// Makes a call and reads its answer as `T`; a status of 400 and above is an error.
    pub async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CallError> {
        let answer = self.accepted(call).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|source| CallError::Body { url: answer.url, source })
    }

    /// Makes a call whose answer has no body that matters.
    pub async fn command(&self, call: &Call) -> Result<(), CallError> {
        self.accepted(call).await.map(drop)
    }

    /// Every item of a list, page after page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, call: &Call) -> Result<Vec<T>, CallError> {
        let mut items = Vec::new();
        let mut next = call.clone();
        for _ in 0..PAGES_MAX {
            let page: Page<T> = self.call(&next).await?;
            items.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            next = call.clone().query("cursor", cursor);
        }
        Ok(items)
    }

    /// Makes a call; a status of 400 and above is an error.
    pub async fn accepted(&self, call: &Call) -> Result<Answer, CallError> {
        self.patiently(call, async |line| accept(self.send(line, call).await?)).await
    }

    /// Makes a call and gives back whatever was answered.
    pub async fn answer(&self, call: &Call) -> Result<Answer, CallError> {
        let sent = async |line: &Line| {
            let answer = self.send(line, call).await?;
            if matches!(answer.status.as_u16(), 502..=504) {
                // Whoever asks again may have more luck elsewhere.
                self.lines.pass(line);
            }
            Ok(answer)
        };
        self.patiently(call, sent).await
    }

    /// Repeats a repeatable call until it is done, fails for good, or patience ends. Another
    /// control is asked at once, and each of them once even when patience is short.
    pub(crate) async fn patiently<T>(
        &self,
        call: &Call,
        attempt: impl AsyncFn(&Line) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let deadline = self.patience.deadline(Instant::now());
        let (mut controls, mut repetitions) = (1, 0);
        loop {
            let line = self.lines.current();
            let error = match attempt(&line).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_elsewhere = error.is_of_one_control();
            if is_elsewhere {
                self.lines.pass(&line);
            }
            if !call.is_repeatable && !error.is_unsent() {
                return Err(error);
            }
            if is_elsewhere && controls < self.lines.total().min(CONTROLS_MAX) {
                controls += 1;
                continue;
            }
            repetitions += 1;
            let wait = wait_before(repetitions, random());
            let is_over = Instant::now() + wait >= deadline;
            if is_over || !error.is_passing() {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Makes a call whose answer is too large to hold; a status of 400 and above is an error.
    pub(crate) async fn download(&self, call: &Call) -> Result<Download, CallError> {
        let begun = async |line: &Line| {
            let response = self.request(line, call).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            Err(refusal(read(response, |source| self.unreachable(source)).await?))
        };
        let response = self.patiently(call, begun).await?;
        Ok(Download::new(response, self.api_url().to_owned()))
    }

    pub(crate) async fn send(&self, line: &Line, call: &Call) -> Result<Answer, CallError> {
        read(self.request(line, call).await?, |source| self.unreachable(source)).await
    }

    fn unreachable(&self, source: reqwest::Error) -> CallError {
        CallError::Unreachable { api_url: self.api_url().to_owned(), source }
    }

    async fn request(&self, line: &Line, call: &Call) -> Result<reqwest::Response, CallError> {
        let url = call.url(&line.base);
        let mut request = line
            .http
            .request(call.method.clone(), url)
            .headers(call.headers.clone())
            .timeout(call.timeout);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Body::Bytes { media_type, bytes } = &call.body {
            request = request.header(header::CONTENT_TYPE, *media_type).body(bytes.clone());
        }
        request.send().await.map_err(|source| self.unreachable(source))
    }
}

async fn read(
    response: reqwest::Response,
    unreachable: impl Fn(reqwest::Error) -> CallError,
) -> Result<Answer, CallError> {
    let (url, status) = (response.url().to_string(), response.status());
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(&unreachable)?;
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            return Err(CallError::TooLarge { url, max_bytes: ANSWER_MAX_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { url, status, headers, body: body.freeze() })
}

fn accept(answer: Answer) -> Result<Answer, CallError> {
    if answer.status.is_success() { Ok(answer) } else { Err(refusal(answer)) }
}

/// The problem that an answer states, if it is one of nigh's.
pub(crate) fn refusal(answer: Answer) -> CallError {
    let foreign = || CallError::Foreign { url: answer.url.clone(), status: answer.status.as_u16() };
    let is_problem = answer
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/problem+json"));
    if !is_problem {
        return foreign();
    }
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => CallError::Refused(Box::new(problem)),
        Err(_) => foreign(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, media_type: &'static str, body: &'static str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        let status = StatusCode::from_u16(status).unwrap();
        Answer { url: "https://a/v1".to_owned(), status, headers, body: body.into() }
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        let base = Url::parse("https://a:1/api/").unwrap();
        let call = Call::new(Method::GET, &["v1", "sites", "../x?y#z"]).query("a", "b&c");
        assert_eq!(call.url(&base).as_str(), "https://a:1/api/v1/sites/..%2Fx%3Fy%23z?a=b%26c");
    }

    #[test]
    fn a_post_has_a_key_of_its_own_and_keeps_it() {
        let [one, two] = [0; 2].map(|_| Call::new(Method::POST, &["v1", "sites"]));
        assert!(one.is_repeatable);
        assert_ne!(one.headers[IDEMPOTENCY_KEY], two.headers[IDEMPOTENCY_KEY]);
        assert_eq!(one.clone().headers[IDEMPOTENCY_KEY], one.headers[IDEMPOTENCY_KEY]);
        assert!(Call::new(Method::GET, &["v1"]).headers.is_empty());
    }

    #[test]
    fn a_path_that_was_typed_keeps_its_query() {
        let base = Url::parse("https://a").unwrap();
        for (path, url) in [
            ("/v1/sites?limit=3&cursor=a%20b", "https://a/v1/sites?limit=3&cursor=a+b"),
            ("v1/status", "https://a/v1/status"),
            ("/v1/sites?", "https://a/v1/sites"),
        ] {
            assert_eq!(Call::to_path(Method::GET, path).url(&base).as_str(), url);
        }
    }

    #[test]
    fn a_problem_keeps_its_code_and_anything_else_is_foreign() {
        let body = r#"{"type":"","title":"","status":409,"detail":"no","code":"site_taken"}"#;
        let refused = accept(answer(409, "application/problem+json", body)).unwrap_err();
        assert_eq!((refused.code(), refused.status()), (Some("site_taken"), Some(409)));
        for (media_type, body) in [("text/html", "<h1>502"), ("application/problem+json", "{}")] {
            let error = accept(answer(502, media_type, body)).unwrap_err();
            assert!(matches!(error, CallError::Foreign { status: 502, .. }), "{body}");
        }
        accept(answer(202, "application/json", "")).unwrap();
    }
}
