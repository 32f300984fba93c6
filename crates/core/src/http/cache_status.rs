//! How does an answer say where it came from? (`Cache-Status`, RFC 9211)

use ::http::HeaderValue;

/// One member of a `Cache-Status` list.
///
/// A pushed file is always a hit: there is no origin to go to. `detail` tells memory from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// Served from this machine.
    Hit { detail: &'static str },
    /// Not in the release, or not a request for a file.
    Miss { detail: &'static str },
}

impl CacheStatus {
    /// The field's value. `cache` names the edge, such as `nigh-fra1`: a token, else `nigh`.
    pub fn to_value(self, cache: &str) -> HeaderValue {
        let is_token = cache.starts_with(|first: char| first.is_ascii_alphabetic())
            && cache.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let cache = if is_token { cache } else { "nigh" };
        let text = match self {
            CacheStatus::Hit { detail } => format!("{cache}; hit; detail={detail}"),
            CacheStatus::Miss { detail } => format!("{cache}; fwd=bypass; detail={detail}"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("nigh"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_a_list_of_structured_items() {
        let hit = CacheStatus::Hit { detail: "memory" };
        assert_eq!(hit.to_value("nigh-fra1"), "nigh-fra1; hit; detail=memory");
        assert_eq!(hit.to_value("a b\r\n"), "nigh; hit; detail=memory");
        let miss = CacheStatus::Miss { detail: "no_file" };
        assert_eq!(miss.to_value("nigh-fra1"), "nigh-fra1; fwd=bypass; detail=no_file");
    }
}
