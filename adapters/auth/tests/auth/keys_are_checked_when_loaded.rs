//! A key that could not be used, or should not, is refused at the start, and one in a key set is passed over.

use crate::material::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_auth::{Algorithm, Issuer, Key, MintingKey, Refusal, Secret, SetupError, key_set};
use serde_json::{Value, json};

fn keys(of: Vec<Value>) -> Vec<Key> {
    key_set(json!({ "keys": of }).to_string().as_bytes()).unwrap()
}

fn jwk(kid: &str) -> Value {
    let vectors = vectors("tokens");
    vectors["jwks"]["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == kid).unwrap().clone()
}

fn jwk_with(kid: &str, member: &str, value: Value) -> Value {
    let mut jwk = jwk(kid);
    jwk[member] = value;
    jwk
}

fn token_by_rsa() -> Secret {
    token_of(r#"{"alg":"RS256"}"#, &claims().to_string(), Algorithm::RS256, &private("rsa-a"))
}

#[test]
fn secrets_are_long_and_no_public_keys() {
    assert_eq!(Key::secret(&Secret::new("x".repeat(31))).err(), Some(SetupError::ShortSecret));
    assert!(Key::secret(&Secret::new("x".repeat(32))).is_ok());
    assert_eq!(Key::secret(&Secret::new(file("keys/rsa-a.public.pem"))).err(), Some(SetupError::PemAsSecret));
    assert_eq!(MintingKey::secret(&Secret::new("x".repeat(31))).err(), Some(SetupError::ShortSecret));
}

#[test]
fn pem_texts_hold_a_public_key_of_a_known_kind() {
    for (name, error) in [
        ("rsa-1024.public", SetupError::RsaSize),
        ("secp256k1.public", SetupError::Broken),
        ("rsa-a.private", SetupError::NotPublicPem),
        ("p256-a.private", SetupError::NotPublicPem),
        ("ed25519-a.private", SetupError::NotPublicPem),
    ] {
        assert_eq!(Key::pem(&file(&format!("keys/{name}.pem"))).err(), Some(error), "{name}");
    }
    assert_eq!(Key::pem("").err(), Some(SetupError::NotPublicPem));
    assert_eq!(
        Key::pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").err(),
        Some(SetupError::Broken)
    );
    let pkcs1 = Key::pem(&file("keys/rsa-a.pkcs1.pem")).unwrap();
    assert_eq!(user(&verifier_of(vec![issuer(pkcs1)]), &token_by_rsa()).as_deref(), Ok("alice"));
}

#[test]
fn a_key_is_narrowed_to_its_own_algorithms_alone() {
    assert_eq!(public("rsa-a").only(&[Algorithm::HS256, Algorithm::ES256]).err(), Some(SetupError::NoAlgorithm));
    assert_eq!(public("p256-a").only(&[]).err(), Some(SetupError::NoAlgorithm));
    assert!(public("p256-a").only(&[Algorithm::RS256, Algorithm::ES256]).is_ok());
}

#[test]
fn what_mints_is_a_secret_or_a_private_key_other_than_rsa() {
    for name in ["rsa-a.private", "p256-a.public"] {
        let text = Secret::new(file(&format!("keys/{name}.pem")));
        assert_eq!(MintingKey::pem(&text).err(), Some(SetupError::NotForMinting), "{name}");
    }
}

#[test]
fn a_key_set_is_an_object_with_an_array_of_keys() {
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "{\"keys\":[[[[[[]]]]]]}"] {
        assert_eq!(key_set(text.as_bytes()).err(), Some(SetupError::NoKeySet), "{text}");
    }
    assert!(key_set(br#"{"keys":[1,null,"x",[],{}]}"#).unwrap().is_empty());
}

#[test]
fn keys_in_a_set_are_for_signatures() {
    for (member, value) in [
        ("use", json!("enc")),
        ("use", json!(null)),
        ("key_ops", json!(["encrypt", "wrapKey"])),
        ("key_ops", json!([])),
        ("key_ops", json!("verify")),
        ("alg", json!("RSA-OAEP-256")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!(null)),
        ("kid", json!(1)),
        ("issuer", json!(1)),
        ("kty", json!("EC")),
        ("n", json!("AQAB")),
        ("n", json!("not base64")),
        ("e", json!("AQ")),
        ("e", json!("")),
        ("e", json!("Ag")),
    ] {
        assert!(keys(vec![jwk_with("rsa-a", member, value.clone())]).is_empty(), "{member}: {value}");
    }
    for (member, value) in
        [("use", json!("sig")), ("key_ops", json!(["verify"])), ("alg", json!("RS256")), ("x5t", json!(1))]
    {
        let verifier =
            verifier_of(vec![Issuer::named(ISSUER, keys(vec![jwk_with("rsa-a", member, value)])).audience(AUDIENCE)]);
        assert_eq!(user(&verifier, &token_by_rsa()).as_deref(), Ok("alice"));
    }
}

#[test]
fn an_algorithm_in_a_set_is_the_only_one_of_its_key() {
    let keys = keys(vec![jwk_with("rsa-a", "alg", json!("PS256"))]);
    let verifier = verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)]);
    assert_eq!(verify(&verifier, &token_by_rsa()), Err(Refusal::WrongAlgorithm));
}

#[test]
fn points_and_bytes_of_a_wrong_length_or_beside_the_curve_are_no_keys() {
    let encoded = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
    for (kid, member, value) in [
        ("p256-a", "x", encoded(&[1; 31])),
        ("p256-a", "x", encoded(&[1; 33])),
        ("p256-a", "y", encoded(&[1; 32])),
        ("p256-a", "crv", json!("P-384")),
        ("p256-a", "crv", json!("secp256k1")),
        ("p384-a", "y", encoded(&[1; 48])),
        ("ed25519-a", "x", encoded(&[1; 31])),
        ("ed25519-a", "x", encoded(&[])),
        ("ed25519-a", "x", encoded(&[1; 33])),
        ("ed25519-a", "crv", json!("X25519")),
    ] {
        assert_eq!(keys(vec![jwk(kid)]).len(), 1, "{kid}");
        assert!(keys(vec![jwk_with(kid, member, value.clone())]).is_empty(), "{kid} {member}: {value}");
    }
}

#[test]
fn a_key_that_names_an_issuer_verifies_no_other_ones_tokens() {
    for (named, outcome) in [(ISSUER, Ok("alice")), ("https://other.example", Err(Refusal::UnknownKey))] {
        let keys = keys(vec![jwk_with("rsa-a", "issuer", named.into())]);
        for issuer in [Issuer::named(ISSUER, keys.clone()), Issuer::unnamed(keys)] {
            let verifier = verifier_of(vec![issuer.audience(AUDIENCE)]);
            assert_eq!(user(&verifier, &token_by_rsa()), outcome.map(str::to_owned), "{named}");
        }
    }
}
