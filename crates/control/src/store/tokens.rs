//! Which API tokens are there?

use nigh_proto::{SiteName, Timestamp, TokenId, api::Scope};

use super::{
    Store, StoreError, Tx,
    sql::{Row, query},
};

/// An API token; of its secret only the hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRow {
    pub id: TokenId,
    pub hash: [u8; 32],
    pub name: String,
    pub scope: Scope,
    /// Empty: every site.
    pub sites: Vec<SiteName>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

const fn scope_label(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Push => "push",
        Scope::Admin => "admin",
    }
}

impl TokenRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let scope: String = row.get("scope")?;
        Ok(Self {
            id: row.parse("id")?,
            hash: *row.digest("hash")?.as_bytes(),
            name: row.get("name")?,
            scope: [Scope::Read, Scope::Push, Scope::Admin]
                .into_iter()
                .find(|known| scope_label(*known) == scope)
                .ok_or(StoreError::Damaged { column: "scope", text: scope })?,
            sites: row.json("sites")?,
            created_at: row.time("created_at")?,
            expires_at: row.time_optional("expires_at")?,
            last_used_at: row.time_optional("last_used_at")?,
        })
    }
}

impl Store {
    pub(crate) async fn token_by_hash(
        &self,
        hash: &[u8; 32],
    ) -> Result<Option<TokenRow>, StoreError> {
        let row = query("SELECT * FROM tokens WHERE hash = $1")
            .bind(&hash[..])
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| TokenRow::read(&row)).transpose()
    }

    /// At most `limit` tokens after the id `after`, oldest first.
    pub(crate) async fn tokens(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<TokenRow>, StoreError> {
        let rows = query("SELECT * FROM tokens WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(TokenRow::read).collect()
    }

    /// Whether nobody could ever log in: the database is new.
    pub(crate) async fn has_no_tokens(&self) -> Result<bool, StoreError> {
        let total: i64 = query("SELECT count(*) FROM tokens").scalar(&self.reader).await?;
        Ok(total == 0)
    }

    /// Notes that a token was used.
    pub(crate) async fn touch_token(&self, id: &TokenId, now: Timestamp) -> Result<(), StoreError> {
        query("UPDATE tokens SET last_used_at = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(now.unix_ms())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

impl Tx {
    pub(crate) async fn insert_token(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        let sites = serde_json::to_string(&row.sites).expect("names always have a JSON form");
        query(
            "INSERT INTO tokens (id, hash, name, scope, sites, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(row.id.as_str())
        .bind(&row.hash[..])
        .bind(&row.name)
        .bind(scope_label(row.scope))
        .bind(sites)
        .bind(row.created_at.unix_ms())
        .bind(row.expires_at.map(Timestamp::unix_ms))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Whether there was such a token.
    pub(crate) async fn delete_token(&mut self, id: &TokenId) -> Result<bool, StoreError> {
        let done = query("DELETE FROM tokens WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(done > 0)
    }

    /// How many tokens may administer everything and do not expire by `now`.
    pub(crate) async fn admins_total(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let total: i64 = query(
            "SELECT count(*) FROM tokens WHERE scope = 'admin' AND sites = '[]' \
             AND (expires_at IS NULL OR expires_at > $1)",
        )
        .bind(now.unix_ms())
        .scalar(&mut self.on)
        .await?;
        Ok(total.unsigned_abs())
    }
}
