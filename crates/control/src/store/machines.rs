//! Which machines have joined, which may, and which lag?

use nigh_proto::{
    Digest, MachineId, MachineName, SiteName, Timestamp,
    report::{MachineAbout, MachineRole},
};

use super::{
    Store, StoreError, Tx,
    sql::{Row, query},
};

/// A machine that has joined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MachineRow {
    pub name: MachineName,
    /// New with every join; also in the machine's certificate.
    pub id: MachineId,
    pub role: MachineRole,
    /// What the machine said of itself last.
    pub about: MachineAbout,
    pub is_drained: bool,
    pub joined_at: Timestamp,
    /// The CA that signed its newest certificate; 0 when that is not known.
    pub signer: i64,
    pub certificate_not_after: Timestamp,
}

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinTokenRow {
    pub hash: [u8; 32],
    pub role: MachineRole,
    pub machine: MachineName,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// The public key that it was used with.
    pub used_by: Option<Digest>,
}

fn role_of(column: &'static str, text: String) -> Result<MachineRole, StoreError> {
    [MachineRole::Edge, MachineRole::Dns]
        .into_iter()
        .find(|role| role.label() == text)
        .ok_or(StoreError::Damaged { column, text })
}

impl MachineRow {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.parse("name")?,
            id: row.parse("id")?,
            role: role_of("role", row.get("role")?)?,
            about: row.json("about")?,
            is_drained: row.get("is_drained")?,
            joined_at: row.time("joined_at")?,
            signer: row.get("signer")?,
            certificate_not_after: row.time("certificate_not_after")?,
        })
    }
}

impl MachineRow {
    /// What `If-Match` is compared with: which machine of this name, and how it was left.
    pub(crate) fn edits(&self) -> String {
        format!("{}.{}", self.id, u8::from(self.is_drained))
    }
}

fn about_json(about: &MachineAbout) -> String {
    serde_json::to_string(about).expect("names, numbers and addresses always have a JSON form")
}

impl Tx {
    /// Adds a machine, or replaces one of the same name that joins again.
    pub(crate) async fn put_machine(&mut self, row: &MachineRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO machines \
             (name, id, role, about, is_drained, joined_at, signer, certificate_not_after) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET \
             id = excluded.id, role = excluded.role, about = excluded.about, \
             joined_at = excluded.joined_at, signer = excluded.signer, \
             certificate_not_after = excluded.certificate_not_after",
        )
        .bind(row.name.as_str())
        .bind(row.id.as_str())
        .bind(row.role.label())
        .bind(about_json(&row.about))
        .bind(row.is_drained)
        .bind(row.joined_at.unix_ms())
        .bind(row.signer)
        .bind(row.certificate_not_after.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// The machine as this transaction sees it.
    pub(crate) async fn machine(
        &mut self,
        name: &MachineName,
    ) -> Result<Option<MachineRow>, StoreError> {
        let row = query("SELECT * FROM machines WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut self.on)
            .await?;
        row.map(|row| MachineRow::read(&row)).transpose()
    }

    /// Notes a machine's new certificate. Whether the machine is still one of the fleet under
    /// this very id.
    pub(crate) async fn set_certificate(
        &mut self,
        id: &MachineId,
        signer: i64,
        not_after: Timestamp,
    ) -> Result<bool, StoreError> {
        let done =
            query("UPDATE machines SET signer = $2, certificate_not_after = $3 WHERE id = $1")
                .bind(id.as_str())
                .bind(signer)
                .bind(not_after.unix_ms())
                .execute(&mut self.on)
                .await?;
        Ok(done > 0)
    }

    pub(crate) async fn set_about(
        &mut self,
        id: &MachineId,
        about: &MachineAbout,
    ) -> Result<(), StoreError> {
        query("UPDATE machines SET about = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(about_json(about))
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Whether there is such a machine.
    pub(crate) async fn set_drained(
        &mut self,
        name: &MachineName,
        is_drained: bool,
    ) -> Result<bool, StoreError> {
        let done = query("UPDATE machines SET is_drained = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(is_drained)
            .execute(&mut self.on)
            .await?;
        Ok(done > 0)
    }

    /// Gives a machine another id: every certificate with the one before is void. Whether there is
    /// such a machine.
    pub(crate) async fn set_machine_id(
        &mut self,
        name: &MachineName,
        id: &MachineId,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE machines SET id = $2, certificate_not_after = 0 WHERE name = $1";
        let done = query(sql).bind(name.as_str()).bind(id.as_str()).execute(&mut self.on).await?;
        Ok(done > 0)
    }

    /// Whether there was such a machine.
    pub(crate) async fn delete_machine(&mut self, name: &MachineName) -> Result<bool, StoreError> {
        let done = query("DELETE FROM machines WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(done > 0)
    }

    /// `edge` lags for every site that has an active release: a new edge serves none yet.
    pub(crate) async fn lag_everywhere(&mut self, edge: &MachineName) -> Result<(), StoreError> {
        query(
            "INSERT INTO lagging (site, machine) \
             SELECT name, $1 FROM sites WHERE active IS NOT NULL ON CONFLICT DO NOTHING",
        )
        .bind(edge.as_str())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Exactly `edges` lag for `site` from now on.
    pub(crate) async fn replace_lagging(
        &mut self,
        site: &SiteName,
        edges: &[MachineName],
    ) -> Result<(), StoreError> {
        query("DELETE FROM lagging WHERE site = $1")
            .bind(site.as_str())
            .execute(&mut self.on)
            .await?;
        for edge in edges {
            self.set_lagging(site, edge, true).await?;
        }
        Ok(())
    }

    pub(crate) async fn set_lagging(
        &mut self,
        site: &SiteName,
        edge: &MachineName,
        is_lagging: bool,
    ) -> Result<(), StoreError> {
        // An edge or site that has just been deleted lags nowhere.
        let sql = if is_lagging {
            "INSERT INTO lagging (site, machine) SELECT s.name, m.name FROM sites s, machines m \
             WHERE s.name = $1 AND m.name = $2 ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM lagging WHERE site = $1 AND machine = $2"
        };
        query(sql).bind(site.as_str()).bind(edge.as_str()).execute(&mut self.on).await?;
        Ok(())
    }

    pub(crate) async fn insert_join_token(&mut self, row: &JoinTokenRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO join_tokens (hash, role, machine, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&row.hash[..])
        .bind(row.role.label())
        .bind(row.machine.as_str())
        .bind(row.created_at.unix_ms())
        .bind(row.expires_at.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    pub(crate) async fn join_token(
        &mut self,
        hash: &[u8; 32],
    ) -> Result<Option<JoinTokenRow>, StoreError> {
        let row = query(
            "SELECT role, machine, created_at, expires_at, used_by FROM join_tokens \
             WHERE hash = $1",
        )
        .bind(&hash[..])
        .fetch_optional(&mut self.on)
        .await?;
        row.map(|row| {
            Ok(JoinTokenRow {
                hash: *hash,
                role: role_of("role", row.get("role")?)?,
                machine: row.parse("machine")?,
                created_at: row.time("created_at")?,
                expires_at: row.time("expires_at")?,
                used_by: row.digest_optional("used_by")?,
            })
        })
        .transpose()
    }

    /// From now on the token is good for this public key alone.
    pub(crate) async fn use_join_token(
        &mut self,
        hash: &[u8; 32],
        key: &Digest,
    ) -> Result<(), StoreError> {
        query("UPDATE join_tokens SET used_by = $2 WHERE hash = $1")
            .bind(&hash[..])
            .bind(&key.as_bytes()[..])
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Forgets join tokens that expired before `now`.
    pub(crate) async fn expire_join_tokens(&mut self, now: Timestamp) -> Result<(), StoreError> {
        query("DELETE FROM join_tokens WHERE expires_at < $1")
            .bind(now.unix_ms())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Which CA signed whose newest certificate, by the machines' names.
    pub(crate) async fn signers(&self) -> Result<Vec<(MachineName, i64)>, StoreError> {
        let rows = query("SELECT name, signer FROM machines ORDER BY name");
        let rows = rows.fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((row.parse("name")?, row.get("signer")?))).collect()
    }

    /// How many join tokens wait to be used.
    pub(crate) async fn join_tokens_total(&self) -> Result<u64, StoreError> {
        let total: i64 = query("SELECT count(*) FROM join_tokens WHERE used_by IS NULL")
            .scalar(&self.reader)
            .await?;
        Ok(total.unsigned_abs())
    }
}
