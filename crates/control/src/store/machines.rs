//! Which machines have joined, which may, and which lag?

use nigh_proto::{
    MachineId, MachineName, SiteName, Timestamp,
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
}

/// A join token that was not used yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinTokenRow {
    pub hash: [u8; 32],
    pub role: MachineRole,
    pub machine: MachineName,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
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
            "INSERT INTO machines (name, id, role, about, is_drained, joined_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET \
             id = excluded.id, role = excluded.role, about = excluded.about, \
             joined_at = excluded.joined_at",
        )
        .bind(row.name.as_str())
        .bind(row.id.as_str())
        .bind(row.role.label())
        .bind(about_json(&row.about))
        .bind(row.is_drained)
        .bind(row.joined_at.unix_ms())
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

    pub(crate) async fn set_about(
        &mut self,
        name: &MachineName,
        about: &MachineAbout,
    ) -> Result<(), StoreError> {
        query("UPDATE machines SET about = $2 WHERE name = $1")
            .bind(name.as_str())
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

    /// Takes a join token: nobody can take it again once this transaction is committed.
    pub(crate) async fn take_join_token(
        &mut self,
        hash: &[u8; 32],
    ) -> Result<Option<JoinTokenRow>, StoreError> {
        let row = query(
            "DELETE FROM join_tokens WHERE hash = $1 \
             RETURNING role, machine, created_at, expires_at",
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
            })
        })
        .transpose()
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
    /// How many join tokens wait to be used.
    pub(crate) async fn join_tokens_total(&self) -> Result<u64, StoreError> {
        let total: i64 = query("SELECT count(*) FROM join_tokens").scalar(&self.reader).await?;
        Ok(total.unsigned_abs())
    }
}
