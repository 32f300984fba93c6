//! What time is it, for code that must also be tested with another answer?
//!
//! Roles are given a [`Clock`] and pass its readings on as arguments. The system's clock is read
//! here and nowhere else, so that a test can move certificates and previews past their end.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

/// A source of the time of day and of the steady time; cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<Mutex<Reading>>),
}

#[derive(Clone, Copy)]
struct Reading {
    now: SystemTime,
    instant: Instant,
}

/// The hand that moves a clock made by [`Clock::manual`].
#[derive(Clone)]
pub struct Hand(Arc<Mutex<Reading>>);

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// A clock that stands still at `now`.
    pub fn fixed(now: SystemTime) -> Self {
        Self::manual(now).0
    }

    /// A clock that starts at `now` and moves only when its [`Hand`] does.
    pub fn manual(now: SystemTime) -> (Self, Hand) {
        let reading = Arc::new(Mutex::new(Reading { now, instant: Instant::now() }));
        (Clock(Source::Manual(Arc::clone(&reading))), Hand(reading))
    }

    /// The time of day; it may jump when an operator or NTP sets it.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(reading) => lock(reading).now,
        }
    }

    /// The steady time, for measuring and for deadlines; it never goes back.
    pub fn instant(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual(reading) => lock(reading).instant,
        }
    }
}

impl Hand {
    /// Moves both times forward by `duration`.
    pub fn advance(&self, duration: Duration) {
        let mut reading = lock(&self.0);
        reading.now += duration;
        reading.instant += duration;
    }

    /// Sets the time of day, as an operator would; the steady time stays where it is.
    pub fn set(&self, now: SystemTime) {
        lock(&self.0).now = now;
    }
}

fn lock(reading: &Mutex<Reading>) -> std::sync::MutexGuard<'_, Reading> {
    reading.lock().expect("no code panics while it holds a clock")
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::system",
            Source::Manual(_) => "Clock::manual",
        })
    }
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hand")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_its_hand() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let (clock, hand) = Clock::manual(start);
        let steady = clock.instant();
        assert_eq!((clock.now(), clock.instant()), (start, steady));

        hand.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), start + Duration::from_secs(5));
        assert_eq!(clock.instant(), steady + Duration::from_secs(5));
    }

    #[test]
    fn setting_the_time_of_day_leaves_the_steady_time_alone() {
        let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        let steady = clock.instant();
        hand.set(SystemTime::UNIX_EPOCH);
        assert_eq!((clock.now(), clock.instant()), (SystemTime::UNIX_EPOCH, steady));
    }
}
