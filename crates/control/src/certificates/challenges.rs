//! What does a CA want to see, and how do machines come to show it?
//!
//! Names in zones of ours, and all wildcards, are shown by a TXT record of nigh's own DNS; hosts whose
//! DNS is elsewhere by a file on the host itself. The answers are rows of the database and part of
//! the ordinary state: any machine gives them, whichever control asked for the certificate.

use instant_acme::{AuthorizationStatus, ChallengeStatus, ChallengeType, Order};
use nigh_proto::zone::DnsName;

use super::{account::with_nonces, issuers::Issuer, limits::SetbackKind, own_zone, trouble::Fault};
use crate::{
    app::App,
    random::random,
    store::{ChallengeKind, ChallengeRow},
};

/// How `name` is shown to be ours.
pub(crate) fn kind_for(name: &DnsName, zones: &[DnsName]) -> ChallengeKind {
    match own_zone(name, zones) {
        Some(_) => ChallengeKind::Dns,
        None => ChallengeKind::Http,
    }
}

impl ChallengeKind {
    /// What the CA and CAA records call it.
    pub(crate) const fn method(self) -> &'static str {
        match self {
            ChallengeKind::Dns => "dns-01",
            ChallengeKind::Http => "http-01",
        }
    }

    fn acme(self) -> ChallengeType {
        match self {
            ChallengeKind::Dns => ChallengeType::Dns01,
            ChallengeKind::Http => ChallengeType::Http01,
        }
    }
}

/// The answers to every challenge of the order that is still to be met.
pub(crate) async fn gather(
    order: &mut Order,
    id: &str,
    names: &[DnsName],
    zones: &[DnsName],
    issuer: &Issuer,
) -> Result<Vec<ChallengeRow>, Fault> {
    let of_ca = |error: &instant_acme::Error| Fault::of_ca(error, issuer, names);
    with_nonces!(fetch(order).await).map_err(|error| of_ca(&error))?;
    let mut rows = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(found) = authorizations.next().await {
        let mut authorization = found.map_err(|error| of_ca(&error))?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let wanted = authorization.identifier().to_string();
        let Ok(name) = wanted.parse::<DnsName>() else { continue };
        let kind = kind_for(&name, zones);
        let Some(challenge) = authorization.challenge(kind.acme()) else {
            let why = format!("the CA does not take {} for it", kind.method());
            return Err(Fault::of_names([(name, why)], SetbackKind::Refused));
        };
        let answer = challenge.key_authorization();
        rows.push(match kind {
            ChallengeKind::Dns => ChallengeRow {
                id: id.to_owned(),
                kind,
                name: txt_name(&name),
                token: String::new(),
                value: answer.dns_value(),
            },
            ChallengeKind::Http => ChallengeRow {
                id: id.to_owned(),
                kind,
                name,
                token: challenge.token.clone(),
                value: answer.as_str().to_owned(),
            },
        });
    }
    Ok(rows)
}

/// Has every authorization fetched; those that were are not fetched again.
async fn fetch(order: &mut Order) -> Result<(), instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(found) = authorizations.next().await {
        found?;
    }
    Ok(())
}

/// Tells the CA that every answer can be seen.
pub(crate) async fn tell(
    order: &mut Order,
    names: &[DnsName],
    zones: &[DnsName],
    issuer: &Issuer,
) -> Result<(), Fault> {
    let mut authorizations = order.authorizations();
    while let Some(found) = authorizations.next().await {
        let mut authorization = found.map_err(|error| Fault::of_ca(&error, issuer, names))?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let wanted = authorization.identifier().to_string();
        let Ok(name) = wanted.parse::<DnsName>() else { continue };
        let Some(mut challenge) = authorization.challenge(kind_for(&name, zones).acme()) else {
            continue;
        };
        // A restart may have come after it was told.
        if challenge.status == ChallengeStatus::Pending {
            let told = with_nonces!(challenge.set_ready().await);
            told.map_err(|error| Fault::of_ca(&error, issuer, &[name]))?;
        }
    }
    Ok(())
}

/// The names that the CA could not validate, and what it saw.
pub(crate) async fn failures(order: &mut Order) -> Vec<(DnsName, String)> {
    let mut failures = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if with_nonces!(authorization.refresh().await.map(drop)).is_err() {
            continue;
        }
        let Ok(name) = authorization.identifier().to_string().parse::<DnsName>() else { continue };
        let told = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if authorization.status == AuthorizationStatus::Invalid || told.is_some() {
            let seen = told.and_then(|problem| problem.detail.clone());
            let seen = seen.unwrap_or_else(|| "it did not say why".to_owned());
            failures.push((name, format!("the CA could not validate it: {seen}")));
        }
    }
    failures
}

/// `_acme-challenge.` before the name without its wildcard (RFC 8555, section 8.4).
pub(crate) fn txt_name(name: &DnsName) -> DnsName {
    let bare = name.as_str().trim_start_matches("*.");
    // A name so long that this one is none cannot be validated; the CA says so.
    format!("_acme-challenge.{bare}").parse().unwrap_or_else(|_| name.clone())
}

/// A question that only a machine of this fleet can answer, before a CA asks one.
pub(crate) fn rehearsal(id: &str, host: &DnsName) -> ChallengeRow {
    let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    ChallengeRow {
        id: id.to_owned(),
        kind: ChallengeKind::Http,
        name: host.clone(),
        token: format!("nigh-{}", hex(random())),
        value: hex(random()),
    }
}

/// Gives the answers to the machines. The revision at which they have them.
pub(crate) async fn show(app: &App, rows: &[ChallengeRow]) -> Result<u64, Fault> {
    let mut tx = app.store().begin().await?;
    for row in rows {
        tx.insert_challenge(row).await?;
    }
    let revision = tx.raise_revision().await?;
    tx.commit().await?;
    app.publish().await?;
    Ok(revision)
}

/// Takes the answers for certificate `id` back from the machines.
pub(crate) async fn hide(app: &App, id: &str) -> Result<(), Fault> {
    let mut tx = app.store().begin().await?;
    if !tx.delete_challenges(id).await? {
        return Ok(());
    }
    tx.raise_revision().await?;
    tx.commit().await?;
    app.publish().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_shown_at_the_name_below_it() {
        let name = txt_name(&"*.nigh.test".parse().unwrap());
        assert_eq!(name.as_str(), "_acme-challenge.nigh.test");
    }

    #[test]
    fn only_names_in_own_zones_are_shown_by_dns() {
        let zones = ["nigh.test".parse().unwrap()];
        let kind = |name: &str| kind_for(&name.parse().unwrap(), &zones);
        assert_eq!(kind("*.nigh.test"), ChallengeKind::Dns);
        assert_eq!(kind("www.far.example"), ChallengeKind::Http);
    }
}
