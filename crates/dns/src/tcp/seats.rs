//! Who may stay when there are more TCP connections than places?
//!
//! Whoever brought a query last. A flood of idle connections then costs idle connections only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio_util::sync::CancellationToken;

use crate::metrics::DnsMetrics;

/// The places for connections; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Arc<Room>);

#[derive(Debug)]
struct Room {
    seats_max: usize,
    metrics: DnsMetrics,
    taken: Mutex<Taken>,
}

/// Seats by when they were last of use: the smallest number is the quietest.
#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by_use: BTreeMap<u64, CancellationToken>,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    away: CancellationToken,
    room: Arc<Room>,
}

impl Seats {
    pub(crate) fn new(seats_max: usize, metrics: DnsMetrics) -> Self {
        Seats(Arc::new(Room { seats_max, metrics, taken: Mutex::default() }))
    }

    /// A place for a new connection; when all are taken, the quietest connection loses its own.
    pub(crate) fn take(&self) -> Seat {
        let away = CancellationToken::new();
        let mut taken = self.0.taken();
        if taken.by_use.len() >= self.0.seats_max
            && let Some((_, quietest)) = taken.by_use.pop_first()
        {
            quietest.cancel();
            self.0.metrics.connection_evicted();
        }
        let number = taken.add(away.clone());
        self.0.metrics.connection_opened();
        drop(taken);
        Seat { number, away, room: Arc::clone(&self.0) }
    }
}

impl Seat {
    /// The connection was of use: it is now the last to lose its place.
    pub(crate) fn keep(&mut self) {
        let mut taken = self.room.taken();
        // Taken away meanwhile: then it stays so.
        if let Some(away) = taken.by_use.remove(&self.number) {
            self.number = taken.add(away);
        }
    }

    /// Ends when the place was given to somebody else.
    pub(crate) async fn taken_away(&self) {
        self.away.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.taken().by_use.remove(&self.number);
        self.room.metrics.connection_closed();
    }
}

impl Room {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no code panics while it holds the seats")
    }
}

impl Taken {
    fn add(&mut self, away: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_use.insert(number, away);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quietest_connection_makes_room() {
        let seats = Seats::new(2, DnsMetrics::default());
        let (mut first, second) = (seats.take(), seats.take());
        first.keep();
        let third = seats.take();
        assert!(second.away.is_cancelled());
        assert!(!first.away.is_cancelled() && !third.away.is_cancelled());
    }

    #[test]
    fn a_place_that_was_given_back_is_free() {
        let seats = Seats::new(1, DnsMetrics::default());
        drop(seats.take());
        let next = seats.take();
        assert!(!next.away.is_cancelled());
    }
}
