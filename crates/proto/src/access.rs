//! What may a token do?
//!
//! A [`Verb`] is one kind of thing to do; [`Verbs`] is a set of them. The three scopes are
//! shorthands for sets that contain each other. Where a token may do it, at some sites or
//! everywhere, is said beside it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// The shorthands for what a token may do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read sites, releases and machines.
    Read,
    /// Push, activate, roll back and delete releases; add and remove hosts.
    Push,
    /// Everything: sites, machines, tokens, the audit log.
    Admin,
}

macro_rules! verbs {
    ($($(#[doc = $doc:literal])* $verb:ident $label:literal $least:ident),* $(,)?) => {
        /// One kind of thing to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
        #[repr(u8)]
        pub enum Verb {
            $($(#[doc = $doc])* #[schema(rename = $label)] $verb,)*
        }

        impl Verb {
            /// All of them, in the order of the documents.
            pub const ALL: &'static [Verb] = &[$(Verb::$verb),*];

            /// The word in JSON, on command lines and in the database.
            pub const fn label(self) -> &'static str {
                match self { $(Verb::$verb => $label),* }
            }

            /// The least scope that has it.
            pub const fn least(self) -> Scope {
                match self { $(Verb::$verb => Scope::$least),* }
            }
        }
    };
}

verbs! {
    /// See sites, hosts and releases.
    SitesRead "sites:read" Read,
    /// See machines and the state of the fleet.
    MachinesRead "machines:read" Read,
    /// Add and remove hosts of a site.
    HostsWrite "hosts:write" Push,
    /// Upload, begin and finalize releases, live or as previews.
    ReleasesPush "releases:push" Push,
    /// Make a release live, or the one before it again.
    ReleasesActivate "releases:activate" Push,
    /// Delete and prune releases.
    ReleasesDelete "releases:delete" Push,
    /// Make, change and delete sites.
    SitesWrite "sites:write" Admin,
    /// Let machines join, drain and remove them.
    MachinesWrite "machines:write" Admin,
    /// Renew, revoke and bring certificates.
    CertificatesWrite "certificates:write" Admin,
    /// Manage webhooks.
    WebhooksWrite "webhooks:write" Admin,
    /// Make, list and revoke tokens that are not stronger.
    TokensWrite "tokens:write" Admin,
    /// Read the audit log.
    AuditRead "audit:read" Admin,
}

/// The text names no verb.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that a token may do; there are {all}", all = all_labels())]
pub struct InvalidVerb(String);

fn all_labels() -> String {
    Verb::ALL.iter().map(|verb| verb.label()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Verb {
    type Err = InvalidVerb;

    fn from_str(text: &str) -> Result<Self, InvalidVerb> {
        let found = Verb::ALL.iter().find(|verb| verb.label() == text);
        found.copied().ok_or_else(|| InvalidVerb(text.chars().take(40).collect()))
    }
}

impl Serialize for Verb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A set of verbs; a list of their words in JSON.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Verbs(u32);

impl Verbs {
    pub const NONE: Verbs = Verbs(0);

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether everything in `other` is in here too.
    pub const fn contain(self, other: Verbs) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.iter().copied().filter(move |verb| self.contain((*verb).into()))
    }
}

impl From<Verb> for Verbs {
    fn from(verb: Verb) -> Self {
        Verbs(1 << (verb as u32))
    }
}

/// Everything that the scope stands for.
impl From<Scope> for Verbs {
    fn from(scope: Scope) -> Self {
        Verb::ALL.iter().copied().filter(|verb| verb.least() <= scope).collect()
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        verbs.into_iter().fold(Verbs::NONE, |all, verb| all | verb.into())
    }
}

impl std::ops::BitOr for Verbs {
    type Output = Verbs;

    fn bitor(self, other: Verbs) -> Verbs {
        Verbs(self.0 | other.0)
    }
}

impl std::ops::BitAnd for Verbs {
    type Output = Verbs;

    fn bitand(self, other: Verbs) -> Verbs {
        Verbs(self.0 & other.0)
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, verb) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{verb}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Verbs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Verbs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Verb>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_contain_each_other() {
        let [read, push, admin]: [Verbs; 3] =
            [Scope::Read, Scope::Push, Scope::Admin].map(Into::into);
        assert!(admin.contain(push) && push.contain(read));
        assert!(!read.contain(push) && !push.contain(admin));
        assert_eq!(admin.iter().count(), Verb::ALL.len());
    }

    #[test]
    fn a_set_is_a_list_of_words() {
        let verbs: Verbs = [Verb::AuditRead, Verb::SitesRead].into_iter().collect();
        let json = serde_json::to_string(&verbs).unwrap();
        assert_eq!(json, r#"["sites:read","audit:read"]"#);
        assert_eq!(serde_json::from_str::<Verbs>(&json).unwrap(), verbs);
        assert!(serde_json::from_str::<Verbs>(r#"["sites:own"]"#).is_err());
    }

    #[test]
    fn every_word_is_read_back() {
        for verb in Verb::ALL {
            assert_eq!(verb.label().parse(), Ok(*verb));
        }
    }
}
