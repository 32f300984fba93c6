//! A moment, as control, machines and people write it.

use std::{fmt, str::FromStr};

/// Milliseconds since the Unix epoch; RFC 3339 in UTC as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as 2026-01-31T12:00:00Z (RFC 3339)")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// A moment from Unix milliseconds, kept within the years that RFC 3339 can write.
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        Timestamp(unix_ms.clamp(-62_135_596_800_000, 253_402_207_200_000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// The moment `duration_ms` later.
    pub fn plus_ms(self, duration_ms: i64) -> Self {
        Self::from_unix_ms(self.0.saturating_add(duration_ms))
    }

    /// How many milliseconds after `earlier` this is; negative when it is before.
    pub const fn ms_since(self, earlier: Timestamp) -> i64 {
        self.0 - earlier.0
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        let unix_ms = match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Self::from_unix_ms(unix_ms)
    }
}

impl From<Timestamp> for std::time::SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = std::time::Duration::from_millis(time.0.unsigned_abs());
        if time.0 < 0 { Self::UNIX_EPOCH - distance } else { Self::UNIX_EPOCH + distance }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.3}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Self::from_unix_ms(time.as_millisecond())),
            Err(_) if is_in_last_year(text) => Ok(Self::from_unix_ms(i64::MAX)),
            Err(_) => Err(InvalidTimestamp(text.chars().take(80).collect())),
        }
    }
}

/// The last day that RFC 3339 can write is beyond what `jiff` counts as a timestamp.
fn is_in_last_year(text: &str) -> bool {
    jiff::fmt::temporal::Pieces::parse(text).is_ok_and(|pieces| {
        pieces.date().year() == 9999 && pieces.time().is_some() && pieces.offset().is_some()
    })
}

crate::schema::time_schema!(Timestamp);

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_milliseconds() {
        let time = Timestamp::from_unix_ms(1_769_860_800_123);
        assert_eq!(time.to_string(), "2026-01-31T12:00:00.123Z");
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
    }

    #[test]
    fn every_time_of_rfc_3339_is_one() {
        for text in ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"] {
            assert!(text.parse::<Timestamp>().is_ok(), "{text}");
        }
        for text in ["9999-12-31", "9999-12-31T23:59:59", "9999-12-32T00:00:00Z", "", "now"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn extreme_times_can_still_be_written() {
        for unix_ms in [i64::MIN, i64::MAX, 0, -1] {
            let time = Timestamp::from_unix_ms(unix_ms);
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }
}
