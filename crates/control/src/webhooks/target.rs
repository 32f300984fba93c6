//! Where may a webhook go?
//!
//! Whoever may make a webhook chooses an address that control then talks to, from inside the
//! operator's network. So private addresses are refused unless the configuration allows them, and
//! it is the address that is connected to which is looked at: what a name resolves to may change.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use http::Uri;
use ipnet::{Ipv4Net, Ipv6Net};
use nigh_proto::Host;

/// The longest address of a webhook, in bytes.
pub(crate) const URL_MAX_BYTES: usize = 2048;

/// Where one webhook goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub is_tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// For the `Host` field.
    pub authority: String,
    /// With the query.
    pub path: String,
}

/// Why a webhook cannot go somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    #[error("the address is not one of a web server; give https://HOST/PATH")]
    Url,
    #[error("the address has {length} bytes; give at most {max}", max = URL_MAX_BYTES)]
    Long { length: usize },
    #[error("the address is not https; plain http needs webhooks.allow_private in control.toml")]
    Plain,
    #[error("the address holds a user name or password; the signature shows who sends")]
    User,
    #[error(
        "{0} is a private address; webhooks.allow_private in control.toml allows those, for everyone \
         who may make webhooks"
    )]
    Private(IpAddr),
    #[error("{0} resolves to no address")]
    Nowhere(String),
}

impl Target {
    /// Reads an address that somebody gave.
    pub(crate) fn parse(url: &str, allow_private: bool) -> Result<Self, BadTarget> {
        if url.len() > URL_MAX_BYTES {
            return Err(BadTarget::Long { length: url.len() });
        }
        let uri: Uri = url.parse().map_err(|_| BadTarget::Url)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if allow_private => false,
            Some("http") => return Err(BadTarget::Plain),
            _ => return Err(BadTarget::Url),
        };
        let authority = uri.authority().ok_or(BadTarget::Url)?;
        if authority.as_str().contains('@') {
            return Err(BadTarget::User);
        }
        let host = authority.host();
        let port = port_of(authority.as_str().strip_prefix(host).unwrap_or_default())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if port == 0 || !(is_name(host) || host.parse::<IpAddr>().is_ok()) || !is_path(path) {
            return Err(BadTarget::Url);
        }
        let target = Self {
            is_tls,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        };
        // One that could never be reached is said at once.
        if let Ok(address) = target.host.parse() {
            check(address, allow_private)?;
        }
        Ok(target)
    }

    /// Addresses that may be connected to, in the order of preference.
    pub(crate) async fn resolve(&self, allow_private: bool) -> Result<Vec<SocketAddr>, BadTarget> {
        let nowhere = || BadTarget::Nowhere(self.host.clone());
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        allowed(found.map_err(|_| nowhere())?, allow_private)?.ok_or_else(nowhere)
    }
}

/// The port in what follows a host; `http` passes over what it cannot read there.
fn port_of(rest: &str) -> Result<Option<u16>, BadTarget> {
    match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| BadTarget::Url)
        }
        None if rest.is_empty() => Ok(None),
        _ => Err(BadTarget::Url),
    }
}

/// A name whose last label no resolver takes for a number: `10.1` would be an address.
fn is_name(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    host.parse::<Host>().is_ok() && last.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// What RFC 3986 allows in a path and a query.
fn is_path(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/?".contains(&byte))
}

/// The addresses that may be connected to; `None` when there are none at all.
fn allowed(
    found: impl Iterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<Option<Vec<SocketAddr>>, BadTarget> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        match check(address.ip(), allow_private) {
            Ok(()) => addresses.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match (addresses.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        (true, None) => Ok(None),
        (false, _) => Ok(Some(addresses)),
    }
}

fn check(address: IpAddr, allow_private: bool) -> Result<(), BadTarget> {
    if allow_private || is_public(address) { Ok(()) } else { Err(BadTarget::Private(address)) }
}

/// Networks that are nobody's on the internet (IANA's special-purpose registries).
const PRIVATE_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Whether anybody on the internet could be there.
fn is_public(address: IpAddr) -> bool {
    let within_v4 = |address: Ipv4Addr| {
        PRIVATE_V4.into_iter().any(|(network, length)| {
            Ipv4Net::new(network, length).is_ok_and(|network| network.contains(&address))
        })
    };
    match address {
        IpAddr::V4(address) => !within_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => !within_v4(address),
            None => is_public_v6(address),
        },
    }
}

/// The IPv4 address that a translator, or the kernel, would make of it.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        // Mapped, and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(of(high, low))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within =
        |network: &str| network.parse::<Ipv6Net>().is_ok_and(|network| network.contains(&address));
    // All that is public lies in 2000::/3, except what is set aside there: Teredo and other
    // protocols, documentation.
    within("2000::/3") && !["2001::/23", "2001:db8::/32", "3fff::/20"].into_iter().any(within)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_internet_is_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "::127.0.0.1",
            "fec0::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in
            ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "2002:101:101::"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_is_read_as_it_will_be_asked() {
        let target = Target::parse("https://Example.org/hook?a=b", false).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("Example.org", 443));
        assert_eq!(target.path, "/hook?a=b");
        let local = Target::parse("http://[::1]:8080", true).unwrap();
        assert_eq!((local.host.as_str(), local.port, local.is_tls), ("::1", 8080, false));
        assert_eq!(local.path, "/");
        for (url, expected) in [
            ("", BadTarget::Url),
            ("/hook", BadTarget::Url),
            ("ftp://a/", BadTarget::Url),
            ("https:///x", BadTarget::Url),
            ("https://10.1/x", BadTarget::Url),
            ("https://0*", BadTarget::Url),
            ("http://example.org/", BadTarget::Plain),
            ("https://user:secret@example.org/", BadTarget::User),
            ("https://127.0.0.1/", BadTarget::Private(Ipv4Addr::LOCALHOST.into())),
            ("https://[::1]/", BadTarget::Private(Ipv6Addr::LOCALHOST.into())),
        ] {
            assert_eq!(Target::parse(url, false), Err(expected), "{url}");
        }
    }

    #[test]
    fn of_several_addresses_only_public_ones_are_connected_to() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (private, public) = (at("10.0.0.1:443"), at("1.1.1.1:443"));
        assert_eq!(allowed([private, public].into_iter(), false), Ok(Some(vec![public])));
        assert!(allowed([private].into_iter(), false).is_err());
        assert_eq!(allowed([private].into_iter(), true), Ok(Some(vec![private])));
        assert_eq!(allowed([].into_iter(), false), Ok(None));
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_refused(url in "(https?://)?.{0,40}") {
            if let Ok(target) = Target::parse(&url, false) {
                prop_assert!(target.is_tls && !target.host.is_empty());
                let again = Target::parse(&target.to_string(), false);
                prop_assert_eq!(again, Ok(target));
            }
        }

        #[test]
        fn every_mapped_address_is_what_it_maps(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            prop_assert_eq!(is_public(v4.into()), is_public(v4.to_ipv6_mapped().into()));
        }
    }
}
