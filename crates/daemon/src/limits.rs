//! How many files and sockets may this process have open?

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns what is now allowed.
///
/// Shells start programs with a soft limit of 1024 for the sake of `select`, which nigh does not
/// use. `None` means that there is no limit. A refusal is logged and the old limit is returned:
/// the role still works, with fewer visitors at once.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays at {:?}", limit.current);
            limit.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_limit_afterwards() {
        let allowed = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, allowed);
        assert_eq!(getrlimit(Resource::Nofile).maximum, allowed);
    }
}
