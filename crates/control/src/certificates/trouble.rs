//! What does an error of a CA mean for the next try?

use std::collections::BTreeSet;

use instant_acme::{Error, Problem};
use nigh_proto::zone::DnsName;

use super::{
    issuers::Issuer,
    limits::{SetbackKind, Trouble},
};
use crate::store::StoreError;

const PREFIX: &str = "urn:ietf:params:acme:error:";

/// Why there is no certificate.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Remembered, and tried again later. `is_counted`: the CA counts it as a failed validation.
    Troubles { troubles: Vec<Trouble>, is_counted: bool },
    /// Control's own; nothing was learnt about anybody.
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Store(error)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Store(error) => error.fmt(f),
            Fault::Troubles { troubles, .. } => {
                let shown = troubles.iter().take(3).map(|trouble| match trouble.subject.as_str() {
                    "" => trouble.detail.clone(),
                    name => format!("{name}: {}", trouble.detail),
                });
                let more = troubles.len().saturating_sub(3);
                f.write_str(&shown.collect::<Vec<_>>().join("; "))?;
                if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
            }
        }
    }
}

/// Something about the CA as a whole that only its operator, or time, mends.
pub(crate) fn of_whole_ca(detail: String) -> Fault {
    let trouble =
        Trouble { subject: String::new(), kind: SetbackKind::Down, retry_after_ms: None, detail };
    Fault::Troubles { troubles: vec![trouble], is_counted: false }
}

impl Fault {
    /// The same trouble with each of `names`, of which the CA knows nothing yet.
    pub(crate) fn of_names(
        names: impl IntoIterator<Item = (DnsName, String)>,
        kind: SetbackKind,
    ) -> Self {
        let trouble = |(name, detail): (DnsName, String)| Trouble {
            subject: name.to_string(),
            kind,
            retry_after_ms: None,
            detail,
        };
        let troubles = names.into_iter().map(trouble).collect();
        Fault::Troubles { troubles, is_counted: false }
    }

    /// This fleet was not ready; neither the names nor the CA are to blame.
    pub(crate) fn of_id(id: &str, detail: String) -> Self {
        let (subject, kind) = (id.to_owned(), SetbackKind::Down);
        let trouble = Trouble { subject, kind, retry_after_ms: None, detail };
        Fault::Troubles { troubles: vec![trouble], is_counted: false }
    }

    /// Whether it was decided about names: an order for them cannot go on.
    pub(crate) fn is_about_names(&self) -> bool {
        match self {
            Fault::Troubles { troubles, .. } => troubles.iter().any(Trouble::is_about_name),
            Fault::Store(_) => false,
        }
    }

    /// What an answer of the CA, or none, means; it was about `names`.
    pub(crate) fn of_ca(error: &Error, issuer: &Issuer, names: &[DnsName]) -> Self {
        let retry_after_ms = issuer.calls.take_retry_after_ms();
        let troubles = match error {
            Error::Api(problem) => of_problem(problem, names, retry_after_ms),
            error => {
                let detail = format!("{} cannot be used: {}", issuer.url(), causes(error));
                vec![whole(SetbackKind::Down, retry_after_ms, detail)]
            }
        };
        Fault::Troubles { troubles, is_counted: false }
    }
}

fn causes(error: &Error) -> String {
    match error {
        Error::Other(error) => nigh_daemon::logging::causes(error.as_ref()).to_string(),
        error => error.to_string(),
    }
}

fn whole(kind: SetbackKind, retry_after_ms: Option<i64>, detail: String) -> Trouble {
    Trouble { subject: String::new(), kind, retry_after_ms, detail }
}

/// What kind of setback a type of problem is, and whether it is about the names or the CA.
fn kind_of(problem_type: Option<&str>) -> (SetbackKind, bool) {
    let name = problem_type.and_then(|kind| kind.strip_prefix(PREFIX)).unwrap_or_default();
    match name {
        "rateLimited" | "userActionRequired" => (SetbackKind::Limited, false),
        "rejectedIdentifier" | "unsupportedIdentifier" | "caa" => (SetbackKind::Refused, true),
        "externalAccountRequired" | "badCSR" | "badPublicKey" => (SetbackKind::Refused, false),
        "unauthorized" | "dns" | "connection" | "incorrectResponse" | "tls" => {
            (SetbackKind::Failed, true)
        }
        _ => (SetbackKind::Down, false),
    }
}

/// A problem about each name that it speaks of, else about all of them, else about the CA.
pub(crate) fn of_problem(
    problem: &Problem,
    names: &[DnsName],
    retry_after_ms: Option<i64>,
) -> Vec<Trouble> {
    let named = problem.subproblems.iter().filter_map(|sub| {
        let identifier = sub.identifier.as_ref()?.authorized(false).to_string();
        let bare = |name: &&DnsName| name.as_str().trim_start_matches("*.") == identifier;
        let name = names.iter().find(bare)?;
        let (kind, is_about_names) = kind_of(sub.r#type.as_deref());
        is_about_names.then(|| Trouble {
            subject: name.to_string(),
            kind,
            retry_after_ms: None,
            detail: sub.detail.clone().unwrap_or_else(|| problem.to_string()),
        })
    });
    let named: Vec<Trouble> = named.collect();
    if !named.is_empty() {
        return named;
    }
    let (kind, is_about_names) = kind_of(problem.r#type.as_deref());
    let detail = match (&problem.detail, &problem.r#type) {
        (Some(detail), Some(kind)) => {
            format!("the CA says: {detail} ({})", kind.strip_prefix(PREFIX).unwrap_or(kind))
        }
        _ => format!("the CA says: {problem}"),
    };
    if !is_about_names || names.is_empty() {
        return vec![whole(kind, retry_after_ms, detail)];
    }
    let spoken_of = spoken_of(names, problem.detail.as_deref().unwrap_or_default());
    let (kind, detail) = match spoken_of.len() {
        // It means one of several and does not say which: each is asked for alone, and soon, or one
        // would hold back the others for as long as itself.
        0 if names.len() > 1 => (
            SetbackKind::Failed,
            format!("of {} names asked for together, {detail}; each is tried alone", names.len()),
        ),
        _ => (kind, detail),
    };
    let meant = if spoken_of.is_empty() { names.iter().collect() } else { spoken_of };
    let about = |name: &DnsName| Trouble {
        subject: name.to_string(),
        kind,
        retry_after_ms,
        detail: detail.clone(),
    };
    meant.into_iter().map(about).collect()
}

/// The names that stand in `text` as a whole: `b.test` does not stand in `a.b.test`.
fn spoken_of<'n>(names: &'n [DnsName], text: &str) -> Vec<&'n DnsName> {
    let text = text.to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
    // A sentence may end with a name.
    let words = text.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.'));
    let words: BTreeSet<&str> = words.collect();
    names.iter().filter(|name| words.contains(name.as_str())).collect()
}

/// Whether the CA only wants the same with another nonce (RFC 8555, section 6.5).
pub(crate) fn is_bad_nonce(error: &Error) -> bool {
    has_type(error, "badNonce")
}

/// Whether the CA does not know the account any more.
pub(crate) fn is_account_gone(error: &Error) -> bool {
    has_type(error, "accountDoesNotExist")
}

fn has_type(error: &Error, name: &str) -> bool {
    matches!(error, Error::Api(problem)
        if problem.r#type.as_deref().and_then(|kind| kind.strip_prefix(PREFIX)) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(json: serde_json::Value) -> Vec<(String, SetbackKind)> {
        let names = ["a.test", "*.b.test"].map(|name| name.parse().unwrap());
        let problem: Problem = serde_json::from_value(json).unwrap();
        let troubles = of_problem(&problem, &names, None);
        troubles.into_iter().map(|trouble| (trouble.subject, trouble.kind)).collect()
    }

    #[test]
    fn a_refused_name_is_told_from_the_others() {
        let found = troubles(serde_json::json!({
            "type": format!("{PREFIX}malformed"),
            "subproblems": [
                { "type": format!("{PREFIX}rejectedIdentifier"), "detail": "no",
                  "identifier": { "type": "dns", "value": "b.test" } },
                { "type": format!("{PREFIX}malformed"), "detail": "hm",
                  "identifier": { "type": "dns", "value": "a.test" } },
            ]
        }));
        assert_eq!(found, [("*.b.test".to_owned(), SetbackKind::Refused)]);
    }

    #[test]
    fn one_name_of_many_is_found_in_what_the_ca_says() {
        let said = |detail: &str| {
            troubles(serde_json::json!({
                "type": format!("{PREFIX}rejectedIdentifier"), "detail": detail,
            }))
        };
        let only = |name: &str| vec![(name.to_owned(), SetbackKind::Refused)];
        assert_eq!(said(r#"Cannot issue for "a.test": forbidden by policy"#), only("a.test"));
        assert_eq!(said("policy forbids *.B.test."), only("*.b.test"));
        let both = |kind| ["a.test", "*.b.test"].map(|name| (name.to_owned(), kind)).to_vec();
        assert_eq!(said("neither a.test nor *.b.test"), both(SetbackKind::Refused));
        // None of these is a name that was asked for: each is tried alone, and soon.
        for silent in ["forbidden by policy", "not x.a.test", "not a.test.example", "b.test"] {
            assert_eq!(said(silent), both(SetbackKind::Failed), "{silent}");
        }
    }

    #[test]
    fn what_is_not_about_names_is_about_the_ca() {
        for (kind, expected) in [
            ("rateLimited", SetbackKind::Limited),
            ("serverInternal", SetbackKind::Down),
            ("externalAccountRequired", SetbackKind::Refused),
            ("somethingNew", SetbackKind::Down),
        ] {
            let found = troubles(serde_json::json!({ "type": format!("{PREFIX}{kind}") }));
            assert_eq!(found, [(String::new(), expected)], "{kind}");
        }
        let found = troubles(serde_json::json!({ "type": format!("{PREFIX}caa") }));
        assert_eq!(found.len(), 2, "it is about the names, and nobody knows which");
    }
}
