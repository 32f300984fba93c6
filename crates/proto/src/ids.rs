//! Opaque, prefixed, sortable identifiers.

use std::{fmt, str::FromStr};

use crate::{names::text_serde, schema::text_schema};

/// Crockford's base 32 in lower case: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A `UUIDv7` (RFC 9562, section 5.7) as 26 base-32 digits: sorts by time of making.
///
/// `unix_ms` and `random` are arguments, since nothing here reads a clock.
fn uuid_v7_digits(unix_ms: u64, random: [u8; 10]) -> String {
    let mut value = u128::from(unix_ms & 0xffff_ffff_ffff) << 80;
    for (index, byte) in random.into_iter().enumerate() {
        value |= u128::from(byte) << (72 - 8 * index);
    }
    value = value & !(0xf << 76) | 0x7 << 76; // version
    value = value & !(0x3 << 62) | 0x2 << 62; // variant
    (0..26).map(|digit| ALPHABET[(value >> (125 - 5 * digit) & 31) as usize] as char).collect()
}

/// The text is not an identifier of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what} id (one looks like {prefix}01jd0000000000000000000000)")]
pub struct InvalidId {
    text: String,
    what: &'static str,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// A new identifier, made from the time in Unix milliseconds and ten random bytes.
            pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
                $name(format!("{}{}", $prefix, uuid_v7_digits(unix_ms, random)).into())
            }

            /// The last ten digits: random ones, enough to tell things of one site apart.
            pub fn short(&self) -> &str {
                &self.0[self.0.len() - 10..]
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match text.strip_prefix($prefix) {
                    Some(digits)
                        if digits.len() == 26
                            && digits.bytes().all(|digit| ALPHABET.contains(&digit)) =>
                    {
                        Ok($name(text.into()))
                    }
                    _ => Err(InvalidId {
                        text: text.chars().take(80).collect(),
                        what: $what,
                        prefix: $prefix,
                    }),
                }
            }
        }

        text_serde!($name);
        text_schema!(
            $name,
            concat!("^", $prefix, "[0-9a-hjkmnp-tv-z]{26}$"),
            concat!($prefix, "01jd0000000000000000000000")
        );
    };
}

id!(
    /// Names one release of one site.
    ReleaseId, "rel_", "a release"
);
id!(
    /// Names a server that is told of events.
    WebhookId, "hook_", "a webhook"
);
id!(
    /// Names an API token; not the secret itself.
    TokenId, "tok_", "a token"
);
id!(
    /// Names a machine for as long as it is joined.
    MachineId, "mac_", "a machine"
);
id!(
    /// Names a fleet: drawn when control's database is made, the same after a restore.
    FleetId, "flt_", "a fleet"
);
id!(
    /// Names a piece of long work.
    OperationId, "op_", "an operation"
);

impl OperationId {
    /// The operation that a release is the subject of.
    pub fn of(release: &ReleaseId) -> Self {
        OperationId(release.0.replacen("rel_", "op_", 1).into())
    }

    /// The release that is the subject of this operation.
    pub fn release(&self) -> ReleaseId {
        ReleaseId(self.0.replacen("op_", "rel_", 1).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let earlier = ReleaseId::new(1_700_000_000_000, [255; 10]);
        let later = ReleaseId::new(1_700_000_000_001, [0; 10]);
        assert!(earlier < later);
        assert_eq!(earlier.to_string().parse::<ReleaseId>().unwrap(), earlier);
        assert_ne!(earlier.short(), later.short());
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let token = TokenId::new(1, [1; 10]).to_string();
        assert!(token.parse::<ReleaseId>().is_err());
        assert!("rel_".parse::<ReleaseId>().is_err());
        assert!("rel_01jd000000000000000000000u".parse::<ReleaseId>().is_err());
    }
}
