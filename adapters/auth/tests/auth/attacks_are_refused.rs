//! Tokens that somebody made who may not: RFC 8725 §2, and what parsers are fooled with.

use crate::material::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_auth::{Algorithm, Issuer, Key, Refusal, Secret, TOKEN_BYTES_MAX};
use jsonwebtoken::EncodingKey;
use serde_json::json;

#[track_caller]
fn expect(token: &Secret, refusal: Refusal) {
    assert_eq!(verify(&verifier(), token), Err(refusal));
}

#[test]
fn without_a_signature() {
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm }).to_string());
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
        expect(&Secret::new(format!("{header}.{payload}.")), Refusal::WrongAlgorithm);
    }
    let valid = String::from_utf8(token(&claims()).expose().to_vec()).unwrap();
    let (message, _) = valid.rsplit_once('.').unwrap();
    expect(&Secret::new(format!("{message}.")), Refusal::BadSignature);
}

#[test]
fn signed_with_a_public_key_as_if_it_were_a_secret() {
    for name in ["rsa-a", "p256-a", "p384-a", "ed25519-a"] {
        let pem = file(&format!("keys/{name}.public.pem"));
        let public_only = verifier_of(vec![issuer(public(name))]);
        // Beside a secret too, which has the right algorithms.
        let keys = vec![public(name), Key::secret(&secret()).unwrap()];
        let both = verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)]);
        for material in [pem.as_bytes(), pem.trim_end().as_bytes()] {
            let key = EncodingKey::from_secret(material).unwrap();
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let header = json!({ "alg": algorithm }).to_string();
                let token = token_of(&header, &claims().to_string(), algorithm, &key);
                assert_eq!(verify(&public_only, &token), Err(Refusal::WrongAlgorithm), "{name}");
                assert_eq!(verify(&both, &token), Err(Refusal::BadSignature), "{name}");
            }
        }
    }
}

#[test]
fn by_an_algorithm_that_the_key_is_not_for() {
    let only = Key::secret(&secret()).unwrap().only(&[Algorithm::HS512]).unwrap();
    assert_eq!(verify(&verifier_of(vec![issuer(only)]), &token(&claims())), Err(Refusal::WrongAlgorithm));
    let rsa = public("rsa-a").only(&[Algorithm::PS256]).unwrap();
    let token = token_of(r#"{"alg":"RS256"}"#, &claims().to_string(), Algorithm::RS256, &private("rsa-a"));
    assert_eq!(verify(&verifier_of(vec![issuer(rsa)]), &token), Err(Refusal::WrongAlgorithm));
}

#[test]
fn of_one_issuer_by_the_key_of_another() {
    let second = "https://second.example";
    let verifier = verifier_of(vec![
        issuer(Key::secret(&secret()).unwrap().named("k")),
        Issuer::named(second, Key::secret(&other_secret()).unwrap().named("k")).audience(AUDIENCE),
    ]);
    let payload = claims_with("iss", second.into()).to_string();
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"k"}"#] {
        assert_eq!(verify(&verifier, &signed(header, &payload)), Err(Refusal::BadSignature));
    }
    let own = token_of(
        r#"{"alg":"HS256","kid":"k"}"#,
        &payload,
        Algorithm::HS256,
        &EncodingKey::from_secret(other_secret().expose()).unwrap(),
    );
    assert_eq!(user(&verifier, &own).as_deref(), Ok("alice"));
}

#[test]
fn of_an_issuer_that_is_not_trusted_or_not_one() {
    for name in ["https://id.example/", "HTTPS://ID.EXAMPLE", "https://id.exampl", "", "\0"] {
        expect(&token(&claims_with("iss", name.into())), Refusal::WrongIssuer);
    }
    expect(&token(&claims_without("iss")), Refusal::WrongIssuer);
    for not_a_text in [json!([ISSUER]), json!({ ISSUER: 1 }), json!(null), json!(1)] {
        expect(&token(&claims_with("iss", not_a_text)), Refusal::Malformed);
    }
}

#[test]
fn too_large_before_anything_is_read() {
    let filled = |length: usize| token(&claims_with("fill", "x".repeat(length).into()));
    let mut fits = 0;
    for length in 5_000..7_000 {
        let token = filled(length);
        if token.expose().len() <= TOKEN_BYTES_MAX {
            assert_eq!(user(&verifier(), &token).as_deref(), Ok("alice"));
            fits = length;
        } else {
            expect(&token, Refusal::TooLarge);
            break;
        }
    }
    assert!(fits > 5_000);
    expect(&Secret::new(vec![b'.'; TOKEN_BYTES_MAX + 1]), Refusal::TooLarge);
    expect(&Secret::new(vec![b'.'; 100 << 20]), Refusal::TooLarge);
}

#[test]
fn deep() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let payload = |depth: usize| claims().to_string().replacen('{', &format!("{{\"x\":{},", nested(depth)), 1);
    assert_eq!(user(&verifier(), &signed(r#"{"alg":"HS256"}"#, &payload(7))).as_deref(), Ok("alice"));
    expect(&signed(r#"{"alg":"HS256"}"#, &payload(8)), Refusal::Malformed);
    expect(&signed(r#"{"alg":"HS256"}"#, &payload(2_500)), Refusal::Malformed);
    expect(&signed(&format!("{{\"alg\":\"HS256\",\"x\":{}}}", nested(2_500)), "{}"), Refusal::Malformed);
}

#[test]
fn with_a_member_twice() {
    let header = r#"{"alg":"HS256"}"#;
    for twice in
        [r#""sub":"bob""#, r#""\u0073ub":"bob""#, r#""exp":9999999999"#, r#""grants":{"join":[],"join":["a"]}"#]
    {
        let payload = claims().to_string().replacen('{', &format!("{{{twice},"), 1);
        expect(&signed(header, &payload), Refusal::Malformed);
    }
    expect(&signed(r#"{"alg":"none","alg":"HS256"}"#, &claims().to_string()), Refusal::Malformed);
}

#[test]
fn truncated_anywhere_or_continued() {
    let whole = token(&claims());
    for length in 0..whole.expose().len() {
        let result = verify(&verifier(), &Secret::new(&whole.expose()[..length]));
        assert!(matches!(result, Err(Refusal::Malformed | Refusal::BadSignature)), "{length}: {result:?}");
    }
    for more in ["A", "=", ".", ".x", "\n", " ", "\0"] {
        assert!(verify(&verifier(), &Secret::new([whole.expose(), more.as_bytes()].concat())).is_err(), "{more:?}");
        assert!(verify(&verifier(), &Secret::new([more.as_bytes(), whole.expose()].concat())).is_err(), "{more:?}");
    }
}

#[test]
fn with_a_key_of_its_own_in_the_header() {
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(other_secret().expose()) });
    let key = EncodingKey::from_secret(other_secret().expose()).unwrap();
    for header in [
        json!({ "alg": "HS256", "jwk": jwk }),
        json!({ "alg": "HS256", "jku": "http://127.0.0.1:1/" }),
        json!({ "alg": "HS256", "x5u": "http://127.0.0.1:1/", "x5c": ["MIIB"] }),
    ] {
        let token = token_of(&header.to_string(), &claims().to_string(), Algorithm::HS256, &key);
        expect(&token, Refusal::BadSignature);
    }
}

#[test]
fn with_extensions_that_must_be_understood() {
    for header in [
        json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        json!({ "alg": "HS256", "crit": [] }),
    ] {
        expect(&signed(&header.to_string(), &claims().to_string()), Refusal::Malformed);
    }
}

#[test]
fn of_another_type() {
    let typed = |of: &str| signed(&json!({ "alg": "HS256", "typ": of }).to_string(), &claims().to_string());
    for of in ["logout+jwt", "secevent+jwt", "dpop+jwt", "JOSE", ""] {
        expect(&typed(of), Refusal::WrongType);
    }
    for of in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert_eq!(user(&verifier(), &typed(of)).as_deref(), Ok("alice"), "{of}");
    }
}

#[test]
fn that_is_no_token_at_all() {
    let long = "a".repeat(1000);
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.e30", "null", "Bearer x", "\u{1F600}.a.b", &long] {
        expect(&Secret::new(text), Refusal::Malformed);
    }
    expect(&Secret::new(b"\xff\xfe.\x00.\x80".as_slice()), Refusal::Malformed);
    expect(&signed(r#"{"alg":["HS256"]}"#, &claims().to_string()), Refusal::Malformed);
    expect(&signed("{}", &claims().to_string()), Refusal::Malformed);
    expect(&signed(r#"{"alg":"HS256"}"#, "\"alice\""), Refusal::Malformed);
}
