//! How does a column become a word of the fleet again?

use std::str::FromStr;

use nigh_proto::{Digest, Timestamp};
use serde::de::DeserializeOwned;

use super::{StoreError, sql::Row};

/// Typed reading of one row; a text that its type refuses is damage, not absence.
impl Row {
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        Ok(u64::try_from(self.get::<i64>(column)?).unwrap_or(0))
    }

    pub(super) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        text.parse().map_err(|_| StoreError::Damaged { column, text })
    }

    pub(super) fn parse_optional<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.get::<Option<String>>(column)?
            .map(|text| text.parse().map_err(|_| StoreError::Damaged { column, text }))
            .transpose()
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|_| StoreError::Damaged { column, text })
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_unix_ms(self.get(column)?))
    }

    pub(super) fn time_optional(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_unix_ms))
    }

    pub(super) fn digest(&self, column: &'static str) -> Result<Digest, StoreError> {
        as_digest(column, self.get(column)?)
    }

    pub(super) fn digest_optional(
        &self,
        column: &'static str,
    ) -> Result<Option<Digest>, StoreError> {
        self.get::<Option<Vec<u8>>>(column)?.map(|bytes| as_digest(column, bytes)).transpose()
    }
}

fn as_digest(column: &'static str, bytes: Vec<u8>) -> Result<Digest, StoreError> {
    <[u8; 32]>::try_from(bytes)
        .map(Digest::from_bytes)
        .map_err(|bytes| StoreError::Damaged { column, text: format!("{} bytes", bytes.len()) })
}

/// Counts and sizes as the database holds them.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
