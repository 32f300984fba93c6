//! What was answered to a request that may come again?

use nigh_proto::{Timestamp, TokenId};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// How long an answer is kept.
pub(crate) const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// A claim ends by itself after this unless it was renewed: its control has died.
pub(crate) const CLAIM_MS: i64 = 15_000;
/// How often a claim is renewed; controls' clocks may differ by most of what is left.
pub(crate) const RENEW_MS: u64 = 3_000;
/// Answers that are kept for one token; the oldest make room.
const ANSWERS_MAX: u64 = 1000;

/// Whose turn it is to answer a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The caller's, known by when it was made. Nobody else answers it for [`CLAIM_MS`] and as long
    /// as it is renewed.
    Mine { since: Timestamp },
    /// Somebody is at it.
    Busy,
    /// It was answered.
    Answered(KeptAnswer),
}

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    /// BLAKE3 of the body that was answered.
    pub fingerprint: Vec<u8>,
    pub status: u16,
    /// Header fields and body, as whoever keeps it wrote them.
    pub text: String,
}

fn purpose(id: &[u8; 32]) -> String {
    format!("answer {}", nigh_proto::Digest::from_bytes(*id))
}

impl Store {
    /// Claims the key `id` for `token`, or says what became of it.
    pub(crate) async fn claim_key(
        &self,
        id: &[u8; 32],
        token: &TokenId,
        now: Timestamp,
    ) -> Result<Claim, StoreError> {
        let mut tx = self.begin_unrecorded().await?;
        let until = now.plus_ms(CLAIM_MS);
        let row = query("SELECT * FROM idempotency WHERE id = $1")
            .bind(&id[..])
            .fetch_optional(&mut tx.on)
            .await?;
        if let Some(row) = row {
            let is_kept = now.ms_since(row.time("created_at")?) < KEPT_MS;
            match row.time_optional("busy_until")? {
                Some(busy_until) if busy_until > now => return Ok(Claim::Busy),
                None if is_kept => return Ok(Claim::Answered(tx.kept(id, &row)?)),
                _ => tx.forget_key(id).await?,
            }
        }
        tx.make_room(token).await?;
        query(
            "INSERT INTO idempotency (id, token, created_at, busy_until) VALUES ($1, $2, $3, $4)",
        )
        .bind(&id[..])
        .bind(token.as_str())
        .bind(now.unix_ms())
        .bind(until.unix_ms())
        .execute(&mut tx.on)
        .await?;
        tx.commit().await?;
        Ok(Claim::Mine { since: now })
    }

    /// Whoever has claimed the key at `since` is at it still.
    pub(crate) async fn renew_claim(
        &self,
        id: &[u8; 32],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE idempotency SET busy_until = $3 \
             WHERE id = $1 AND created_at = $2 AND busy_until IS NOT NULL",
        )
        .bind(&id[..])
        .bind(since.unix_ms())
        .bind(now.plus_ms(CLAIM_MS).unix_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Keeps the answer to a key that was claimed at `since`.
    pub(crate) async fn keep_answer(
        &self,
        id: &[u8; 32],
        since: Timestamp,
        answer: &KeptAnswer,
    ) -> Result<(), StoreError> {
        let text = self.seal.seal(&purpose(id), &answer.text);
        query(
            "UPDATE idempotency SET busy_until = NULL, fingerprint = $3, status = $4, answer = $5 \
             WHERE id = $1 AND created_at = $2 AND busy_until IS NOT NULL",
        )
        .bind(&id[..])
        .bind(since.unix_ms())
        .bind(answer.fingerprint.clone())
        .bind(i64::from(answer.status))
        .bind(text)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Gives a key that was claimed at `since` back: nothing was done.
    pub(crate) async fn release_key(
        &self,
        id: &[u8; 32],
        since: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "DELETE FROM idempotency \
             WHERE id = $1 AND created_at = $2 AND busy_until IS NOT NULL",
        )
        .bind(&id[..])
        .bind(since.unix_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Forgets keys that were kept long enough.
    pub(crate) async fn expire_keys(&self, now: Timestamp) -> Result<u64, StoreError> {
        query("DELETE FROM idempotency WHERE created_at < $1")
            .bind(now.plus_ms(-KEPT_MS).unix_ms())
            .execute(&self.writer)
            .await
    }
}

impl Tx {
    fn kept(&self, id: &[u8; 32], row: &Row) -> Result<KeptAnswer, StoreError> {
        let sealed: Option<String> = row.get("answer")?;
        Ok(KeptAnswer {
            fingerprint: row.get::<Option<Vec<u8>>>("fingerprint")?.unwrap_or_default(),
            status: u16::try_from(row.number("status")?).unwrap_or(500),
            text: self.seal.reveal(&purpose(id), &sealed.unwrap_or_default())?,
        })
    }

    async fn forget_key(&mut self, id: &[u8; 32]) -> Result<(), StoreError> {
        query("DELETE FROM idempotency WHERE id = $1").bind(&id[..]).execute(&mut self.on).await?;
        Ok(())
    }

    /// Lets go of a token's oldest answers when it has as many as it may.
    async fn make_room(&mut self, token: &TokenId) -> Result<(), StoreError> {
        query(
            "DELETE FROM idempotency WHERE token = $1 AND busy_until IS NULL AND created_at <= \
             (SELECT coalesce(max(created_at), 0) FROM (SELECT created_at FROM idempotency \
             WHERE token = $1 ORDER BY created_at DESC LIMIT 1 OFFSET $2) AS old)",
        )
        .bind(token.as_str())
        .bind(signed(ANSWERS_MAX - 1))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }
}
