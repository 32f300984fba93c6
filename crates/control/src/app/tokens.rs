//! Who may call the API?
//!
//! A token is 32 random bytes in hex behind a prefix that secret scanners know. Only BLAKE3 of the
//! bytes is kept: random bytes need no slow hash.

use std::{fmt, str::FromStr};

use nigh_proto::{
    TokenId,
    access::{Scope, Verbs},
    api::{Change, EventKind, NewToken, TokenChange, TokenCreated, TokenView},
};
use serde_json::json;

use super::{App, AppError, Expected, begin::checked_duration};
use crate::{
    random::random,
    store::{Deed, TokenRow},
};

/// The longest name of a token, in characters.
const NAME_MAX: usize = 100;
const SITES_MAX: usize = 100;

/// The secret half of a token. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    prefix: &'static str,
    bytes: [u8; 32],
}

/// For people, for programs, and for machines that join.
const PREFIXES: [&str; 3] = ["nigh_pat_", "nigh_ci_", "nigh_join_"];

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token")]
pub(crate) struct InvalidSecret;

impl Secret {
    pub(crate) fn person() -> Self {
        Secret { prefix: PREFIXES[0], bytes: random() }
    }

    pub(crate) fn program() -> Self {
        Secret { prefix: PREFIXES[1], bytes: random() }
    }

    pub(crate) fn join() -> Self {
        Secret { prefix: PREFIXES[2], bytes: random() }
    }

    /// Whether it is for joining the fleet and not for the API.
    pub(crate) fn is_join(&self) -> bool {
        self.prefix == PREFIXES[2]
    }

    /// What the database keeps.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.bytes).as_bytes()
    }

    /// The text, to be shown once.
    pub(crate) fn reveal(&self) -> String {
        let mut text = String::from(self.prefix);
        for byte in self.bytes {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        // Behind the dot of a join token is the CA's fingerprint, which is for the machine alone.
        let text = text.split_once('.').map_or(text, |(secret, _)| secret);
        let (prefix, digits) = PREFIXES
            .into_iter()
            .find_map(|prefix| Some((prefix, text.strip_prefix(prefix)?)))
            .ok_or(InvalidSecret)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 64 || !digits.bytes().all(is_hex) {
            return Err(InvalidSecret);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16)
                .map_err(|_| InvalidSecret)?;
        }
        Ok(Secret { prefix, bytes })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.prefix)
    }
}

impl App {
    /// Makes a token on behalf of whoever has `maker`; nobody can make one that may do more than
    /// their own, at more sites or for longer.
    pub(crate) async fn create_token(
        &self,
        new: NewToken,
        maker: &TokenRow,
    ) -> Result<TokenCreated, AppError> {
        let now = self.now();
        let expires_at = new
            .expires_ms
            .map(|ms| checked_duration("expires_ms", ms).map(|ms| now.plus_ms(ms)))
            .transpose()?;
        let is_program = new.scope != Some(Scope::Admin) && !new.sites.is_empty();
        let secret = if is_program { Secret::program() } else { Secret::person() };
        let row = TokenRow {
            id: TokenId::new(self.unix_ms(), random()),
            hash: secret.hash(),
            name: new.name,
            scope: new.scope,
            more: new.verbs,
            sites: new.sites,
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        check(&row)?;
        if let Some(excess) = excess(&row, maker) {
            return Err(AppError::TokenStronger(excess));
        }
        for site in &row.sites {
            self.require_site(site).await?;
        }
        let mut tx = self.store().begin().await?;
        tx.insert_token(&row).await?;
        let data = json!({ "name": row.name, "verbs": row.verbs(), "sites": row.sites });
        self.record(&mut tx, EventKind::TokenCreated, None, row.id.as_str(), data).await?;
        tx.audit(now, deed("token.create", &row)).await?;
        tx.commit().await?;
        self.ring_events().await?;
        tracing::info!(token.id = %row.id, "token {} was created", row.id);
        Ok(TokenCreated { secret: secret.reveal(), token: self.token_view(row) })
    }

    /// Changes a token on behalf of whoever has `asker`: their own, or one that is not stronger. It
    /// may only lose what it may do, and lasts no longer than theirs.
    pub(crate) async fn change_token(
        &self,
        id: &TokenId,
        change: TokenChange,
        asker: &TokenRow,
        expected: &Expected,
    ) -> Result<TokenRow, AppError> {
        // Whoever may not see it is told nothing of it.
        self.require_token(id, asker).await?;
        let now = self.now();
        let mut tx = self.store().begin().await?;
        let before = tx.token(id).await?.ok_or(AppError::TokenUnknown)?;
        if before.id != asker.id
            && let Some(excess) = may_more(&before, asker)
        {
            return Err(AppError::TokenStronger(excess));
        }
        let after = changed(&before, change, now)?;
        check(&after)?;
        if let Some((field, why)) = widening(&after, &before) {
            return Err(AppError::TokenWider { field, why });
        }
        if after.expires_at != before.expires_at
            && let Some(excess) = excess(&after, asker)
        {
            return Err(AppError::TokenStronger(excess));
        }
        for site in after.sites.iter().filter(|site| !before.sites.contains(site)) {
            if tx.site(site).await?.is_none() {
                return Err(AppError::SiteUnknown(site.clone()));
            }
        }
        expected.allow(&before.edits())?;
        if after == before {
            return Ok(before);
        }
        let admins = tx.admins_total(now).await?;
        tx.change_token(&after).await?;
        require_door(admins, tx.admins_total(now).await?)?;
        let data = json!({ "name": after.name, "verbs": after.verbs(), "sites": after.sites });
        self.record(&mut tx, EventKind::TokenChanged, None, id.as_str(), data).await?;
        tx.audit(now, deed("token.change", &after)).await?;
        tx.commit().await?;
        self.forget_tokens();
        self.ring_events().await?;
        tracing::info!(token.id = %id, "token {id} was changed");
        Ok(after)
    }

    /// The token of this id, for whoever may see it: its own, or one that is not stronger.
    pub(crate) async fn require_token(
        &self,
        id: &TokenId,
        asker: &TokenRow,
    ) -> Result<TokenRow, AppError> {
        let row = self.store().token(id).await?;
        let row = row.filter(|row| asker.sites.is_empty() || is_within(row, asker));
        row.ok_or(AppError::TokenUnknown)
    }

    /// At most `limit` tokens after the id `after`, oldest first, of those that `asker` may see.
    pub(crate) async fn tokens_seen_by(
        &self,
        asker: &TokenRow,
        after: &str,
        name: &str,
        limit: u32,
    ) -> Result<Vec<TokenRow>, AppError> {
        let (mut seen, mut after) = (Vec::new(), after.to_owned());
        loop {
            let rows = self.store().tokens(&after, name, limit).await?;
            let is_last = rows.len() < limit as usize;
            if let Some(last) = rows.last() {
                after = last.id.to_string();
            }
            seen.extend(rows.into_iter().filter(|row| is_within(row, asker)));
            if is_last || seen.len() >= limit as usize {
                seen.truncate(limit as usize);
                return Ok(seen);
            }
        }
    }

    /// Revokes a token on behalf of whoever has `asker`: their own, or one that is not stronger.
    pub(crate) async fn delete_token(
        &self,
        id: &TokenId,
        asker: &TokenRow,
        expected: &Expected,
    ) -> Result<(), AppError> {
        self.require_token(id, asker).await?;
        let mut tx = self.store().begin().await?;
        let row = tx.token(id).await?.ok_or(AppError::TokenUnknown)?;
        if row.id != asker.id
            && let Some(excess) = may_more(&row, asker)
        {
            return Err(AppError::TokenStronger(excess));
        }
        expected.allow(&row.edits())?;
        let admins = tx.admins_total(self.now()).await?;
        if !tx.delete_token(id).await? {
            return Err(AppError::TokenUnknown);
        }
        require_door(admins, tx.admins_total(self.now()).await?)?;
        self.record(&mut tx, EventKind::TokenRevoked, None, id.as_str(), json!({})).await?;
        tx.audit(self.now(), deed("token.revoke", &row)).await?;
        tx.commit().await?;
        self.forget_tokens();
        self.ring_events().await?;
        tracing::info!(token.id = %id, "token {id} was revoked");
        Ok(())
    }

    /// Whether a token that was valid still is, for the same things.
    pub(crate) async fn is_valid(&self, row: &TokenRow) -> Result<bool, AppError> {
        let now = self.now();
        let current = self.store().token_by_hash(&row.hash).await?;
        Ok(current.is_some_and(|current| {
            let is_same = current.verbs() == row.verbs() && current.sites == row.sites;
            is_same && current.expires_at.is_none_or(|expires_at| expires_at > now)
        }))
    }

    /// A token, without its secret.
    pub(crate) fn token_view(&self, row: TokenRow) -> TokenView {
        TokenView {
            last_used_at: self.last_use(&row),
            verbs: row.verbs(),
            id: row.id,
            name: row.name,
            scope: row.scope,
            sites: row.sites,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

impl TokenRow {
    /// What `If-Match` is compared with: another with every edit.
    pub(crate) fn edits(&self) -> String {
        let expires_at = self.expires_at.map(nigh_proto::Timestamp::unix_ms);
        let edited = json!([self.name, self.scope, self.more, self.sites, expires_at]);
        blake3::hash(edited.to_string().as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Whether a token can be like this at all.
fn check(row: &TokenRow) -> Result<(), AppError> {
    let length = row.name.chars().count();
    if !(1..=NAME_MAX).contains(&length) || row.name.chars().any(char::is_control) {
        return Err(AppError::Text { field: "name", length, max: NAME_MAX });
    }
    if row.sites.len() > SITES_MAX {
        let (what, field) = ("sites of one token", Some("sites"));
        let (total, max) = (row.sites.len() as u64, SITES_MAX as u64);
        return Err(AppError::TooMany { what, field, total, max });
    }
    if row.scope.is_none() && row.more.is_empty() {
        return Err(AppError::TokenPowerless);
    }
    Ok(())
}

/// The token after a change.
fn changed(
    before: &TokenRow,
    change: TokenChange,
    now: nigh_proto::Timestamp,
) -> Result<TokenRow, AppError> {
    let expires_at = match change.expires_ms {
        Change::None => before.expires_at,
        Change::Unset => None,
        Change::Set(ms) => Some(now.plus_ms(checked_duration("expires_ms", ms)?)),
    };
    Ok(TokenRow {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        scope: change.scope.applied_to(before.scope),
        more: change.verbs.unwrap_or(before.more),
        sites: change.sites.unwrap_or_else(|| before.sites.clone()),
        expires_at,
        ..before.clone()
    })
}

/// What a token could do after a change and could not before, and which field says so.
fn widening(after: &TokenRow, before: &TokenRow) -> Option<(&'static str, String)> {
    if !is_within(after, before) {
        return Some(("sites", "it is not for those sites".to_owned()));
    }
    let more: Verbs = after.verbs().iter().filter(|verb| !before.may(*verb)).collect();
    let is_of_scope = after.scope.is_some_and(|scope| !(Verbs::from(scope) & more).is_empty());
    let field = if is_of_scope { "scope" } else { "verbs" };
    (!more.is_empty()).then(|| (field, format!("it may not {more}")))
}

/// Refuses what would leave nobody who may administer everything; one that expires some day is no
/// way to keep the door open. Each is a number of lasting and of valid tokens.
fn require_door(before: (u64, u64), after: (u64, u64)) -> Result<(), AppError> {
    let is_shut = |before, after| before > 0 && after == 0;
    if is_shut(before.0, after.0) || is_shut(before.1, after.1) {
        return Err(AppError::LastAdmin);
    }
    Ok(())
}

fn deed(verb: &str, row: &TokenRow) -> Deed {
    let sites = row.sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let sites = if sites.is_empty() { "all".to_owned() } else { sites };
    let deed = Deed::new(verb, &row.id)
        .detail("name", &row.name)
        .detail("verbs", row.verbs())
        .detail("sites", sites);
    match row.expires_at {
        Some(expires_at) => deed.detail("expires_at", expires_at),
        None => deed,
    }
}

/// Whether `row` is for no site that `than` is not for.
fn is_within(row: &TokenRow, than: &TokenRow) -> bool {
    than.sites.is_empty()
        || (!row.sites.is_empty() && row.sites.iter().all(|site| than.sites.contains(site)))
}

/// What `row` may do that `than` may not.
fn may_more(row: &TokenRow, than: &TokenRow) -> Option<String> {
    if !is_within(row, than) {
        return Some("it would be for sites that this one is not for".to_owned());
    }
    let more: Verbs = row.verbs().iter().filter(|verb| !than.may(*verb)).collect();
    (!more.is_empty()).then(|| format!("it may {more}, which this one may not"))
}

/// How `row` is stronger than `than`, if it is.
fn excess(row: &TokenRow, than: &TokenRow) -> Option<String> {
    let lasts_longer = match (row.expires_at, than.expires_at) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(new), Some(own)) => new > own,
    };
    may_more(row, than).or_else(|| {
        let own = than.expires_at.filter(|_| lasts_longer)?;
        Some(format!("this one expires at {own}, and no other may outlive it"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_is_read_back_and_never_shown_by_accident() {
        for secret in [Secret::person(), Secret::program(), Secret::join()] {
            let text = secret.reveal();
            assert_eq!(text.parse::<Secret>(), Ok(secret.clone()));
            assert!(!format!("{secret:?}").contains(&text[12..]));
        }
    }

    fn token(verbs: u32, sites: u8, expires_at: Option<i64>) -> TokenRow {
        let all = nigh_proto::access::Verb::ALL.iter().enumerate();
        let names = ["a", "b", "c"].iter().enumerate();
        TokenRow {
            id: TokenId::new(1, [1; 10]),
            hash: [0; 32],
            name: String::new(),
            scope: None,
            more: all.filter(|(at, _)| verbs >> at & 1 == 1).map(|(_, verb)| *verb).collect(),
            sites: names
                .filter(|(at, _)| sites >> at & 1 == 1)
                .map(|(_, name)| name.parse().unwrap())
                .collect(),
            created_at: nigh_proto::Timestamp::default(),
            expires_at: expires_at.map(nigh_proto::Timestamp::from_unix_ms),
            last_used_at: None,
        }
    }

    proptest! {
        /// Whatever a token may make may be done with the token itself.
        #[test]
        fn nobody_makes_a_stronger_token(
            own in (any::<u32>(), 0u8..8, proptest::option::of(1i64..3)),
            new in (any::<u32>(), 0u8..8, proptest::option::of(1i64..3)),
        ) {
            let (own, new) = (token(own.0, own.1, own.2), token(new.0, new.1, new.2));
            if excess(&new, &own).is_none() {
                for verb in nigh_proto::access::Verb::ALL {
                    for site in ["a", "b", "c", "d"].map(|name| name.parse().unwrap()) {
                        if new.may(*verb) && new.sees(&site) {
                            prop_assert!(own.may(*verb) && own.sees(&site));
                        }
                    }
                }
                let end = |row: &TokenRow| row.expires_at.map_or(i64::MAX, |at| at.unix_ms());
                prop_assert!(end(&new) <= end(&own));
            }
            prop_assert_eq!(excess(&own, &own), None);
        }

        /// A change takes away, whatever is asked for, or is refused.
        #[test]
        fn no_change_makes_a_token_stronger(
            before in (any::<u32>(), 0u8..8),
            scope in proptest::option::of(proptest::option::of(0usize..3)),
            verbs in proptest::option::of(any::<u32>()),
            sites in proptest::option::of(0u8..8),
        ) {
            let before = token(before.0, before.1, None);
            let scopes = [Scope::Read, Scope::Push, Scope::Admin];
            let change = TokenChange {
                scope: match scope {
                    None => Change::None,
                    Some(None) => Change::Unset,
                    Some(Some(at)) => Change::Set(scopes[at]),
                },
                verbs: verbs.map(|verbs| token(verbs, 0, None).more),
                sites: sites.map(|sites| token(0, sites, None).sites),
                ..TokenChange::default()
            };
            let after = changed(&before, change, nigh_proto::Timestamp::default()).unwrap();
            if widening(&after, &before).is_none() {
                prop_assert_eq!(may_more(&after, &before), None);
            } else {
                prop_assert!(may_more(&after, &before).is_some());
            }
            prop_assert_eq!(after == before, after.edits() == before.edits());
        }

        #[test]
        fn any_text_is_a_token_or_refused(text in "(nigh_(pat|ci|join)_)?[0-9a-fA-Fé]{0,70}") {
            if let Ok(secret) = text.parse::<Secret>() {
                prop_assert_eq!(secret.reveal(), text);
            }
        }
    }
}
