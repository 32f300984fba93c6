//! How are sizes and durations written for people, and read from them?

use std::time::Duration;

/// A size with three digits that matter: `1.24 MB`, in powers of 1000.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

/// A duration: `85 ms`, `1.24 s`, `3 min 5 s`, `2 h 10 min`, `4 d`.
pub(crate) fn duration(duration: Duration) -> String {
    let (ms, s) = (duration.as_millis(), duration.as_secs());
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.2} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..172_800 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d", s / 86_400),
    }
}

/// Reads `90s`, `15m`, `12h`, `7d` or `2w`; also `500ms`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok();
    match number.and_then(|number| number.checked_mul(unit_ms)).filter(|_| unit_ms > 0) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(format!("{text:?} is not a duration such as 90s, 15m, 12h or 7d")),
    }
}

/// Reads `500`, `10kB`, `500MB` or `2GB`: powers of 1000, as sizes are shown.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_bytes: u64 = match unit {
        "" | "B" => 1,
        "k" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok();
    match number.and_then(|number| number.checked_mul(unit_bytes)).filter(|_| unit_bytes > 0) {
        Some(bytes) => Ok(bytes),
        None => Err(format!("{text:?} is not a number or a size such as 500MB or 2GB")),
    }
}

/// The wall clock, in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    nigh_proto::Timestamp::from(std::time::SystemTime::now()).unix_ms()
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_that_matter() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_999, "1.00 MB"),
            (200_000_000, "200 MB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, ms) in [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        }
        for text in ["", "7", "d", "-1d", "1.5h", "99999999999999999w"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_in_the_unit_that_fits() {
        for (ms, text) in
            [(85, "85 ms"), (1_240, "1.24 s"), (185_000, "3 min 5 s"), (345_600_000, "4 d")]
        {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
