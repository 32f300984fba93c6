//! Where is control's CA kept?

use super::{
    Store, StoreError,
    sql::{On, query},
};
use crate::seal::Seal;

/// What the seal of the CA's key is for.
const PURPOSE: &str = "authority";

/// Control's own CA, as PEM.
#[derive(Clone)]
pub(crate) struct AuthorityRow {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for AuthorityRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthorityRow")
    }
}

/// The CA as the database holds it, opened.
pub(super) async fn read(
    on: impl Into<On<'_>>,
    seal: &Seal,
) -> Result<Option<AuthorityRow>, StoreError> {
    let row = query("SELECT certificate_pem, key_pem FROM authority WHERE id = 1");
    let row = row.fetch_optional(on).await?;
    row.map(|row| {
        Ok(AuthorityRow {
            certificate_pem: row.get("certificate_pem")?,
            key_pem: seal.reveal(PURPOSE, &row.get::<String>("key_pem")?)?,
        })
    })
    .transpose()
}

impl Store {
    pub(crate) async fn authority(&self) -> Result<Option<AuthorityRow>, StoreError> {
        read(&self.reader, &self.seal).await
    }

    /// Keeps the CA of a first start; fails as taken when there is one.
    pub(crate) async fn insert_authority(
        &self,
        authority: &AuthorityRow,
    ) -> Result<(), StoreError> {
        query("INSERT INTO authority (id, certificate_pem, key_pem) VALUES (1, $1, $2)")
            .bind(&authority.certificate_pem)
            .bind(self.seal.seal(PURPOSE, &authority.key_pem))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
