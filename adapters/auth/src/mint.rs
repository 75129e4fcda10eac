//! Tokens for trying, and for tests: `fanfare token`.
//! A server that signs in users mints its own.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::rust_crypto::DEFAULT_PROVIDER};
use serde_json::{Value, json};

use crate::error::SetupError;
use crate::key::Key;
use crate::secret::Secret;

/// A key that signs: a secret (HS256) or a private key of P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
#[derive(Clone)]
pub struct MintingKey {
    name: Option<String>,
    algorithm: Algorithm,
    material: EncodingKey,
}

impl MintingKey {
    /// A secret, for HS256. What could not verify does not sign.
    pub fn secret(secret: &Secret) -> Result<Self, SetupError> {
        Key::secret(secret)?;
        let material = EncodingKey::from_secret(secret.expose()).map_err(|_| SetupError::NotForMinting)?;
        Ok(Self { name: None, algorithm: Algorithm::HS256, material })
    }

    /// A private key as PEM in PKCS#8 (`BEGIN PRIVATE KEY`). RSA is not taken: for trying, others are as good.
    pub fn pem(text: &Secret) -> Result<Self, SetupError> {
        let text = text.expose();
        let material = EncodingKey::from_ec_pem(text).or_else(|_| EncodingKey::from_ed_pem(text));
        let material = material.map_err(|_| SetupError::NotForMinting)?;
        let algorithm = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]
            .into_iter()
            .find(|one| (DEFAULT_PROVIDER.signer_factory)(one, &material).is_ok())
            .ok_or(SetupError::NotForMinting)?;
        Ok(Self { name: None, algorithm, material })
    }

    /// Puts this `kid` into tokens.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl fmt::Debug for MintingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintingKey")
            .field("name", &self.name)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A token with these claims, as they are.
pub fn mint(claims: &Value, key: &MintingKey) -> Result<Secret, SetupError> {
    let mut header = json!({ "typ": "JWT", "alg": key.algorithm });
    if let Some(name) = &key.name {
        header["kid"] = name.as_str().into();
    }
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encoded(&header), encoded(claims));
    let signer = (DEFAULT_PROVIDER.signer_factory)(&key.algorithm, &key.material);
    let signature = signer.map_err(|_| SetupError::NotForMinting)?.try_sign(message.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature.map_err(|_| SetupError::NotForMinting)?);
    Ok(Secret::new(format!("{message}.{signature}")))
}
