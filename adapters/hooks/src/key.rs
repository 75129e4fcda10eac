//! The secret that signs, and signatures after the Standard Webhooks specification: HMAC-SHA256 of id, time and body.

use crate::setup::SetupError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// What stands before a secret, so that scanners find one that has leaked.
const PREFIX: &str = "whsec_";
/// The bounds that the specification has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that endpoint and server share. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Reads it as the libraries for endpoints do: base 64, with or without `whsec_` before it, white space around it aside.
    ///
    /// # Errors
    /// It is something else, or too short or too long.
    pub fn read(text: &[u8]) -> Result<Self, SetupError> {
        let text = std::str::from_utf8(text).map_err(|_| SetupError::BadSecret)?.trim();
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| SetupError::BadSecret)?;
        if BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SetupError::BadSecret) }
    }

    /// The value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        let hmac = hmac.chain_update(format!("{id}.{timestamp_s}.")).chain_update(body);
        format!("v1,{}", STANDARD.encode(hmac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_as_the_specification_has_it() {
        // The example of the specification's own libraries.
        let key = SigningKey::read(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused_and_none_is_shown() {
        let read = |text: &str| SigningKey::read(text.as_bytes()).map(|key| format!("{key:?}"));
        let of = |bytes: usize| STANDARD.encode(vec![7; bytes]);
        assert_eq!((read(&of(24)), read(&of(64))), (Ok("SigningKey".to_owned()), Ok("SigningKey".to_owned())));
        for wrong in [&of(23), &of(65), "", "whsec_", "no base 64 at all, but long enough to be one"] {
            assert_eq!(read(wrong), Err(SetupError::BadSecret), "{wrong}");
        }
    }
}
