//! What is the typical value of a few measurements?

use std::time::Duration;

/// The middle of `values`; of an even number of them, the lower middle.
pub fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// `1.234 s`, or `12 ms` below a second.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_slow_run() {
        assert_eq!(median(&[3, 1, 100]), Some(3));
        assert_eq!(median(&[4, 1]), Some(1));
        assert_eq!(median::<u8>(&[]), None);
    }
}
