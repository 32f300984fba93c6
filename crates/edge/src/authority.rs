//! Which host does a request ask for?

use http::{Request, Uri, header};
use std::borrow::Cow;

/// The request names no host, or more than one: 400 (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoHost;

/// The host in lower case, without port and final dot. It borrows when it is spelled so already.
pub(crate) fn host<B>(request: &Request<B>) -> Result<Cow<'_, str>, NoHost> {
    let text = match authority(request.uri()) {
        Some(authority) => authority,
        None => {
            let mut values = request.headers().get_all(header::HOST).iter();
            let (Some(value), None) = (values.next(), values.next()) else { return Err(NoHost) };
            value.to_str().map_err(|_| NoHost)?
        }
    };
    let name = without_port(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 || text.contains('@') {
        return Err(NoHost);
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

/// An absolute target, and `:authority` of HTTP/2, count before `Host`.
fn authority(uri: &Uri) -> Option<&str> {
    uri.authority().map(http::uri::Authority::as_str)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

/// Where plain HTTP is sent to: the same target over HTTPS. `None` when that is no header value.
pub(crate) fn https_location(host: &str, port: u16, uri: &Uri) -> Option<http::HeaderValue> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let text = match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    text.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(uri: &str, hosts: &[&str]) -> Request<()> {
        let mut builder = Request::builder().uri(uri);
        for host in hosts {
            builder = builder.header(header::HOST, *host);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn two_spellings_of_a_host_are_one() {
        for (uri, hosts, expected) in [
            ("/", &["docs.nigh.test"][..], Ok("docs.nigh.test")),
            ("/", &["Docs.Nigh.Test.:8443"], Ok("docs.nigh.test")),
            ("https://docs.nigh.test/x", &["other"], Ok("docs.nigh.test")),
            ("/", &[], Err(NoHost)),
            ("/", &["a", "b"], Err(NoHost)),
            ("/", &[""], Err(NoHost)),
            ("/", &[":80"], Err(NoHost)),
            ("/", &["user@a"], Err(NoHost)),
        ] {
            let request = request(uri, hosts);
            assert_eq!(host(&request).as_deref(), expected.as_deref(), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn the_way_to_https_keeps_path_query_and_names_only_odd_ports() {
        let uri: Uri = "/a%20b?x=1&y".parse().unwrap();
        assert_eq!(https_location("a.test", 443, &uri).unwrap(), "https://a.test/a%20b?x=1&y");
        assert_eq!(
            https_location("a.test", 8443, &uri).unwrap(),
            "https://a.test:8443/a%20b?x=1&y"
        );
    }

    proptest! {
        #[test]
        fn any_host_is_read_or_refused(text in "[ -~]{0,300}") {
            if let Ok(value) = http::HeaderValue::from_str(&text) {
                let mut request = Request::new(());
                request.headers_mut().insert(header::HOST, value);
                if let Ok(host) = host(&request) {
                    prop_assert!(!host.is_empty() && host.len() <= 253);
                }
            }
        }
    }
}
