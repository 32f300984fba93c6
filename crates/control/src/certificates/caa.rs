//! May this CA issue for this name, as the domain's owner says?
//!
//! CAA records (RFC 8659): those of the name itself, else of the nearest parent that has any, decide.
//! `accounturi` and `validationmethods` (RFC 8657) are understood. A CA checks this as well, and
//! counts the refusal against its limits, which is why it is looked at here first.

use nigh_proto::zone::{Caa, DnsName};

/// Who wants to issue, and how the name is shown to be ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Issuer<'a> {
    /// What CAA records call the CA. None known: it is left to the CA.
    pub identities: &'a [String],
    pub account: Option<&'a str>,
    /// `dns-01` or `http-01`.
    pub method: &'a str,
}

/// Why the CA may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forbidden(pub String);

/// The names whose CAA records count, in order: the first that has any decides. Top-level domains
/// have none worth asking for.
pub(crate) fn climb(name: &DnsName) -> Vec<DnsName> {
    let mut rest = name.as_str().trim_start_matches("*.");
    let mut names = Vec::new();
    while rest.contains('.') {
        names.extend(rest.parse::<DnsName>());
        rest = rest.split_once('.').map_or("", |(_, parent)| parent);
    }
    names
}

/// What the records that decide about `name` say.
pub(crate) fn permits(
    name: &DnsName,
    records: &[Caa],
    issuer: Issuer<'_>,
) -> Result<(), Forbidden> {
    if issuer.identities.is_empty() {
        return Ok(());
    }
    let is = |record: &Caa, tag: &str| record.tag.eq_ignore_ascii_case(tag);
    let known = ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"];
    let strange = records
        .iter()
        .find(|record| record.flags & 128 != 0 && !known.iter().any(|tag| is(record, tag)));
    if let Some(record) = strange {
        let why =
            format!("the CAA records for {name} demand {:?}, which no CA may ignore", record.tag);
        return Err(Forbidden(why));
    }
    let is_wildcard = name.as_str().starts_with("*.");
    let wild: Vec<&Caa> = records.iter().filter(|record| is(record, "issuewild")).collect();
    let plain: Vec<&Caa> = records.iter().filter(|record| is(record, "issue")).collect();
    let deciding = if is_wildcard && !wild.is_empty() { wild } else { plain };
    if deciding.is_empty() || deciding.iter().any(|record| allows(&record.value, issuer)) {
        return Ok(());
    }
    let values: Vec<&str> = deciding.iter().map(|record| record.value.as_str()).take(5).collect();
    let (who, values) = (issuer.identities.join(", "), values.join("; "));
    Err(Forbidden(format!(
        "the CAA records for {name} allow {values:?} and not {who} by {}; change them, or choose another CA",
        issuer.method
    )))
}

/// Whether the value of one `issue` or `issuewild` lets the CA issue.
fn allows(value: &str, issuer: Issuer<'_>) -> bool {
    let mut parts = value.split(';').map(str::trim);
    let domain = parts.next().unwrap_or_default();
    if !issuer.identities.iter().any(|own| own.eq_ignore_ascii_case(domain)) {
        return false;
    }
    parts.filter_map(|part| part.split_once('=')).all(|(tag, value)| {
        let value = value.trim();
        match tag.trim().to_ascii_lowercase().as_str() {
            // An account that is not made yet has no URL that could be meant.
            "accounturi" => issuer.account == Some(value),
            "validationmethods" => {
                value.split(',').any(|method| method.trim().eq_ignore_ascii_case(issuer.method))
            }
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caa(flags: u8, tag: &str, value: &str) -> Caa {
        Caa { flags, tag: tag.to_owned(), value: value.to_owned() }
    }

    fn is_permitted(name: &str, records: &[Caa]) -> bool {
        let identities = ["ca.test".to_owned()];
        let account = Some("https://ca.test/acct/1");
        let issuer = Issuer { identities: &identities, account, method: "dns-01" };
        permits(&name.parse().unwrap(), records, issuer).is_ok()
    }

    #[test]
    fn the_name_comes_first_and_then_its_parents() {
        let climbed = climb(&"*.a.b.example.test".parse().unwrap());
        let texts: Vec<&str> = climbed.iter().map(DnsName::as_str).collect();
        assert_eq!(texts, ["a.b.example.test", "b.example.test", "example.test"]);
    }

    #[test]
    fn a_ca_issues_where_it_is_named_or_nobody_is() {
        assert!(is_permitted("a.test", &[]));
        assert!(is_permitted("a.test", &[caa(0, "iodef", "mailto:a@b")]));
        assert!(is_permitted(
            "a.test",
            &[caa(0, "issue", "other.test"), caa(0, "issue", "CA.test")]
        ));
        assert!(!is_permitted("a.test", &[caa(0, "issue", "other.test")]));
        assert!(!is_permitted("a.test", &[caa(0, "issue", ";")]));
        assert!(!is_permitted("a.test", &[caa(128, "future", "x")]));
        assert!(is_permitted("a.test", &[caa(0, "future", "x")]));
    }

    #[test]
    fn wildcards_have_records_of_their_own() {
        let records = [caa(0, "issue", "ca.test"), caa(0, "issuewild", ";")];
        assert!(is_permitted("a.test", &records));
        assert!(!is_permitted("*.a.test", &records));
        assert!(is_permitted("*.a.test", &records[..1]));
        assert!(is_permitted("a.test", &[caa(0, "issuewild", ";")]));
    }

    #[test]
    fn parameters_narrow_what_is_allowed() {
        for (value, is_allowed) in [
            ("ca.test; validationmethods=http-01,dns-01", true),
            ("ca.test; validationmethods=http-01", false),
            ("ca.test; accounturi=https://ca.test/acct/1", true),
            ("ca.test; accounturi=https://ca.test/acct/2", false),
            ("ca.test; policy=ev", true),
        ] {
            assert_eq!(is_permitted("a.test", &[caa(0, "issue", value)]), is_allowed, "{value}");
        }
    }

    #[test]
    fn a_ca_whose_name_is_not_known_decides_for_itself() {
        let issuer = Issuer { identities: &[], account: None, method: "dns-01" };
        let name = "a.test".parse().unwrap();
        assert_eq!(permits(&name, &[caa(0, "issue", ";")], issuer), Ok(()));
    }

    proptest! {
        #[test]
        fn any_records_give_an_answer(tag in ".{0,20}", value in ".{0,80}", flags in any::<u8>()) {
            let _ = is_permitted("*.a.test", &[caa(flags, &tag, &value)]);
        }
    }
}
