//! How are many rows read at once?
//!
//! SQLite's driver copies every value of a row and hands every row from one thread to another, which
//! costs more than finding them. So a list is read as one text: an array of JSON objects, which the
//! database makes.

use nigh_proto::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{
    StoreError,
    sql::{On, Query},
};

/// The statement for the rows that `$from` finds, in its order. `$row` is a macro that gives, for
/// `sqlite` and for `postgres`, the object that one row becomes.
macro_rules! documents {
    ($row:ident, $from:literal $(,)?) => {
        $crate::store::sql::query_each(
            concat!("SELECT json_group_array(", $row!(sqlite), ") FROM (", $from, ") AS found"),
            // No rows are NULL to it.
            concat!(
                "SELECT coalesce(json_agg(",
                $row!(postgres),
                "), '[]')::text FROM (",
                $from,
                ") AS found"
            ),
        )
    };
}

/// The function that makes an object of names and values.
macro_rules! object {
    (sqlite) => {
        "json_object"
    };
    (postgres) => {
        "json_build_object"
    };
}

/// Bytes as JSON can hold them; absent ones stay so.
macro_rules! hex {
    (sqlite, $column:literal) => {
        concat!("nullif(lower(hex(", $column, ")), '')")
    };
    (postgres, $column:literal) => {
        concat!("encode(", $column, ", 'hex')")
    };
}

pub(super) use {documents, hex, object};

impl Query {
    /// The rows of [`documents!`].
    pub(super) async fn documents<T: DeserializeOwned>(
        self,
        on: impl Into<On<'_>>,
    ) -> Result<Vec<T>, StoreError> {
        let text: String = self.scalar(on).await?;
        serde_json::from_str(&text).map_err(StoreError::DamagedRow)
    }
}

/// A moment as tables hold it.
pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    i64::deserialize(from).map(Timestamp::from_unix_ms)
}

pub(super) fn time_optional<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_unix_ms))
}

/// A truth: SQLite has numbers for it.
pub(super) fn truth<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Truth {
        Word(bool),
        Number(i64),
    }
    Ok(match Truth::deserialize(from)? {
        Truth::Word(word) => word,
        Truth::Number(number) => number != 0,
    })
}
