//! Is what somebody wants to change still what they have seen?
//!
//! An entity tag of control has two parts: a word that changes whenever somebody edits the thing,
//! and a hash of the whole answer, which also changes when its counters do. `If-None-Match`
//! compares both. `If-Match` compares the first: an edit fails when another was made meanwhile,
//! and not because a release went live or a machine reported its load.

use super::AppError;

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
        let Expected::Tags(tags) = self else { return Ok(()) };
        let is_same = |tag: &String| tag.split('-').next() == Some(edits);
        if tags.iter().any(is_same) { Ok(()) } else { Err(AppError::EditedMeanwhile) }
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
}
