//! How are private keys kept at rest?
//!
//! Sealed with AES-256-GCM under a key that is in a file, never in the database: who has the
//! database alone, or a backup of it, can impersonate nobody. What a secret is for is part of the
//! seal, so that no row's secret can stand in for another's.

use std::{fs, io, path::Path, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::random::random;

/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// Before every sealed text: what follows is hex of the nonce and the sealed bytes.
const PREFIX: &str = "sealed1:";

/// The key that opens what the database holds; cheap to clone.
#[derive(Clone)]
pub(crate) struct Seal(Arc<LessSafeKey>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

/// Why the key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read the key file {file}; restore it, or set secrets.key_file")]
    Read { file: String, source: io::Error },
    #[error("cannot write the key file {file}")]
    Write { file: String, source: io::Error },
    #[error(
        "the key file {file} does not hold 64 hex digits; restore it, or for a new control remove it"
    )]
    Form { file: String },
}

/// A secret that this key does not open.
#[derive(Debug, thiserror::Error)]
#[error("the key file does not open the secret of {purpose}; it belongs to another database")]
pub struct WrongKey {
    purpose: String,
}

impl Seal {
    /// Reads the key in `file`: 64 hex digits. A file that is not there is made when `may_create`.
    pub(crate) fn open(file: &Path, may_create: bool) -> Result<Self, KeyFileError> {
        let shown = || file.display().to_string();
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                let text = hex(&random::<KEY_BYTES>());
                nigh_durable::write_secret(file, format!("{text}\n").as_bytes())
                    .map_err(|source| KeyFileError::Write { file: shown(), source })?;
                text
            }
            Err(source) => return Err(KeyFileError::Read { file: shown(), source }),
        };
        let bytes: Option<[u8; KEY_BYTES]> =
            unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self::new).ok_or_else(|| KeyFileError::Form { file: shown() })
    }

    pub(crate) fn new(key: [u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("a key of 32 bytes is one");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// Text for the database that only [`reveal`](Self::reveal) with the same purpose turns back.
    pub(crate) fn seal(&self, purpose: &str, secret: &str) -> String {
        let nonce = random::<NONCE_LEN>();
        let mut sealed = secret.as_bytes().to_vec();
        let aad = Aad::from(purpose.as_bytes());
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("secrets are far shorter than AES-GCM's limit");
        format!("{PREFIX}{}{}", hex(&nonce), hex(&sealed))
    }

    pub(crate) fn reveal(&self, purpose: &str, text: &str) -> Result<String, WrongKey> {
        let wrong = || WrongKey { purpose: purpose.to_owned() };
        let bytes = text.strip_prefix(PREFIX).and_then(unhex).ok_or_else(wrong)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut sealed = sealed.to_vec();
        let aad = Aad::from(purpose.as_bytes());
        let plain = self.0.open_in_place(nonce, aad, &mut sealed).map_err(|_| wrong())?;
        String::from_utf8(plain.to_vec()).map_err(|_| wrong())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_back_only_with_its_key_and_purpose() {
        let (seal, other) = (Seal::new([1; 32]), Seal::new([2; 32]));
        let sealed = seal.seal("certificate site:docs", "key");
        assert!(!sealed.contains("key"));
        assert_eq!(seal.reveal("certificate site:docs", &sealed).unwrap(), "key");
        assert!(seal.reveal("certificate site:blog", &sealed).is_err());
        assert!(other.reveal("certificate site:docs", &sealed).is_err());
        assert_ne!(seal.seal("certificate site:docs", "key"), sealed, "every nonce is new");
    }

    #[test]
    fn damaged_text_is_refused() {
        let seal = Seal::new([1; 32]);
        let sealed = seal.seal("a", "secret");
        for cut in 0..sealed.len() {
            assert!(seal.reveal("a", &sealed[..cut]).is_err());
        }
        assert!(seal.reveal("a", "sealed1:zz").is_err());
        assert!(seal.reveal("a", "plain text").is_err());
    }

    #[test]
    fn the_key_file_is_made_once_and_only_where_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret.key");
        assert!(matches!(Seal::open(&file, false), Err(KeyFileError::Read { .. })));
        let sealed = Seal::open(&file, true).unwrap().seal("a", "secret");
        assert_eq!(Seal::open(&file, false).unwrap().reveal("a", &sealed).unwrap(), "secret");
        fs::write(&file, "not a key").unwrap();
        assert!(matches!(Seal::open(&file, true), Err(KeyFileError::Form { .. })));
    }
}
