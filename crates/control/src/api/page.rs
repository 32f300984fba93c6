//! Which part of a list is asked for?

use axum::{
    Json,
    extract::{FromRequestParts, Query},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use nigh_proto::api::Page;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::problem::Refusal;
use crate::request::Request;

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;
/// No key of any list is longer: the longest are ids of certificates.
const KEY_MAX_BYTES: usize = 300;

/// Query parameters, refused with a problem that names what is wrong.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(error) => {
                Err(Refusal::new(StatusCode::BAD_REQUEST, "query_invalid", error.body_text()))
            }
        }
    }
}

/// A number in a query that the database can hold.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct Natural(pub(crate) u64);

impl TryFrom<u64> for Natural {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, &'static str> {
        i64::try_from(number).map(|_| Natural(number)).map_err(|_| "the number is too large")
    }
}

/// `?limit=&cursor=`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Paging {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `?limit=&cursor=&name=`: only what is called so, or begins so.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NamedPaging {
    limit: Option<u32>,
    cursor: Option<String>,
    name: Option<String>,
}

impl NamedPaging {
    /// How names begin, and which page.
    pub(crate) fn split(self) -> (String, Paging) {
        (self.name.unwrap_or_default(), Paging { limit: self.limit, cursor: self.cursor })
    }
}

/// A page as an answer, with the address of the next one in `Link` (RFC 8288).
#[derive(Debug)]
pub(crate) struct Paged<T>(Page<T>);

impl<T> From<Page<T>> for Paged<T> {
    fn from(page: Page<T>) -> Self {
        Paged(page)
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let request = Request::current();
        let link = request.zip(self.0.next_cursor.as_deref()).and_then(|(request, cursor)| {
            HeaderValue::from_str(&format!("<{}>; rel=\"next\"", next(&request.uri, cursor))).ok()
        });
        let mut response = Json(self.0).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// The address of this list with another cursor.
fn next(uri: &Uri, cursor: &str) -> String {
    let kept = uri.query().unwrap_or_default().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let mut query: Vec<&str> = kept.collect();
    let cursor = format!("cursor={cursor}");
    query.push(&cursor);
    format!("{}?{}", uri.path(), query.join("&"))
}

/// Where a page begins; its text is opaque to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor(String);

impl Paging {
    pub(crate) fn new(limit: Option<u32>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    /// How many items to show.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }

    /// The cursor of a page that begins behind `key`.
    pub(crate) fn cursor_at(&self, key: String) -> String {
        Cursor(key).encode()
    }

    /// The key of the last item of the page before.
    pub(crate) fn after(&self) -> Result<Option<String>, Refusal> {
        let Some(text) = &self.cursor else { return Ok(None) };
        match Cursor::parse(text) {
            Some(Cursor(key)) => Ok(Some(key)),
            None => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "cursor_invalid",
                "cursor is not one that control gave; leave it out to begin again",
            )),
        }
    }

    /// A page of `items`, of which one more than [`limit`](Self::limit) was read to see whether
    /// there are more.
    pub(crate) fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit() as usize;
        let has_more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| has_more);
        Page { next_cursor: last.map(|item| Cursor(key(item)).encode()), items }
    }
}

impl Cursor {
    fn encode(&self) -> String {
        self.0.bytes().fold(String::from("c1"), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("c1").filter(|hex| hex.len() <= 2 * KEY_MAX_BYTES)?;
        if hex.len() % 2 != 0 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = |index| u8::from_str_radix(&hex[index..index + 2], 16).ok();
        let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
        String::from_utf8(bytes).ok().map(Cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_page_has_no_cursor() {
        let paging = Paging { limit: Some(2), cursor: None };
        let page = paging.page(vec!["a", "b", "c"], |item| (*item).to_owned());
        assert_eq!(page.items, ["a", "b"]);
        let next = Paging { limit: Some(2), cursor: page.next_cursor };
        assert_eq!(next.after().unwrap().as_deref(), Some("b"));
        assert_eq!(next.page(vec!["c"], |item| (*item).to_owned()).next_cursor, None);
    }

    #[test]
    fn the_next_page_is_of_the_same_list() {
        let uri = "/v1/sites?name=a&cursor=c100&limit=2".parse().unwrap();
        assert_eq!(next(&uri, "c101"), "/v1/sites?name=a&limit=2&cursor=c101");
    }

    proptest! {
        #[test]
        fn cursors_round_trip(key in ".{0,25}") {
            prop_assert_eq!(Cursor::parse(&Cursor(key.clone()).encode()), Some(Cursor(key)));
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in "(c1)?.{0,60}") {
            let paging = Paging { limit: None, cursor: Some(text) };
            if let Ok(key) = paging.after() {
                prop_assert!(key.is_some_and(|key| key.len() <= KEY_MAX_BYTES));
            }
        }
    }
}
