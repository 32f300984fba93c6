//! What could not be done, why, and what to try?

use std::error::Error;

use nigh_client::{CallError, ConfigError};
use serde::Serialize;

use crate::exit::Exit;

/// Why a command failed, for people and for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// What could not be done.
    pub(crate) what: Box<str>,
    /// Why: the nearest cause first.
    pub(crate) why: Vec<String>,
    /// What to try next.
    #[serde(rename = "try")]
    pub(crate) hints: Vec<String>,
    /// A stable word for programs, when there is one.
    pub(crate) code: Option<Box<str>>,
    /// Every place that is wrong, when there are several.
    pub(crate) details: Vec<String>,
}

/// How many details people are shown.
pub(crate) const DETAILS_SHOWN: usize = 10;

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into().into(),
            why: Vec::new(),
            hints: Vec::new(),
            code: None,
            details: Vec::new(),
        }
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Adds an error and all its causes.
    pub(crate) fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat their cause in their own text.
            if !self.why.iter().any(|said| said.contains(&text)) {
                self.why.push(text);
            }
            next = error.source();
        }
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into().into());
        self
    }

    pub(crate) fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// A call that control refused, or that never reached it. `what` could not be done.
    pub(crate) fn of_call(what: impl Into<String>, error: &CallError) -> Self {
        match error {
            CallError::Refused(problem) => {
                let failure = Self::new(Exit::of_status(problem.status), what)
                    .why(problem.detail.clone())
                    .code(problem.code.clone());
                // One that says the same again is left out.
                let fields = problem.errors.iter().filter(|field| field.detail != problem.detail);
                let fields = fields.map(|field| format!("{}: {}", field.pointer, field.detail));
                let failure = failure.details(fields);
                match problem.status {
                    401 => {
                        failure.hint("set NIGH_TOKEN or NIGH_TOKEN_FILE to a token of this control")
                    }
                    403 => {
                        failure.hint("ask for a token with the right: nigh token create --scope …")
                    }
                    _ => match of_code(&problem.code) {
                        Some(hint) => failure.hint(hint),
                        None => failure,
                    },
                }
            }
            CallError::Unreachable { api_url, .. } if error.is_untrusted() => {
                Self::new(Exit::Unreachable, what)
                    .why(format!("the certificate of {api_url} is not trusted"))
                    .why(root_cause(error))
                    .hint("set NIGH_CA_FILE to control's CA (ca.pem in its state folder)")
            }
            CallError::Unreachable { .. } => Self::new(Exit::Unreachable, what)
                .why(error.to_string())
                .why(root_cause(error))
                .hint("check that control runs and that NIGH_API_URL is its address")
                .code("unreachable"),
            CallError::Foreign { .. } => Self::new(Exit::Failure, what)
                .caused_by(error)
                .hint("check NIGH_API_URL: is that control's API port?"),
            CallError::Body { .. } | CallError::TooLarge { .. } => Self::new(Exit::Failure, what)
                .caused_by(error)
                .hint("are nigh here and control of the same version?"),
        }
    }

    pub(crate) fn of_config(error: &ConfigError) -> Self {
        Self::new(Exit::Usage, "control cannot be called")
            .caused_by(error)
            .hint("check NIGH_API_URL and NIGH_CA_FILE")
    }
}

/// What to try after a refusal of control, where its own words do not say it.
fn of_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "site_taken" => {
            "see which there are: nigh site list; push to it: nigh push DIR --site NAME"
        }
        "host_taken" => {
            "find its site with nigh site list --json, then: nigh host rm HOST --site OTHER"
        }
        "host_unknown" | "host_default" => "see which there are: nigh host list --site NAME",
        "release_active" => "make another one live first: nigh rollback, or nigh release activate",
        "release_ambiguous" => "give more of the id: nigh release list",
        "token_unknown" | "last_admin" => "see which there are: nigh token list",
        "name_invalid" => "check the spelling; lists show names and ids as they are written",
        "store_full" => "make room on control's disk: nigh release prune, or a larger disk",
        "internal" => "look into control's log; the request id is in it",
        _ => return None,
    })
}

/// The last cause: between it and the error are only the layers that passed it on.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Says what could not be done when a call fails.
pub(crate) trait CallContext<T> {
    /// `what` is the whole first line of the message.
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> CallContext<T> for Result<T, CallError> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::of_call(what(), &error))
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::api::Problem;

    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_its_reason() {
        let problem = Problem {
            status: 409,
            detail: "docs is taken".to_owned(),
            code: "site_taken".to_owned(),
            ..Problem::default()
        };
        let failure =
            Failure::of_call("site docs was not made", &CallError::Refused(Box::new(problem)));
        assert_eq!(failure.exit, Exit::Conflict);
        assert_eq!(failure.code.as_deref(), Some("site_taken"));
        assert_eq!(failure.why, ["docs is taken"]);
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] std::io::Error);
        let failure =
            Failure::new(Exit::Failure, "x").caused_by(&Outer(std::io::Error::other("inner")));
        assert_eq!(failure.why, ["outer: inner"]);
    }
}
