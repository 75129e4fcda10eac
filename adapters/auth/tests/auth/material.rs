//! Keys, tokens and a verifier that takes them. All times are around `NOW`.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_auth::{Algorithm, Credential, Identity, Issuer, Key, MintingKey, Refusal, Secret, Source, Verifier, mint};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

/// 2023-11-14 22:13:20 UTC.
pub const NOW: u64 = 1_700_000_000_000;
pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "fanfare";

pub fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)).expect(path)
}

pub fn vectors(name: &str) -> Value {
    serde_json::from_str(&file(&format!("vectors/{name}.json"))).expect("JSON")
}

pub fn secret() -> Secret {
    Secret::new("the secret of the tests, which is no secret: 64 bytes and more...")
}

pub fn other_secret() -> Secret {
    Secret::new("another secret of the tests, which is no secret: 64 bytes and more")
}

pub fn public(name: &str) -> Key {
    Key::pem(&file(&format!("keys/{name}.public.pem"))).expect(name)
}

/// What a valid token says.
pub fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": NOW / 1000, "exp": NOW / 1000 + 60, "jti": "t-1" })
}

/// These claims with one of them another.
pub fn claims_with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

pub fn claims_without(claim: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

pub fn token(claims: &Value) -> Secret {
    mint(claims, &MintingKey::secret(&secret()).unwrap()).unwrap()
}

/// A token of these texts, whatever they are, under a true signature.
pub fn token_of(header: &str, payload: &str, algorithm: Algorithm, key: &EncodingKey) -> Secret {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    Secret::new(format!("{message}.{signature}"))
}

/// The same under HS256 and the secret.
pub fn signed(header: &str, payload: &str) -> Secret {
    token_of(header, payload, Algorithm::HS256, &EncodingKey::from_secret(secret().expose()).unwrap())
}

/// A private key, RSA too.
pub fn private(name: &str) -> EncodingKey {
    let pem = file(&format!("keys/{name}.private.pem"));
    let read = [EncodingKey::from_rsa_pem, EncodingKey::from_ec_pem, EncodingKey::from_ed_pem];
    read.into_iter().find_map(|read| read(pem.as_bytes()).ok()).expect(name)
}

/// A key as `jose` publishes it, under this name.
pub fn jwk(file: &str, kid: &str) -> Value {
    let vectors = vectors("tokens");
    let keys = vectors["jwks"]["keys"].as_array().unwrap().clone();
    let mut jwk = keys.into_iter().find(|jwk| jwk["kid"] == file).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

/// A token by a key of P-256 or Ed25519, which has years to live.
pub fn token_by(file: &str, kid: &str) -> Secret {
    let algorithm = if file.starts_with("p256") { Algorithm::ES256 } else { Algorithm::EdDSA };
    let header = json!({ "alg": algorithm, "kid": kid }).to_string();
    token_of(&header, &claims_without("exp").to_string(), algorithm, &private(file))
}

pub fn issuer(key: Key) -> Issuer {
    Issuer::named(ISSUER, key).audience(AUDIENCE)
}

pub fn verifier_of(issuers: Vec<Issuer>) -> Verifier {
    Verifier::new(issuers).unwrap()
}

/// Takes tokens under the secret.
pub fn verifier() -> Verifier {
    verifier_of(vec![issuer(Key::secret(&secret()).unwrap())])
}

pub fn verify_at(verifier: &Verifier, token: &Secret, now_ms: u64) -> Result<Identity, Refusal> {
    verifier.verify(&Credential::new(token.clone(), Source::Header), now_ms)
}

pub fn verify(verifier: &Verifier, token: &Secret) -> Result<Identity, Refusal> {
    verify_at(verifier, token, NOW)
}

/// The user of a token that is taken, or why it is not.
pub fn user(verifier: &Verifier, token: &Secret) -> Result<String, Refusal> {
    Ok(verify(verifier, token)?.user)
}
