//! A key and the algorithms that it is for, which are fixed before any token is seen (RFC 8725 §3.1).
//! Keys are checked when they are loaded, so that verifying cannot fail for reasons of the key.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto::rust_crypto::DEFAULT_PROVIDER};

use crate::error::SetupError;
use crate::secret::Secret;

/// Half of SHA-512 and all of SHA-256 (RFC 7518 §3.2). From one token, a shorter secret can be guessed without asking anybody.
const SECRET_BYTES_MIN: usize = 32;

/// RFC 7518 §3.3.
const RSA_BITS_MIN: usize = 2048;

/// The work of a verification grows with the square, and more is not in use.
const RSA_BITS_MAX: usize = 4096;

/// A key that verifies signatures.
#[derive(Clone)]
pub struct Key {
    name: Option<String>,
    issuer: Option<String>,
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

impl Key {
    /// A secret for HS256, HS384 and HS512. A PEM text is refused, because a public key is no secret.
    pub fn secret(secret: &Secret) -> Result<Self, SetupError> {
        let bytes = secret.expose();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SetupError::ShortSecret);
        }
        if bytes.windows(5).any(|part| part == b"-----") {
            return Err(SetupError::PemAsSecret);
        }
        let material = DecodingKey::from_secret(bytes).map_err(|_| SetupError::ShortSecret)?;
        Ok(Self::of(material, AlgorithmFamily::Hmac.algorithms()))
    }

    /// A public key as PEM: RSA of 2,048 to 4,096 bits (for RS and PS), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
    pub fn pem(text: &str) -> Result<Self, SetupError> {
        if !text.contains("-----BEGIN PUBLIC KEY-----") && !text.contains("-----BEGIN RSA PUBLIC KEY-----") {
            return Err(SetupError::NotPublicPem);
        }
        let text = text.as_bytes();
        // Each of these takes its own kind of key alone.
        if let Ok(key) = DecodingKey::from_ec_pem(text) {
            Self::ec(key.try_get_as_bytes().map_err(|_| SetupError::Broken)?)
        } else if let Ok(key) = DecodingKey::from_ed_pem(text) {
            Self::ed(key.try_get_as_bytes().map_err(|_| SetupError::Broken)?)
        } else {
            let key = DecodingKey::from_rsa_pem(text).map_err(|_| SetupError::Broken)?;
            let der = key.try_get_as_bytes().map_err(|_| SetupError::Broken)?;
            let (n, e) =
                (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der).map_err(|_| SetupError::Broken)?;
            Self::rsa(&n, &e)
        }
    }

    /// This key under a name, the `kid` of tokens.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// This key for these of its algorithms alone.
    pub fn only(mut self, algorithms: &[Algorithm]) -> Result<Self, SetupError> {
        self.algorithms.retain(|one| algorithms.contains(one));
        if self.algorithms.is_empty() { Err(SetupError::NoAlgorithm) } else { Ok(self) }
    }

    /// This key for tokens that name this issuer alone.
    pub(crate) fn of_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// The modulus and the exponent, big-endian.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, SetupError> {
        let n = without_zeros(n);
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(SetupError::RsaSize);
        }
        // An exponent of 1 would make every signature its own proof. More than 64 bits nobody has, and they cost time.
        let e = without_zeros(e);
        if e == [1] || e.len() > 8 || e.last().is_none_or(|last| last % 2 == 0) {
            return Err(SetupError::Broken);
        }
        Ok(Self::of(DecodingKey::from_rsa_raw_components(n, e), AlgorithmFamily::Rsa.algorithms()))
    }

    /// A point, uncompressed (SEC 1 §2.3.3): 4, x, y. Its length is its curve's.
    pub(crate) fn ec(point: &[u8]) -> Result<Self, SetupError> {
        let algorithm = match point.len() {
            65 => Algorithm::ES256,
            97 => Algorithm::ES384,
            _ => return Err(SetupError::Unsupported),
        };
        Self::of(DecodingKey::from_ec_der(point), &[algorithm]).checked()
    }

    /// The 32 bytes of an Ed25519 key.
    pub(crate) fn ed(bytes: &[u8]) -> Result<Self, SetupError> {
        // The library would panic at fewer.
        if bytes.len() != 32 {
            return Err(SetupError::Broken);
        }
        Self::of(DecodingKey::from_ed_der(bytes), &[Algorithm::EdDSA]).checked()
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it may verify tokens of this issuer.
    pub(crate) fn is_of(&self, issuer: Option<&str>) -> bool {
        self.issuer.is_none() || self.issuer.as_deref() == issuer
    }

    /// Whether the signature, as it stands in a token, is by this key. `None` if the key is not for the algorithm.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        if !self.algorithms.contains(&algorithm) {
            return None;
        }
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return Some(false) };
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &self.material);
        Some(verifier.is_ok_and(|verifier| verifier.verify(message, &signature).is_ok()))
    }

    fn of(material: DecodingKey, algorithms: &[Algorithm]) -> Self {
        Self { name: None, issuer: None, algorithms: algorithms.to_vec(), material }
    }

    /// Whether the library takes it, asked once.
    fn checked(self) -> Result<Self, SetupError> {
        let is_taken =
            self.algorithms.iter().all(|one| (DEFAULT_PROVIDER.verifier_factory)(one, &self.material).is_ok());
        if is_taken { Ok(self) } else { Err(SetupError::Broken) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}
