//! What does an exit code mean?

use std::process::ExitCode;

/// How a command ended. The numbers are part of the public interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failure,
    Usage,
    Auth,
    NotFound,
    Conflict,
    Invalid,
    Partial,
    Timeout,
    Unreachable,
    Interrupted,
}

impl Exit {
    pub(crate) const ALL: [Exit; 11] = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Auth,
        Exit::NotFound,
        Exit::Conflict,
        Exit::Invalid,
        Exit::Partial,
        Exit::Timeout,
        Exit::Unreachable,
        Exit::Interrupted,
    ];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Auth => 3,
            Exit::NotFound => 4,
            Exit::Conflict => 5,
            Exit::Invalid => 6,
            Exit::Partial => 7,
            Exit::Timeout => 8,
            Exit::Unreachable => 9,
            Exit::Interrupted => 130,
        }
    }

    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failure => "failed for a reason that has no code of its own",
            Exit::Usage => "the command was typed wrong; nothing was done",
            Exit::Auth => "no token, a wrong or expired one, or one without the right",
            Exit::NotFound => "a site, release, host or machine of that name is not there",
            Exit::Conflict => "taken, locked, or not possible in the present state",
            Exit::Invalid => "the input breaks a rule or a limit; the message names each place",
            Exit::Partial => "the release is live, and some edges lag behind",
            Exit::Timeout => {
                "not finished in time; work goes on, the message says how to follow it"
            }
            Exit::Unreachable => "control cannot be reached",
            Exit::Interrupted => "interrupted by Ctrl-C; repeating the command resumes",
        }
    }

    /// The code for a refusal by control with this HTTP status.
    pub(crate) const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Exit::Auth,
            404 => Exit::NotFound,
            409 | 412 | 423 | 428 => Exit::Conflict,
            400 | 413 | 415 | 422 => Exit::Invalid,
            _ => Exit::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_scripts_rely_on() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130]);
    }

    #[test]
    fn refusals_have_the_code_of_their_status() {
        for (status, exit) in [
            (401, Exit::Auth),
            (403, Exit::Auth),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (422, Exit::Invalid),
            (413, Exit::Invalid),
            (429, Exit::Failure),
            (507, Exit::Failure),
        ] {
            assert_eq!(Exit::of_status(status), exit, "{status}");
        }
    }
}
