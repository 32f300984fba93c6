//! Is an edge up, given how its probes went?

/// How many probes in a row change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub failures: u32,
    pub successes: u32,
}

/// Up or down, and what speaks against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub is_up: bool,
    /// Probes in a row that say otherwise.
    against: u32,
}

impl Default for Verdict {
    /// Up, until enough probes say otherwise: missing data is not bad data.
    fn default() -> Self {
        Self { is_up: true, against: 0 }
    }
}

impl Verdict {
    /// Takes in one probe. Whether the verdict has changed.
    pub(crate) fn observe(&mut self, is_success: bool, policy: Policy) -> bool {
        if is_success == self.is_up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if self.is_up { policy.failures } else { policy.successes };
        let is_changed = self.against >= enough;
        if is_changed {
            *self = Self { is_up: is_success, against: 0 };
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_probes_in_a_row_change_the_verdict_and_fewer_do_not() {
        let policy = Policy { failures: 2, successes: 3 };
        let mut verdict = Verdict::default();
        for (is_success, is_up) in [
            (false, true),
            (true, true),
            (false, true),
            (false, false),
            (true, false),
            (true, false),
            (false, false),
            (true, false),
            (true, false),
            (true, true),
        ] {
            let before = verdict.is_up;
            let is_changed = verdict.observe(is_success, policy);
            assert_eq!((verdict.is_up, is_changed), (is_up, before != is_up));
        }
    }
}
