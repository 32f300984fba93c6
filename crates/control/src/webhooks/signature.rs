//! How does a receiver know that a delivery is control's?
//!
//! As Standard Webhooks 1.0 says: HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>` with
//! the bytes of the secret, in base64, behind `v1,`.

use aws_lc_rs::hmac;

use crate::random::random;

const PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 32;

/// A new secret, to be shown once: `whsec_` and base64 of 32 random bytes.
pub(crate) fn new_secret() -> String {
    format!("{PREFIX}{}", base64(&random::<SECRET_BYTES>()))
}

/// The `webhook-signature` of one delivery. `None` when the secret is none of ours.
pub(crate) fn sign(secret: &str, id: &str, unix_s: i64, body: &[u8]) -> Option<String> {
    let key = unbase64(secret.strip_prefix(PREFIX)?)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{unix_s}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", base64(context.sign().as_ref())))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (group >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut group, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        group = group << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((group >> bits & 255) as u8);
        }
    }
    (base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signature_is_what_the_standard_computes() {
        // The example of the Standard Webhooks specification's reference libraries.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signature =
            sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn every_secret_is_another_and_can_sign() {
        let (one, two) = (new_secret(), new_secret());
        assert_ne!(one, two);
        assert_ne!(sign(&one, "a", 1, b""), sign(&two, "a", 1, b""));
        assert_eq!(sign("secret", "a", 1, b""), None);
    }

    proptest! {
        #[test]
        fn base64_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_base64_or_refused(text in ".{0,40}") {
            if let Some(bytes) = unbase64(&text) {
                prop_assert_eq!(base64(&bytes), text);
            }
        }
    }
}
