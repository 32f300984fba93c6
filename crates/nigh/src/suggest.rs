//! Which known name was probably meant?

/// The one of `known` that is nearest to `name`, unless it is too far away to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|candidate| {
        (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate)
    });
    let best = scored.max_by(|(left, _), (right, _)| left.total_cmp(right));
    best.filter(|(score, candidate)| *score > 0.8 && *candidate != name).map(|(_, found)| found)
}

/// `did you mean docs?`
pub(crate) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, known).map(|found| format!("did you mean {found}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_a_stranger_is_not() {
        let known = ["state_dir", "listen", "documents"];
        assert_eq!(nearest("statedir", known), Some("state_dir"));
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
