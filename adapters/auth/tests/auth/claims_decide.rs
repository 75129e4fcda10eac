//! What a token that is truly signed says: for whom, from when until when, about whom, and what it grants.

use crate::material::*;
use fanfare_auth::{ClaimNames, Grants, INFO_BYTES_MAX, Info, Issuer, Key, Refusal, Secret, USER_BYTES_MAX, Verifier};
use serde_json::{Value, json};

const SECONDS: u64 = NOW / 1000;

fn without_audience() -> Verifier {
    verifier_of(vec![Issuer::named(ISSUER, Key::secret(&secret()).unwrap())])
}

#[track_caller]
fn expect(claims: &Value, outcome: Result<&str, Refusal>) {
    assert_eq!(user(&verifier(), &token(claims)), outcome.map(str::to_owned), "{claims}");
}

#[test]
fn all_of_it_reaches_the_identity() {
    let grants = json!({ "subscribe": ["a:*"], "publish": ["b"], "history": ["c", "**"], "presence": [], "join": ["d"], "more": 1 });
    let identity = verify(&verifier(), &token(&claims_with("grants", grants))).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(identity.user, "alice");
    assert_eq!(
        identity.grants,
        Grants {
            subscribe: texts(&["a:*"]),
            publish: texts(&["b"]),
            history: texts(&["c", "**"]),
            presence: texts(&[])
        }
    );
    assert_eq!(identity.join, texts(&["d"]));
    assert_eq!(identity.expires_ms, Some(NOW + 60_000 + 30_000));
    assert_eq!(identity.issued_ms, Some(NOW - 30_000));
    assert_eq!(identity.token_id.as_deref(), Some("t-1"));
}

#[test]
fn what_a_token_leaves_out_is_not_made_up() {
    let claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "alice" });
    let identity = verify_at(&verifier(), &token(&claims), u64::MAX).unwrap();
    assert_eq!(identity.grants, Grants::default());
    assert_eq!((identity.expires_ms, identity.issued_ms, identity.token_id), (None, None, None));
    assert_eq!(identity.info, None);
}

#[test]
fn it_is_valid_until_its_end_and_the_leeway_and_not_a_millisecond_longer() {
    let token = token(&claims());
    for (leeway_ms, last) in [(0, NOW + 59_999), (30_000, NOW + 89_999)] {
        let verifier = verifier_of(vec![issuer(Key::secret(&secret()).unwrap()).leeway_ms(leeway_ms)]);
        assert!(verify_at(&verifier, &token, last).is_ok());
        assert_eq!(verify_at(&verifier, &token, last + 1), Err(Refusal::Expired));
        assert_eq!(verify_at(&verifier, &token, last).unwrap().expires_ms, Some(last + 1));
    }
}

#[test]
fn it_is_valid_from_its_beginning_less_the_leeway() {
    for claim in ["nbf", "iat"] {
        let token = token(&claims_with(claim, (SECONDS + 40).into()));
        assert_eq!(verify_at(&verifier(), &token, NOW + 9_999), Err(Refusal::NotYetValid), "{claim}");
        assert!(verify_at(&verifier(), &token, NOW + 10_000).is_ok(), "{claim}");
    }
}

#[test]
fn a_clock_that_is_ahead_puts_no_token_after_a_ban() {
    for (leeway_ms, ahead_s) in [(0, 0), (30_000, 30)] {
        let verifier = verifier_of(vec![issuer(Key::secret(&secret()).unwrap()).leeway_ms(leeway_ms)]);
        let latest = token(&claims_with("iat", (SECONDS + ahead_s).into()));
        assert_eq!(verify(&verifier, &latest).unwrap().issued_ms, Some(NOW), "no later than it was shown");
    }
    let ancient = token(&claims_with("iat", 1.into()));
    assert_eq!(verify(&verifier(), &ancient).unwrap().issued_ms, Some(0));
}

#[test]
fn times_are_numbers_of_seconds() {
    expect(&claims_with("exp", json!(SECONDS as f64 + 0.5)), Ok("alice"));
    for claim in ["exp", "nbf", "iat"] {
        for value in [json!("1700000060"), json!(null), json!([1]), json!(-1), json!(true)] {
            expect(&claims_with(claim, value), Err(Refusal::Malformed));
        }
    }
    for huge in [json!(u64::MAX), json!(1e300)] {
        expect(&claims_with("exp", huge.clone()), Ok("alice"));
        expect(&claims_with("nbf", huge), Err(Refusal::NotYetValid));
    }
    expect(&claims_with("exp", 0.into()), Err(Refusal::Expired));
}

#[test]
fn it_is_for_one_of_our_audiences() {
    expect(&claims_with("aud", json!(["other", AUDIENCE])), Ok("alice"));
    for foreign in
        [json!("other"), json!("Fanfare"), json!([]), json!(["other"]), json!([[AUDIENCE]]), json!(null), json!(1)]
    {
        expect(&claims_with("aud", foreign), Err(Refusal::WrongAudience));
    }
    expect(&claims_without("aud"), Err(Refusal::WrongAudience));
}

#[test]
fn with_no_audience_configured_it_may_be_for_nobody_else_either() {
    assert_eq!(user(&without_audience(), &token(&claims_without("aud"))).as_deref(), Ok("alice"));
    assert_eq!(verify(&without_audience(), &token(&claims())), Err(Refusal::WrongAudience));
}

#[test]
fn an_unnamed_issuer_takes_what_no_named_one_does() {
    let verifier = verifier_of(vec![
        Issuer::named("https://second.example", Key::secret(&other_secret()).unwrap()).audience(AUDIENCE),
        Issuer::unnamed(Key::secret(&secret()).unwrap()).audience(AUDIENCE),
    ]);
    assert_eq!(user(&verifier, &token(&claims())).as_deref(), Ok("alice"));
    assert_eq!(user(&verifier, &token(&claims_without("iss"))).as_deref(), Ok("alice"));
    let of_the_named = token(&claims_with("iss", "https://second.example".into()));
    assert_eq!(verify(&verifier, &of_the_named), Err(Refusal::BadSignature));
}

#[test]
fn two_issuers_have_two_names() {
    let twice = || issuer(Key::secret(&secret()).unwrap());
    assert!(Verifier::new(vec![twice(), twice()]).is_err());
    assert!(Verifier::new(vec![]).is_err());
}

#[test]
fn a_user_is_any_text_and_stays_what_it_is() {
    for code in (0..=0x2ff).chain([0x2028, 0xfeff, 0xffff, 0x1f600, 0x10ffff]) {
        let Some(character) = char::from_u32(code) else { continue };
        let name = character.to_string();
        expect(&claims_with("sub", name.clone().into()), Ok(&name));
    }
    for name in ["*", "**", "a:b", "{user}", "%2a", "..", " alice ", "user:bob\r\nX: y", "a\0b", "sess:x"] {
        expect(&claims_with("sub", name.into()), Ok(name));
    }
    // Every byte that is no text by itself, unescaped.
    for byte in 0x80..=0xff_u8 {
        let payload = [br#"{"iss":"https://id.example","aud":"fanfare","sub":""#.as_slice(), &[byte], b"\"}"].concat();
        assert_eq!(verify(&verifier(), &signed_bytes(&payload)), Err(Refusal::Malformed), "{byte:#x}");
    }
}

fn signed_bytes(payload: &[u8]) -> Secret {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let key = jsonwebtoken::EncodingKey::from_secret(secret().expose()).unwrap();
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, fanfare_auth::Algorithm::HS256).unwrap();
    Secret::new(format!("{message}.{signature}"))
}

#[test]
fn who_has_no_name_is_no_user() {
    for value in
        [json!(""), json!(null), json!(true), json!(1.5), json!(["alice"]), json!({ "a": 1 }), json!("x".repeat(256))]
    {
        expect(&claims_with("sub", value), Err(Refusal::NoUser));
    }
    expect(&claims_without("sub"), Err(Refusal::NoUser));
    let longest = "x".repeat(USER_BYTES_MAX);
    expect(&claims_with("sub", longest.clone().into()), Ok(&longest));
    expect(&claims_with("sub", 42.into()), Ok("42"));
}

#[test]
fn user_grants_and_info_may_have_other_names() {
    let names =
        ClaimNames { user: "https://example.com/user".into(), grants: "fanfare".into(), info: "profile".into() };
    let mut claims = claims_without("sub");
    claims["https://example.com/user"] = "bob".into();
    claims["fanfare"] = json!({ "join": ["a"] });
    (claims["profile"], claims["info"]) = (json!("Bob"), json!("not this one"));
    let identity = verify(&verifier().claim_names(names), &token(&claims)).unwrap();
    assert_eq!((identity.user.as_str(), identity.join.as_slice()), ("bob", ["a".to_owned()].as_slice()));
    assert_eq!(identity.info, Some(Info::Told("\"Bob\"".to_owned())));
}

#[test]
fn grants_that_are_no_lists_of_texts_are_refused_and_not_passed_over() {
    for grants in [
        json!("a"),
        json!(["a"]),
        json!(null),
        json!({ "publish": "a" }),
        json!({ "join": [1] }),
        json!({ "history": null }),
    ] {
        expect(&claims_with("grants", grants), Err(Refusal::BadGrants));
    }
}

#[test]
fn an_info_is_any_value_that_is_not_too_long() {
    let info = |value: Value| verify(&verifier(), &token(&claims_with("info", value))).unwrap().info;
    let nested = json!({ "name": "Alice\n\u{2028}", "tags": ["a", { "b": [] }], "age": 4.5 });
    let Some(Info::Told(text)) = info(nested.clone()) else { panic!("it is short") };
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), nested);
    assert!(!text.contains(['\n', ' ']), "{text}");
    for (value, text) in [(json!(false), "false"), (json!(0), "0"), (json!(""), "\"\""), (json!({}), "{}")] {
        assert_eq!(info(value), Some(Info::Told(text.to_owned())));
    }
    assert_eq!(info(json!(null)), None);
    // The quotes count as well.
    let longest = "é".repeat(INFO_BYTES_MAX / 2 - 1);
    assert_eq!(info(json!(longest)), Some(Info::Told(format!("\"{longest}\""))));
    assert_eq!(info(json!(longest + "x")), Some(Info::TooLong));
}

#[test]
fn a_token_id_is_a_text() {
    expect(&claims_with("jti", 1.into()), Err(Refusal::Malformed));
    expect(&claims_without("jti"), Ok("alice"));
}
