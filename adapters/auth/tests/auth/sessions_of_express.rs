//! Cookies and sessions as `express-session` and `connect-redis` wrote them (`vectors/make.mjs`), and what others make of them.

use crate::material::*;
use fanfare_auth::{
    Credential, Identity, Info, Refusal, Secret, SessionStore, Sessions, SetupError, Source, StoredSession,
    Unavailable, cookie,
};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The store's answer by key, or an outage.
struct Store(Result<HashMap<Vec<u8>, Vec<u8>>, Unavailable>);

impl SessionStore for Store {
    fn session(&self, key: &Secret) -> Result<Option<StoredSession>, Unavailable> {
        let stored = self.0.as_ref().map(|sessions| sessions.get(key.expose()).map(|text| endless(text)));
        stored.map_err(|outage| *outage)
    }
}

/// A session that its store keeps until somebody removes it.
fn endless(text: &[u8]) -> StoredSession {
    StoredSession { text: text.to_vec(), left_ms: None }
}

/// 2026-11-28 15:48:34.796 UTC, when the session of `passport` ends.
const END: u64 = 1_795_880_914_796;

fn sessions() -> Sessions {
    sessions_under(&["the new secret", "the old secret"]).unwrap()
}

fn sessions_under(secrets: &[&str]) -> Result<Sessions, SetupError> {
    Sessions::new(secrets.iter().map(|one| Secret::new(*one)).collect())
}

/// What stands in the vectors, as texts: the cookie's field, the key, the session.
fn vector(name: &str) -> (String, String, String) {
    let vectors = vectors("sessions");
    let text = |member: &str| vectors[name][member].as_str().unwrap().to_owned();
    (text("cookie"), text("key"), text("text"))
}

fn found(field: &str, name: &str) -> Secret {
    cookie(field.as_bytes(), name).expect("a cookie of this name")
}

fn store_of(name: &str) -> Store {
    let (_, key, text) = vector(name);
    Store(Ok(HashMap::from([(key.into_bytes(), text.into_bytes())])))
}

fn verify_in(store: &Store, sessions: &Sessions, cookie: Secret, now_ms: u64) -> Result<Identity, Refusal> {
    sessions.verify(&Credential::new(cookie, Source::Cookie), store, now_ms)
}

#[test]
fn who_signed_in_by_passport_is_that_user_until_the_session_ends() {
    let (field, ..) = vector("passport");
    let field = format!("theme=dark; {field}; lang=en");
    let verify = |now_ms| verify_in(&store_of("passport"), &sessions(), found(&field, "connect.sid"), now_ms);
    let identity = verify(END - 1).unwrap();
    assert_eq!((identity.user.as_str(), identity.expires_ms), ("alice", Some(END)));
    assert_eq!((identity.issued_ms, identity.token_id), (None, None));
    assert_eq!(verify(END), Err(Refusal::Expired));
}

#[test]
fn the_key_is_the_one_that_connect_redis_stored_under() {
    for (name, cookie_name) in [("passport", "connect.sid"), ("numbered", "sid"), ("anonymous", "connect.sid")] {
        let (field, key, _) = vector(name);
        assert_eq!(sessions().key(&found(&field, cookie_name)).unwrap().expose(), key.as_bytes(), "{name}");
    }
    let (field, key, _) = vector("passport");
    let other = sessions().prefix("app:").key(&found(&field, "connect.sid")).unwrap();
    assert_eq!(other.expose(), key.replacen("sess:", "app:", 1).as_bytes());
}

#[test]
fn a_number_at_a_path_of_ones_own_is_a_user_and_a_browsers_session_has_no_end() {
    let (field, ..) = vector("numbered");
    let sessions = sessions().user_path("userId");
    let identity = verify_in(&store_of("numbered"), &sessions, found(&field, "sid"), u64::MAX).unwrap();
    assert_eq!((identity.user.as_str(), identity.expires_ms), ("42", None));
}

#[test]
fn a_session_of_nobody_names_no_user() {
    let (field, ..) = vector("anonymous");
    let verify = verify_in(&store_of("anonymous"), &sessions(), found(&field, "connect.sid"), NOW);
    assert_eq!(verify, Err(Refusal::NoUser));
}

#[test]
fn any_of_the_secrets_will_do_and_no_other() {
    let (field, ..) = vector("passport");
    let value = found(&field, "connect.sid");
    let under = |secrets: &[&str]| sessions_under(secrets).unwrap().key(&value);
    assert!(under(&["a", "b", "the new secret"]).is_ok());
    for secret in ["the old secret", "the new secret ", "s"] {
        assert_eq!(under(&[secret]).err(), Some(Refusal::BadSignature), "{secret}");
    }
    for secrets in [&[][..], &[""], &["the new secret", ""]] {
        assert_eq!(sessions_under(secrets).err(), Some(SetupError::NoSecret), "{secrets:?}");
    }
}

#[test]
fn a_session_that_is_not_there_and_a_store_that_is_not_there_are_told_apart() {
    let (field, ..) = vector("passport");
    let verify = |store: Store| verify_in(&store, &sessions(), found(&field, "connect.sid"), NOW);
    assert_eq!(verify(Store(Ok(HashMap::new()))), Err(Refusal::NoSession));
    assert_eq!(verify(Store(Err(Unavailable))), Err(Refusal::Unavailable));
}

#[test]
fn no_other_byte_in_a_cookie_is_taken() {
    let (field, ..) = vector("anonymous");
    let value = found(&field, "connect.sid").expose().to_vec();
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut changed = value.clone();
            changed[at] ^= 1 << bit;
            let refusal = sessions().key(&Secret::new(changed)).err();
            assert!(matches!(refusal, Some(Refusal::Malformed | Refusal::BadSignature)), "{at} {bit}");
        }
        assert!(sessions().key(&Secret::new(&value[..at])).is_err(), "{at}");
    }
    let unmarked = value.strip_prefix(b"s:").unwrap();
    assert_eq!(sessions().key(&Secret::new(unmarked)).err(), Some(Refusal::Malformed));
    for text in ["", "s:", "s:.", "s:x", "s:x.", "j:{}", &format!("s:{}", ".".repeat(4_000))] {
        assert!(sessions().key(&Secret::new(text)).is_err(), "{text}");
    }
    assert_eq!(sessions().key(&Secret::new("s:x".repeat(2_000))).err(), Some(Refusal::TooLarge));
}

#[test]
fn users_stand_where_the_path_says() {
    let user = |session: Value, path: &str| {
        let identity = sessions().user_path(path).identity(&endless(session.to_string().as_bytes()), NOW);
        identity.map(|identity| identity.user)
    };
    assert_eq!(user(json!({ "a": { "b": { "c": "x" } } }), "a.b.c").as_deref(), Ok("x"));
    assert_eq!(user(json!({ "a": -7 }), "a").as_deref(), Ok("-7"));
    for (session, path) in [
        (json!({ "a": { "b": {} } }), "a.b"),
        (json!({ "a": "x" }), "a.b"),
        (json!({ "a.b": "x" }), "a.b"),
        (json!({ "a": ["x"] }), "a.0"),
        (json!({ "a": "" }), "a"),
        (json!({ "": "x" }), "a"),
        (json!({}), ""),
    ] {
        assert_eq!(user(session.clone(), path), Err(Refusal::NoUser), "{session} {path}");
    }
}

#[test]
fn what_a_session_tells_others_stands_in_its_field_info() {
    let info = |more: Value| {
        let mut session = json!({ "passport": { "user": "alice" } });
        session.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sessions().identity(&endless(session.to_string().as_bytes()), NOW).unwrap().info
    };
    assert_eq!(info(json!({ "info": { "name": "Alice" } })), Some(Info::Told(r#"{"name":"Alice"}"#.to_owned())));
    assert_eq!((info(json!({})), info(json!({ "info": null }))), (None, None));
    assert_eq!(info(json!({ "info": "x".repeat(1023) })), Some(Info::TooLong));
}

#[test]
fn an_end_is_a_date_and_anything_else_is_no_session() {
    let outcome = |expires: Value| {
        let session = json!({ "cookie": { "expires": expires }, "passport": { "user": "alice" } });
        sessions().identity(&endless(session.to_string().as_bytes()), NOW).map(|identity| identity.expires_ms)
    };
    assert_eq!(outcome(json!("2023-11-14T22:13:20.001Z")), Ok(Some(NOW + 1)));
    assert_eq!(outcome(json!("2023-11-14T23:13:20.001+01:00")), Ok(Some(NOW + 1)));
    assert_eq!(outcome(json!("2023-11-14T22:13:20.000Z")), Err(Refusal::Expired));
    assert_eq!(outcome(json!("1969-12-31T00:00:00.000Z")), Err(Refusal::Expired));
    assert_eq!(outcome(json!(null)), Ok(None));
    assert_eq!(outcome(json!(false)), Ok(None));
    for not_a_date in [json!("tomorrow"), json!(""), json!(1), json!(true), json!({})] {
        assert_eq!(outcome(not_a_date.clone()), Err(Refusal::Malformed), "{not_a_date}");
    }
}

#[test]
fn the_stores_end_is_believed_before_the_texts() {
    // Express moves the store's end alone when an active user comes by.
    let ended = json!({ "cookie": { "expires": "2023-11-14T22:13:20.000Z" }, "passport": { "user": "alice" } });
    let outcome = |left_ms| {
        let stored = StoredSession { text: ended.to_string().into_bytes(), left_ms };
        sessions().identity(&stored, NOW).map(|identity| identity.expires_ms)
    };
    assert_eq!(outcome(Some(5)), Ok(Some(NOW + 5)));
    assert_eq!(outcome(Some(0)), Err(Refusal::Expired));
    assert_eq!(outcome(None), Err(Refusal::Expired));
}

#[test]
fn what_is_stored_is_bounded_and_is_json() {
    let identity = |text: &[u8]| sessions().identity(&endless(text), NOW);
    let padded = |length: usize| format!("{{\"passport\":{{\"user\":\"alice\"}}{}}}", " ".repeat(length - 30));
    assert!(identity(padded(256 * 1024).as_bytes()).is_ok());
    assert_eq!(identity(padded(256 * 1024 + 2).as_bytes()), Err(Refusal::TooLarge));
    for text in ["", "null", "[]", "{", r#"{"passport":{"user":"alice","user":"bob"}}"#] {
        assert_eq!(identity(text.as_bytes()), Err(Refusal::Malformed), "{text}");
    }
}
