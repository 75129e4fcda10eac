//! JSON Web Key Sets (RFC 7517 §5): which of their keys verify signatures.
//! A key that cannot is passed over, as §5 asks for, so that one new kind of key does not shut everybody out.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::error::SetupError;
use crate::json;
use crate::key::Key;
use crate::secret::Secret;

/// The set, its array, a key, an array of it; and one more.
const DEPTH_MAX: usize = 5;

/// The keys for signatures in a key set out of the operator's own hands, a file for example. It may hold secrets (`oct`).
pub fn key_set(text: &[u8]) -> Result<Vec<Key>, SetupError> {
    Ok(keys_in(text)?.iter().filter_map(usable).collect())
}

/// Those in a key set that somebody publishes. What is published is no secret, so `oct` is passed over.
pub(crate) fn published_key_set(text: &[u8]) -> Result<Vec<Key>, SetupError> {
    Ok(keys_in(text)?.iter().filter(|jwk| text_of(jwk, "kty") != Some("oct")).filter_map(usable).collect())
}

fn keys_in(text: &[u8]) -> Result<Vec<Map<String, Value>>, SetupError> {
    let mut set = json::object(text, DEPTH_MAX).map_err(|_| SetupError::NoKeySet)?;
    let Some(Value::Array(keys)) = set.remove("keys") else { return Err(SetupError::NoKeySet) };
    let objects = keys.into_iter().filter_map(|key| if let Value::Object(key) = key { Some(key) } else { None });
    Ok(objects.collect())
}

/// The key, if it may verify signatures (§4.2, §4.3) by algorithms that are known (§4.4).
fn usable(jwk: &Map<String, Value>) -> Option<Key> {
    let is_for_signatures = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|one| one == "verify"),
        Some(_) => false,
    };
    if !is_for_signatures || !verifies {
        return None;
    }
    let mut key = match (text_of(jwk, "kty")?, text_of(jwk, "crv")) {
        ("oct", _) => Key::secret(&Secret::new(bytes_of(jwk, "k")?)),
        ("RSA", _) => Key::rsa(&bytes_of(jwk, "n")?, &bytes_of(jwk, "e")?),
        ("EC", Some("P-256")) => Key::ec(&point_of(jwk, 32)?),
        ("EC", Some("P-384")) => Key::ec(&point_of(jwk, 48)?),
        ("OKP", Some("Ed25519")) => Key::ed(&bytes_of(jwk, "x")?),
        _ => return None,
    }
    .ok()?;
    if let Some(algorithm) = jwk.get("alg") {
        key = key.only(&[algorithm.as_str()?.parse().ok()?]).ok()?;
    }
    if let Some(name) = jwk.get("kid") {
        key = key.named(name.as_str()?);
    }
    // Not in the RFC: issuers of many tenants publish one set for all of them.
    if let Some(issuer) = jwk.get("issuer") {
        key = key.of_issuer(issuer.as_str()?);
    }
    Some(key)
}

fn text_of<'a>(jwk: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    jwk.get(member)?.as_str()
}

fn bytes_of(jwk: &Map<String, Value>, member: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text_of(jwk, member)?).ok()
}

/// An uncompressed point out of coordinates that have their full length (RFC 7518 §6.2.1.2).
fn point_of(jwk: &Map<String, Value>, length: usize) -> Option<Vec<u8>> {
    let (x, y) = (bytes_of(jwk, "x")?, bytes_of(jwk, "y")?);
    (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
}
