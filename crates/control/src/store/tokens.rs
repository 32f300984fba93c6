//! Which API tokens are there?

use nigh_proto::{
    SiteName, Timestamp, TokenId,
    access::{Scope, Verb, Verbs},
};

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
    /// The shorthand for what it may do.
    pub scope: Option<Scope>,
    /// What it may do besides.
    pub more: Verbs,
    /// Empty: every site.
    pub sites: Vec<SiteName>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

const SCOPES: [Option<Scope>; 4] = [None, Some(Scope::Read), Some(Scope::Push), Some(Scope::Admin)];

const fn scope_label(scope: Option<Scope>) -> &'static str {
    match scope {
        None => "none",
        Some(Scope::Read) => "read",
        Some(Scope::Push) => "push",
        Some(Scope::Admin) => "admin",
    }
}

impl TokenRow {
    /// Everything that it may do, somewhere.
    pub(crate) fn verbs(&self) -> Verbs {
        self.scope.map_or(Verbs::NONE, Verbs::from) | self.more
    }

    pub(crate) fn may(&self, verb: Verb) -> bool {
        self.verbs().contain(verb.into())
    }

    /// Whether it may be used for this site.
    pub(crate) fn sees(&self, site: &SiteName) -> bool {
        self.sites.is_empty() || self.sites.contains(site)
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        let scope: String = row.get("scope")?;
        Ok(Self {
            id: row.parse("id")?,
            hash: *row.digest("hash")?.as_bytes(),
            name: row.get("name")?,
            scope: SCOPES
                .into_iter()
                .find(|known| scope_label(*known) == scope)
                .ok_or(StoreError::Damaged { column: "scope", text: scope })?,
            more: row.json("verbs")?,
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

    pub(crate) async fn token(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
        let row = query("SELECT * FROM tokens WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| TokenRow::read(&row)).transpose()
    }

    /// At most `limit` tokens after the id `after` whose names begin with `name`, oldest first.
    pub(crate) async fn tokens(
        &self,
        after: &str,
        name: &str,
        limit: u32,
    ) -> Result<Vec<TokenRow>, StoreError> {
        let rows = query(
            "SELECT * FROM tokens WHERE id > $1 AND substr(name, 1, length($2)) = $2 \
             ORDER BY id LIMIT $3",
        )
        .bind(after)
        .bind(name)
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
}

impl Tx {
    pub(crate) async fn insert_token(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        let sites = serde_json::to_string(&row.sites).expect("names always have a JSON form");
        let verbs = serde_json::to_string(&row.more).expect("words always have a JSON form");
        query(
            "INSERT INTO tokens (id, hash, name, scope, sites, created_at, expires_at, verbs) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(row.id.as_str())
        .bind(&row.hash[..])
        .bind(&row.name)
        .bind(scope_label(row.scope))
        .bind(sites)
        .bind(row.created_at.unix_ms())
        .bind(row.expires_at.map(Timestamp::unix_ms))
        .bind(verbs)
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    pub(crate) async fn token(&mut self, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
        let row = query("SELECT * FROM tokens WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut self.on)
            .await?;
        row.map(|row| TokenRow::read(&row)).transpose()
    }

    /// Writes what of a token can change.
    pub(crate) async fn change_token(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        let sites = serde_json::to_string(&row.sites).expect("names always have a JSON form");
        let verbs = serde_json::to_string(&row.more).expect("words always have a JSON form");
        query(
            "UPDATE tokens SET name = $2, scope = $3, sites = $4, expires_at = $5, verbs = $6 \
             WHERE id = $1",
        )
        .bind(row.id.as_str())
        .bind(&row.name)
        .bind(scope_label(row.scope))
        .bind(sites)
        .bind(row.expires_at.map(Timestamp::unix_ms))
        .bind(verbs)
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

    /// Notes when a token was used last; another control may have noted a later time.
    pub(crate) async fn touch_token(
        &mut self,
        id: &TokenId,
        used_at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE tokens SET last_used_at = $2 \
             WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
        )
        .bind(id.as_str())
        .bind(used_at.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// How many tokens may administer everything: those that never expire, and those that have
    /// not expired by `now`.
    pub(crate) async fn admins_total(&mut self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        let row = query(
            "SELECT coalesce(sum(CASE WHEN expires_at IS NULL THEN 1 ELSE 0 END), 0) AS lasting, \
             count(*) AS valid FROM tokens WHERE scope = 'admin' AND sites = '[]' \
             AND (expires_at IS NULL OR expires_at > $1)",
        )
        .bind(now.unix_ms())
        .fetch_one(&mut self.on)
        .await?;
        Ok((row.number("lasting")?, row.number("valid")?))
    }
}
