//! How does a visitor who was at one edge resume the session at another?
//!
//! By tickets sealed with keys that control gives to all edges (RFC 8446, section 4.6.1; RFC 5077).
//! The newest key seals, every key that has not ended opens. Without such keys an edge uses one of
//! its own, which nobody else can open.
//!
//! A ticket is the key's name, a random salt and the sealed session. Every ticket has a key of its
//! own, derived from the shared key and the salt: a whole fleet seals for hours with one shared key
//! and never comes near the number of random nonces that AES-GCM allows.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
    rand,
};
use nigh_daemon::Clock;
use nigh_proto::{Timestamp, state::TicketKey};
use rustls::{crypto::aws_lc_rs::Ticketer, server::ProducesTickets};

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 32;
/// The longest ticket that is made or looked at. A visitor's has a few hundred bytes.
const TICKET_BYTES_MAX: usize = 4096;
/// How many keys are taken from a state. Control has a few.
const KEYS_MAX: usize = 16;
/// Clients are not told to keep a ticket for longer.
const LIFETIME_S_MAX: i64 = 86_400;

/// Seals and opens session tickets; cheap to clone, every clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Tickets(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: ArcSwap<Vec<Key>>,
    /// For as long as control has sent no key, or none that is still good.
    own: Arc<dyn ProducesTickets>,
    clock: Clock,
}

/// A key of the state, read.
struct Key {
    name: [u8; NAME_BYTES],
    secret: Prk,
    not_after: Timestamp,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets with a key of this process, until there are [others](Self::replace).
    pub(crate) fn new(clock: Clock) -> Result<Self, rustls::Error> {
        let own = Ticketer::new()?;
        Ok(Tickets(Arc::new(Shared { keys: ArcSwap::default(), own, clock })))
    }

    /// Takes the keys of a state, newest first. One that cannot be read is logged and left out.
    pub(crate) fn replace(&self, keys: &[TicketKey]) {
        let read = keys.iter().take(KEYS_MAX).filter_map(|key| {
            let read = Key::read(key);
            if read.is_none() {
                tracing::error!(key = ?key, "a session ticket key is not hex of its length");
            }
            read
        });
        self.0.keys.store(Arc::new(read.collect()));
    }

    /// The key that seals now, if control gave one that is still good.
    fn newest<R>(&self, use_key: impl FnOnce(&Key, Timestamp) -> R) -> Option<R> {
        let now = self.0.clock.now().into();
        let keys = self.0.keys.load();
        keys.iter().find(|key| key.not_after > now).map(|key| use_key(key, now))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        let left_s = self.newest(|key, now| (key.not_after.unix_ms() - now.unix_ms()) / 1000);
        let told_s = left_s.map(|left_s| left_s.clamp(1, LIFETIME_S_MAX));
        told_s.and_then(|told_s| told_s.try_into().ok()).unwrap_or_else(|| self.0.own.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.newest(|key, _| key.seal(plain)).unwrap_or_else(|| self.0.own.encrypt(plain))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let now = self.0.clock.now().into();
        let keys = self.0.keys.load();
        match keys.iter().find(|key| ticket.starts_with(&key.name)) {
            Some(key) if key.not_after > now => key.open(ticket),
            Some(_) => None,
            None => self.0.own.decrypt(ticket),
        }
    }
}

impl Key {
    fn read(key: &TicketKey) -> Option<Self> {
        let secret = Prk::new_less_safe(HKDF_SHA256, &unhex::<KEY_BYTES>(&key.key)?);
        Some(Key { name: unhex(&key.name)?, secret, not_after: key.not_after })
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let head_bytes = NAME_BYTES + SALT_BYTES;
        if head_bytes + plain.len() + AES_256_GCM.tag_len() > TICKET_BYTES_MAX {
            return None;
        }
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).ok()?;
        let mut ticket = [&self.name[..], &salt, plain].concat();
        let (head, sealed) = ticket.split_at_mut(head_bytes);
        let tag = self.of(&salt)?.seal_in_place_separate_tag(nonce(), Aad::from(head), sealed);
        ticket.extend_from_slice(tag.ok()?.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(NAME_BYTES + SALT_BYTES)?;
        let mut sealed = sealed.to_vec();
        let salt = &head[NAME_BYTES..];
        let plain_bytes =
            self.of(salt)?.open_in_place(nonce(), Aad::from(head), &mut sealed).ok()?.len();
        sealed.truncate(plain_bytes);
        Some(sealed)
    }

    /// The key of one ticket.
    fn of(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let info = [&b"nigh session ticket"[..], salt];
        let derived = self.secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }
}

/// A ticket's key seals once, so one nonce will do.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn unhex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use nigh_daemon::clock::Hand;
    use proptest::prelude::*;

    use super::*;

    /// Key `number`, good until `until_s` after the beginning.
    fn key(number: u8, until_s: i64) -> TicketKey {
        TicketKey {
            name: format!("{number:02x}").repeat(NAME_BYTES),
            key: format!("{:02x}", number ^ 0xff).repeat(KEY_BYTES),
            not_after: Timestamp::from_unix_ms(until_s * 1000),
        }
    }

    /// What one edge of many makes of `keys`.
    fn edge(keys: &[TicketKey]) -> (Tickets, Hand) {
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let tickets = Tickets::new(clock).unwrap();
        tickets.replace(keys);
        (tickets, hand)
    }

    #[test]
    fn a_ticket_of_one_edge_is_opened_by_another_for_as_long_as_its_key_lives() {
        let (fra, _) = edge(&[key(2, 100), key(1, 50)]);
        let (nyc, hand) = edge(&[key(1, 50), key(2, 100)]);
        let of_fra = fra.encrypt(b"session").unwrap();
        let of_nyc = nyc.encrypt(b"session").unwrap();
        assert_eq!(nyc.decrypt(&of_fra).as_deref(), Some(&b"session"[..]));
        assert_eq!(fra.decrypt(&of_nyc).as_deref(), Some(&b"session"[..]));
        assert_eq!(nyc.lifetime(), 50);
        hand.advance(Duration::from_secs(50));
        assert_eq!(nyc.decrypt(&of_nyc), None, "its key has ended");
        assert!(nyc.decrypt(&of_fra).is_some());
        assert_eq!(nyc.lifetime(), 50, "of the key that seals now");
        nyc.replace(&[key(3, 500)]);
        assert_eq!(nyc.decrypt(&of_fra), None, "control took the key back");
    }

    #[test]
    fn without_keys_an_edge_still_opens_its_own_tickets() {
        let bad = TicketKey { key: "short".to_owned(), ..key(1, 100) };
        let (fra, hand) = edge(&[bad, key(1, 10)]);
        hand.advance(Duration::from_secs(10));
        let ticket = fra.encrypt(b"session").unwrap();
        assert_eq!(fra.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(edge(&[]).0.decrypt(&ticket), None);
        assert!(fra.lifetime() > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_ticket(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..6000),
            is_named in any::<bool>(),
        ) {
            let (edge, _) = edge(&[key(1, 100)]);
            if is_named {
                bytes.splice(..bytes.len().min(NAME_BYTES), [1; NAME_BYTES]);
            }
            prop_assert_eq!(edge.decrypt(&bytes), None);
        }

        #[test]
        fn a_session_comes_back_whole_or_not_at_all(
            session in proptest::collection::vec(any::<u8>(), 0..TICKET_BYTES_MAX + 100),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let (edge, _) = edge(&[key(1, 100)]);
            match edge.encrypt(&session) {
                None => prop_assert!(session.len() + 64 > TICKET_BYTES_MAX),
                Some(mut ticket) => {
                    prop_assert!(ticket.len() <= TICKET_BYTES_MAX);
                    prop_assert_eq!(edge.decrypt(&ticket), Some(session));
                    let at = at.index(ticket.len());
                    ticket[at] ^= flip;
                    prop_assert_eq!(edge.decrypt(&ticket), None);
                    prop_assert_eq!(edge.decrypt(&ticket[..at]), None);
                }
            }
        }
    }
}
