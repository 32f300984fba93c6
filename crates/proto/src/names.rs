//! What are sites, hosts, machines and regions called, and which spellings are refused?

use std::{fmt, str::FromStr};

use crate::schema::text_schema;

/// Makes `$name` a text type that can only hold what its `FromStr` accepts, everywhere alike:
/// in JSON, in TOML, in paths and in arguments.
macro_rules! text_serde {
    ($name:ident) => {
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

/// A hostname in lower case, without a port and without a trailing dot.
///
/// Sites, certificates and `Host` headers meet on this type, so two spellings of one name can never
/// miss each other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Box<str>);

/// The text is not a hostname.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hostname")]
pub struct InvalidHost(String);

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() <= 253 && name.split('.').all(is_label) {
            Ok(Host(name.to_ascii_lowercase().into()))
        } else {
            Err(InvalidHost(text.chars().take(300).collect()))
        }
    }
}

impl Host {
    /// The host of a `Host` header or `:authority`: the port, if any, is dropped (RFC 9110,
    /// section 7.2).
    pub fn from_authority(authority: &str) -> Result<Self, InvalidHost> {
        let name = match authority.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => authority,
        };
        name.parse()
    }

    /// Whether this host is `zone` or lies below it.
    pub fn is_within(&self, zone: &Host) -> bool {
        self.0
            .strip_suffix(zone.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

text_serde!(Host);
// Those with `--` are kept for previews, and refused where a site is given one. A pattern cannot
// bound a label to 63 bytes exactly: this one keeps below.
text_schema!(
    Host,
    "^(xn--)?[A-Za-z0-9](-?[A-Za-z0-9]){0,28}(\\.(xn--)?[A-Za-z0-9](-?[A-Za-z0-9]){0,28})*$",
    "www.example.org",
    253
);

/// Letters, digits and inner hyphens, 1 to 63 of them (RFC 1123, section 2.1).
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A name that people give: a lower-case label of at most `max` bytes. `--` is kept for preview
/// hosts (`<preview>--<site>.<domain>`), so no name may hold it.
fn is_name(text: &str, max: usize) -> bool {
    text.len() <= max
        && is_label(text)
        && !text.contains("--")
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $invalid:ident, $max:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        #[doc = concat!("The text is not ", $what, " name.")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error(
            "{0:?} is not {what} name: use 1 to {max} lower-case letters, digits and single hyphens",
            what = $what, max = $max
        )]
        pub struct $invalid(String);

        impl FromStr for $name {
            type Err = $invalid;

            fn from_str(text: &str) -> Result<Self, $invalid> {
                if is_name(text, $max) {
                    Ok($name(text.into()))
                } else {
                    Err($invalid(text.chars().take(100).collect()))
                }
            }
        }

        text_serde!($name);
        text_schema!($name, "^[a-z0-9](-?[a-z0-9])*$", "example-1", $max);
    };
}

name! {
    /// What a site is called, in commands, in the API and in its default host. At most 40 bytes, so
    /// that a preview host `<preview>--<site>` fits one DNS label.
    SiteName, InvalidSiteName, 40, "a site"
}
name! {
    /// What a preview is called: the first part of its host. At most 20 bytes.
    PreviewName, InvalidPreviewName, 20, "a preview"
}
name! {
    /// What an edge or a DNS server is called, such as `fra1`.
    MachineName, InvalidMachineName, 63, "a machine"
}
name! {
    /// What a region is called, such as `eu-frankfurt`.
    RegionName, InvalidRegionName, 63, "a region"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_a_host_are_one() {
        let host: Host = "WWW.Example.test.".parse().unwrap();
        assert_eq!(host, "www.example.test".parse().unwrap());
        assert_eq!(host, Host::from_authority("www.example.test:8443").unwrap());
    }

    #[test]
    fn hostnames_follow_rfc_1123_section_2_1() {
        let long = format!("{}.test", "a".repeat(64));
        for text in ["", ".", "a..b", "-a.test", "a-.test", "a_b.test", "a b", "[::1]", &long] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_within_its_zone_only_at_a_label() {
        let zone: Host = "nigh.test".parse().unwrap();
        for (host, within) in
            [("nigh.test", true), ("docs.nigh.test", true), ("tonigh.test", false), ("test", false)]
        {
            assert_eq!(host.parse::<Host>().unwrap().is_within(&zone), within, "{host}");
        }
    }

    #[test]
    fn names_leave_room_for_preview_hosts() {
        for text in ["", "Docs", "a--b", "-a", "a_b", &"a".repeat(41), "a.b"] {
            assert!(text.parse::<SiteName>().is_err(), "{text}");
        }
        assert!("docs-2".parse::<SiteName>().is_ok());
    }
}
