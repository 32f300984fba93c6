//! Who may call the API?
//!
//! A token is 32 random bytes in hex behind a prefix that secret scanners know. Only BLAKE3 of the
//! bytes is kept: random bytes need no slow hash.

use std::{fmt, str::FromStr};

use nigh_proto::{
    Timestamp, TokenId,
    api::{EventKind, NewToken, Scope, TokenCreated, TokenView},
};
use serde_json::json;

use super::{App, AppError, begin::checked_duration, random};
use crate::store::TokenRow;

/// The longest name of a token, in bytes.
const NAME_MAX_BYTES: usize = 100;
const SITES_MAX: usize = 100;
/// How often the last use of a token is written down at most.
const TOUCH_MS: i64 = 60_000;

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
    pub(crate) async fn create_token(&self, new: NewToken) -> Result<TokenCreated, AppError> {
        let length = new.name.len();
        if length == 0 || length > NAME_MAX_BYTES {
            return Err(AppError::Text { what: "name", length, max: NAME_MAX_BYTES });
        }
        if new.sites.len() > SITES_MAX {
            let (total, max) = (new.sites.len() as u64, SITES_MAX as u64);
            return Err(AppError::TooMany { what: "sites of one token", total, max });
        }
        for site in &new.sites {
            self.require_site(site).await?;
        }
        let now = self.now();
        let expires_at = new
            .expires_ms
            .map(|ms| checked_duration("expires_ms", ms).map(|ms| now.plus_ms(ms)))
            .transpose()?;
        let is_program = new.scope != Scope::Admin && !new.sites.is_empty();
        let secret = if is_program { Secret::program() } else { Secret::person() };
        let row = TokenRow {
            id: TokenId::new(self.unix_ms(), random()),
            hash: secret.hash(),
            name: new.name,
            scope: new.scope,
            sites: new.sites,
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        let mut tx = self.store().begin().await?;
        tx.insert_token(&row).await?;
        let data = json!({ "name": row.name, "scope": row.scope, "sites": row.sites });
        self.record(&mut tx, EventKind::TokenCreated, None, row.id.as_str(), data).await?;
        tx.commit().await?;
        self.ring_events().await?;
        tracing::info!(token.id = %row.id, "token {} was created", row.id);
        Ok(TokenCreated { secret: secret.reveal(), token: token_view(row) })
    }

    pub(crate) async fn delete_token(&self, id: &TokenId) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        let admins_before = tx.admins_total(self.now()).await?;
        if !tx.delete_token(id).await? {
            return Err(AppError::TokenUnknown);
        }
        if admins_before > 0 && tx.admins_total(self.now()).await? == 0 {
            return Err(AppError::LastAdmin);
        }
        self.record(&mut tx, EventKind::TokenRevoked, None, id.as_str(), json!({})).await?;
        tx.commit().await?;
        self.ring_events().await?;
        tracing::info!(token.id = %id, "token {id} was revoked");
        Ok(())
    }

    /// Whether a token that was valid still is.
    pub(crate) async fn is_valid(&self, row: &TokenRow) -> Result<bool, AppError> {
        let now = self.now();
        let current = self.store().token_by_hash(&row.hash).await?;
        Ok(current.is_some_and(|row| row.expires_at.is_none_or(|expires_at| expires_at > now)))
    }

    /// Writes down that a token was used, unless that was done a moment ago.
    pub(crate) async fn touch_token(&self, row: &TokenRow, now: Timestamp) {
        if row.last_used_at.is_some_and(|last| now.ms_since(last) < TOUCH_MS) {
            return;
        }
        // A token works even when its use cannot be written down, as on a full disk.
        if let Err(error) = self.store().touch_token(&row.id, now).await {
            tracing::warn!(%error, token.id = %row.id, "the use of a token was not written down");
        }
    }
}

/// A token, without its secret.
pub(crate) fn token_view(row: TokenRow) -> TokenView {
    TokenView {
        id: row.id,
        name: row.name,
        scope: row.scope,
        sites: row.sites,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
    }
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

    proptest! {
        #[test]
        fn any_text_is_a_token_or_refused(text in "(nigh_(pat|ci|join)_)?[0-9a-fA-Fé]{0,70}") {
            if let Ok(secret) = text.parse::<Secret>() {
                prop_assert_eq!(secret.reveal(), text);
            }
        }
    }
}
