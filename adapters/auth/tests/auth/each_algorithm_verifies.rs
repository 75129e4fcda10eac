//! Tokens of all algorithms: minted here, signed by npm's `jose`, and those of RFC 7515.

use crate::material::*;
use fanfare_auth::{Algorithm, Issuer, Key, MintingKey, Refusal, Secret, key_set, mint};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

const FAMILIES: [(&str, &[Algorithm]); 4] = [
    (
        "rsa",
        &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512],
    ),
    ("p256", &[Algorithm::ES256]),
    ("p384", &[Algorithm::ES384]),
    ("ed25519", &[Algorithm::EdDSA]),
];
const HMACS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

fn header(algorithm: Algorithm) -> String {
    json!({ "alg": algorithm }).to_string()
}

#[test]
fn what_a_private_key_signs_its_public_key_verifies_and_no_other() {
    for (family, algorithms) in FAMILIES {
        let verifier = verifier_of(vec![issuer(public(&format!("{family}-a")))]);
        for algorithm in algorithms {
            let signed_by =
                |name: &str| token_of(&header(*algorithm), &claims().to_string(), *algorithm, &private(name));
            assert_eq!(user(&verifier, &signed_by(&format!("{family}-a"))).as_deref(), Ok("alice"), "{algorithm:?}");
            if family != "p384" {
                let foreign = signed_by(&format!("{family}-b"));
                assert_eq!(verify(&verifier, &foreign), Err(Refusal::BadSignature), "{algorithm:?}");
            }
        }
    }
}

#[test]
fn a_secret_verifies_what_it_signed_with_each_hash_and_another_does_not() {
    for algorithm in HMACS {
        let key = EncodingKey::from_secret(secret().expose()).unwrap();
        let token = token_of(&header(algorithm), &claims().to_string(), algorithm, &key);
        assert_eq!(user(&verifier(), &token).as_deref(), Ok("alice"), "{algorithm:?}");
        let other = verifier_of(vec![issuer(Key::secret(&other_secret()).unwrap())]);
        assert_eq!(verify(&other, &token), Err(Refusal::BadSignature), "{algorithm:?}");
    }
}

#[test]
fn minted_tokens_verify_and_name_their_key() {
    for name in ["p256-a", "p384-a", "ed25519-a"] {
        let key = MintingKey::pem(&Secret::new(file(&format!("keys/{name}.private.pem")))).unwrap().named("first");
        let token = mint(&claims(), &key).unwrap();
        let under = |kid: &str| verifier_of(vec![issuer(public(name).named(kid))]);
        assert_eq!(user(&under("first"), &token).as_deref(), Ok("alice"), "{name}");
        assert_eq!(verify(&under("second"), &token), Err(Refusal::UnknownKey), "{name}");
    }
    assert_eq!(user(&verifier(), &token(&claims())).as_deref(), Ok("alice"));
}

#[test]
fn tokens_of_jose_verify_by_its_key_set_and_only_unchanged() {
    let vectors = vectors("tokens");
    let mut keys = key_set(vectors["jwks"].to_string().as_bytes()).unwrap();
    assert_eq!(keys.len(), 4);
    keys.push(Key::secret(&Secret::new(vectors["secret"].as_str().unwrap())).unwrap().named("secret"));
    let verifier = verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)]);
    let tokens = vectors["tokens"].as_object().unwrap();
    assert_eq!(tokens.len(), 12);
    for (algorithm, token) in tokens {
        let token = token.as_str().unwrap();
        let identity = verify(&verifier, &Secret::new(token)).expect(algorithm);
        assert_eq!((identity.user.as_str(), identity.token_id.as_deref()), ("alice", Some("t-1")));
        let other_claims = token.replacen(".eyJp", ".eyJq", 1);
        assert_ne!(other_claims, token);
        assert!(verify(&verifier, &Secret::new(other_claims)).is_err(), "{algorithm}");
    }
}

/// RFC 7515, appendices A.1 and A.3.
#[test]
fn the_examples_of_rfc_7515_verify() {
    let secret = json!({ "kty": "oct",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" });
    let point = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let examples = [
        (secret, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        (
            point,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (jwk, header, signature) in examples {
        let keys = key_set(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        let names = fanfare_auth::ClaimNames { user: "iss".into(), ..Default::default() };
        let verifier = verifier_of(vec![Issuer::named("joe", keys)]).claim_names(names);
        let token = Secret::new(format!("{header}.{payload}.{signature}"));
        assert_eq!(verify_at(&verifier, &token, 1_300_819_379_000).map(|identity| identity.user).as_deref(), Ok("joe"));
        assert_eq!(verify(&verifier, &token), Err(Refusal::Expired));
    }
}

#[test]
fn keys_without_a_name_are_tried_in_turn_but_not_many_of_them() {
    let mut keys: Vec<Key> = (0..3).map(|_| Key::secret(&other_secret()).unwrap()).collect();
    // Keys that are for other algorithms do not count.
    keys.extend(std::iter::repeat_with(|| public("p256-a")).take(9));
    keys.push(Key::secret(&secret()).unwrap());
    let all = |keys: Vec<Key>| verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)]);
    assert_eq!(user(&all(keys.clone()), &token(&claims())).as_deref(), Ok("alice"));
    keys.insert(0, Key::secret(&other_secret()).unwrap());
    assert_eq!(verify(&all(keys), &token(&claims())), Err(Refusal::BadSignature));
}

#[test]
fn a_name_selects_the_key_and_is_not_looked_at_where_the_operator_gave_none() {
    let named = |kid: Value| signed(&json!({ "alg": "HS256", "kid": kid }).to_string(), &claims().to_string());
    let keys = vec![Key::secret(&other_secret()).unwrap().named("1"), Key::secret(&secret()).unwrap().named("2")];
    let verifier_of_two = verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)]);
    assert_eq!(verify(&verifier_of_two, &named("1".into())), Err(Refusal::BadSignature));
    assert_eq!(user(&verifier_of_two, &named("2".into())).as_deref(), Ok("alice"));
    assert_eq!(verify(&verifier_of_two, &named("3".into())), Err(Refusal::UnknownKey));
    assert_eq!(verify(&verifier_of_two, &named(2.into())), Err(Refusal::Malformed));
    assert_eq!(user(&verifier_of_two, &token(&claims())).as_deref(), Ok("alice"));
    assert_eq!(user(&verifier(), &named("3".into())).as_deref(), Ok("alice"));
}
