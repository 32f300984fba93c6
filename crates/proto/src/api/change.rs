//! What becomes of a field that a merge patch (RFC 7396) names?

use serde::{Deserialize, Serialize};

/// One field of a merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It is absent.
    #[default]
    None,
    /// It is `null`.
    Unset,
    Set(T),
}

impl<T> Change<T> {
    pub const fn is_none(&self) -> bool {
        matches!(self, Change::None)
    }

    /// What a field is afterwards.
    pub fn applied_to(self, before: Option<T>) -> Option<T> {
        match self {
            Change::None => before,
            Change::Unset => None,
            Change::Set(new) => Some(new),
        }
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Change::None | Change::Unset => serializer.serialize_none(),
            Change::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Change::Unset, Change::Set))
    }
}
