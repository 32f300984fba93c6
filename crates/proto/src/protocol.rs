//! Can a machine and a control of different versions talk to each other?
//!
//! What they say to each other has a number, and a build speaks its own and the one before. So a fleet
//! is upgraded machine by machine, control first. Both sides name what they speak with every request
//! and answer of `/machine/v1` (the field [`PROTOCOL`]); who names nothing is older than the numbers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// On every request of a machine and every answer of control: the protocols that it speaks.
pub const PROTOCOL: &str = "nigh-protocol";

/// The protocols that a build speaks: every one from the oldest to the newest. Written `1-2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    oldest: u16,
    newest: u16,
}

impl Protocols {
    /// Those of this build. 2: a report goes on from the one before, and nothing before relies on that.
    pub const HERE: Self = Self { oldest: 1, newest: 2 };
    /// Those of who names none.
    pub const UNNAMED: Self = Self { oldest: 1, newest: 1 };

    /// Every one from `oldest` to `newest`. `None` when that is none.
    pub const fn new(oldest: u16, newest: u16) -> Option<Self> {
        if oldest == 0 || oldest > newest { None } else { Some(Self { oldest, newest }) }
    }

    pub const fn newest(self) -> u16 {
        self.newest
    }

    /// What the value of the field [`PROTOCOL`] says, if it is there.
    pub fn named(value: Option<&[u8]>) -> Result<Self, NotProtocols> {
        let Some(value) = value else { return Ok(Self::UNNAMED) };
        std::str::from_utf8(value).map_err(|_| NotProtocols)?.parse()
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self::UNNAMED
    }
}

/// A text that names no protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocols are written as the oldest and the newest, such as 1-2")]
pub struct NotProtocols;

impl FromStr for Protocols {
    type Err = NotProtocols;

    fn from_str(text: &str) -> Result<Self, NotProtocols> {
        let (oldest, newest) = text.split_once('-').ok_or(NotProtocols)?;
        let number = |digits: &str| digits.parse().map_err(|_| NotProtocols);
        Self::new(number(oldest)?, number(newest)?).ok_or(NotProtocols)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.oldest, self.newest)
    }
}

impl Serialize for Protocols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Why a machine and control do not talk to each other, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "the machine speaks protocols {machine} and control {control}: install control's version of \
         nigh on the machine; until then it serves what it has"
    )]
    MachineTooOld { machine: Protocols, control: Protocols },
    #[error(
        "the machine speaks protocols {machine} and control {control}: upgrade control first, then \
         machines; until then the machine serves what it has"
    )]
    ControlTooOld { machine: Protocols, control: Protocols },
}

/// The newest protocol that both speak.
pub fn agree(machine: Protocols, control: Protocols) -> Result<u16, Mismatch> {
    if machine.newest < control.oldest {
        return Err(Mismatch::MachineTooOld { machine, control });
    }
    if control.newest < machine.oldest {
        return Err(Mismatch::ControlTooOld { machine, control });
    }
    Ok(machine.newest.min(control.newest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn protocols(oldest: u16, newest: u16) -> Protocols {
        Protocols::new(oldest, newest).unwrap()
    }

    #[test]
    fn neighbours_talk_and_others_are_told_who_is_to_be_upgraded() {
        let (first, second, third) = (protocols(1, 1), protocols(1, 2), protocols(2, 3));
        assert_eq!(agree(first, second), Ok(1));
        assert_eq!(agree(second, first), Ok(1));
        assert_eq!(agree(second, third), Ok(2));
        assert_eq!(agree(third, third), Ok(3));
        let told = agree(first, third).unwrap_err().to_string();
        assert!(told.contains("1-1 and control 2-3: install control's version"), "{told}");
        let told = agree(third, first).unwrap_err().to_string();
        assert!(told.contains("2-3 and control 1-1: upgrade control first"), "{told}");
    }

    #[test]
    fn this_build_speaks_the_protocol_before_its_own_too() {
        let Protocols { oldest, newest } = Protocols::HERE;
        assert_eq!(oldest + 1, newest);
    }

    #[test]
    fn who_names_none_is_older_than_the_numbers_and_who_names_nonsense_is_not_understood() {
        assert_eq!(Protocols::named(None), Ok(protocols(1, 1)));
        assert_eq!(Protocols::named(Some(b"2-3")), Ok(protocols(2, 3)));
        for nonsense in ["", "2", "0-1", "3-2", "1-2-3", "1-99999", "a-b", " 1-2"] {
            assert_eq!(
                Protocols::named(Some(nonsense.as_bytes())),
                Err(NotProtocols),
                "{nonsense}"
            );
        }
        assert_eq!(Protocols::named(Some(b"\xff-2")), Err(NotProtocols));
    }

    proptest! {
        #[test]
        fn two_agree_on_what_both_speak_or_on_who_is_behind(a in 1u16..9, b in 0u16..4, c in 1u16..9, d in 0u16..4) {
            let (machine, control) = (protocols(a, a + b), protocols(c, c + d));
            prop_assert_eq!(machine.to_string().parse(), Ok(machine));
            let both = |spoken: &u16| {
                (a..=a + b).contains(spoken) && (c..=c + d).contains(spoken)
            };
            match agree(machine, control) {
                Ok(spoken) => prop_assert!(both(&spoken) && !(spoken + 1..20).any(|next| both(&next))),
                Err(Mismatch::MachineTooOld { .. }) => prop_assert!(a + b < c),
                Err(Mismatch::ControlTooOld { .. }) => prop_assert!(c + d < a),
            }
        }
    }
}
