//! Is what somebody wants to change still what they have seen?
//!
//! An entity tag of control has two parts: a word that changes whenever somebody edits the thing,
//! and a hash of the whole answer, which also changes when its counters do. `If-None-Match`
//! compares both. `If-Match` compares the first: an edit fails when another was made meanwhile,
//! and not because a release went live or a machine reported its load.
//!
//! The word of a site says after a `+` which release is live. Edits do not look at it; a rollback,
//! whose effect depends on it, does.

use nigh_proto::ReleaseId;

use super::AppError;

/// The word of a site: its edits, and the release that is live.
pub(crate) fn with_live(edits: &str, live: Option<&ReleaseId>) -> String {
    format!("{edits}+{}", live.map_or("", ReleaseId::as_str))
}

/// What `If-Match` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing.
    #[default]
    Anything,
    /// `*`: whatever there is.
    Something,
    /// One of these entity tags.
    Tags(Vec<String>),
}

impl Expected {
    /// Refuses when a thing whose edits are `edits` was not expected.
    pub(crate) fn allow(&self, edits: &str) -> Result<(), AppError> {
        self.compare(|word| word.split('+').next() == Some(edits))
    }

    /// Refuses when a site was not expected with these edits and this live release.
    pub(crate) fn allow_live(&self, edits: &str, live: Option<&ReleaseId>) -> Result<(), AppError> {
        self.compare(|word| word == with_live(edits, live))
    }

    fn compare(&self, is_same: impl Fn(&str) -> bool) -> Result<(), AppError> {
        let Expected::Tags(tags) = self else { return Ok(()) };
        let mut words = tags.iter().filter_map(|tag| tag.split('-').next());
        if words.any(is_same) { Ok(()) } else { Err(AppError::EditedMeanwhile) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_compared_and_the_rest_is_not() {
        let tags = Expected::Tags(vec!["a3-ffff".to_owned(), "b1-0000".to_owned()]);
        assert!(tags.allow("a3").is_ok() && tags.allow("b1").is_ok());
        assert!(tags.allow("a4").is_err() && tags.allow("a").is_err());
        assert!(Expected::Something.allow("x").is_ok());
    }

    #[test]
    fn what_is_live_is_compared_where_it_matters() {
        let live = ReleaseId::new(1, [9; 10]);
        let tags = Expected::Tags(vec![format!("{}-ffff", with_live("a3", Some(&live)))]);
        assert!(tags.allow("a3").is_ok() && tags.allow_live("a3", Some(&live)).is_ok());
        assert!(
            tags.allow_live("a3", None).is_err() && tags.allow_live("a4", Some(&live)).is_err()
        );
        let older = Expected::Tags(vec!["a3-ffff".to_owned()]);
        assert!(older.allow("a3").is_ok() && older.allow_live("a3", None).is_err());
    }
}
