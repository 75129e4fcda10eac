//! The service: every request is answered once and by its method, and no method keeps another one waiting.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{
    Algorithm, Callback, CallbackOptions, CookieKind, Identity, Issuer, Key, Methods, Options, Refusal, RemoteKeys,
    Request, Secret, Service, SessionMethod, SessionStore, Sessions, Source, StoredSession, Unavailable, cookie,
};
use fanfare_tests::{DEADLINE, eventually};
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Outcome = Result<Identity, Refusal>;

/// A service and what it answers.
struct Asked {
    service: Service<u32>,
    answers: Receiver<(u32, Outcome)>,
}

impl Asked {
    fn new(methods: Methods, options: Options) -> Self {
        Self::at(methods, options, || NOW)
    }

    fn at(methods: Methods, options: Options, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let (sender, answers) = mpsc::channel();
        let deliver = move |tag, outcome| drop(sender.send((tag, outcome)));
        Self { service: Service::start(methods, options, deliver, clock).unwrap(), answers }
    }

    fn ask(&self, tag: u32, source: Source, credential: &Secret) -> Result<(), u32> {
        self.service.ask(Request {
            tag,
            source,
            credential: credential.clone(),
            is_known: false,
            from: None,
            headers: Vec::new(),
        })
    }

    fn next(&self) -> (u32, Outcome) {
        self.answers.recv_timeout(DEADLINE).expect("an answer")
    }

    fn user(&self, source: Source, credential: &Secret) -> Result<String, Refusal> {
        self.ask(0, source, credential).expect("there is room");
        Ok(self.next().1?.user)
    }
}

/// A store that tells when it is asked, and answers when it is told to: with nothing, or by a panic.
struct Held {
    asked: Sender<()>,
    go: Mutex<Receiver<&'static str>>,
}

impl SessionStore for Held {
    fn session(&self, _: &Secret) -> Result<Option<StoredSession>, Unavailable> {
        let _ = self.asked.send(());
        match self.go.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv() {
            Ok("panic") => panic!("as this test wants"),
            _ => Ok(None),
        }
    }
}

/// Sessions in such a store: their method, when it is asked, and how it is told.
fn held() -> (SessionMethod, Receiver<()>, Sender<&'static str>) {
    let (asked, when_asked) = mpsc::channel();
    let (tell, go) = mpsc::channel();
    let store = Box::new(Held { asked, go: Mutex::new(go) });
    (SessionMethod { sessions: express(), store }, when_asked, tell)
}

fn express() -> Sessions {
    Sessions::new(vec![Secret::new("the new secret")]).unwrap()
}

/// The cookie of the vector, which is alice's.
fn session_cookie() -> Secret {
    let vectors = vectors("sessions");
    cookie(vectors["passport"]["cookie"].as_str().unwrap().as_bytes(), "connect.sid").unwrap()
}

fn nothing() -> Methods {
    Methods { tokens: None, sessions: None, callback: None, cookie_holds: CookieKind::Session }
}

fn callback_at(endpoint: &Endpoint) -> Option<Callback> {
    Some(Callback::new(&endpoint.url(), CallbackOptions::default()).unwrap())
}

fn known_as(user: &str) -> Endpoint {
    Endpoint::new(Answer::of(200, json!({ "user": user })))
}

/// A store in which every key leads to one session.
struct Always(&'static str);

impl SessionStore for Always {
    fn session(&self, _: &Secret) -> Result<Option<StoredSession>, Unavailable> {
        let text = json!({ "passport": { "user": self.0 } }).to_string().into_bytes();
        Ok(Some(StoredSession { text, left_ms: Some(1_000) }))
    }
}

const TOKEN_SOURCES: [Source; 4] = [Source::Header, Source::Query, Source::Subprotocol, Source::Command];

#[test]
fn each_source_is_verified_by_its_method() {
    let endpoint = known_as("carol");
    let sessions = || Some(SessionMethod { sessions: express(), store: Box::new(Always("bob")) });
    let asked = |methods| Asked::new(methods, Options::default());
    let (token, cookie, none) = (token(&claims()), session_cookie(), Secret::new(""));

    let all = Methods { tokens: Some(verifier()), sessions: sessions(), callback: callback_at(&endpoint), ..nothing() };
    let all = asked(all);
    for source in TOKEN_SOURCES {
        assert_eq!(all.user(source, &token).as_deref(), Ok("alice"), "{source:?}");
    }
    assert_eq!(all.user(Source::Cookie, &cookie).as_deref(), Ok("bob"));
    assert_eq!(all.user(Source::Cookie, &token), Err(Refusal::Malformed));
    assert_eq!(endpoint.requests(), 0);
    assert_eq!(all.user(Source::Request, &none).as_deref(), Ok("carol"));

    let in_cookies = asked(Methods { tokens: Some(verifier()), cookie_holds: CookieKind::Token, ..nothing() });
    assert_eq!(in_cookies.user(Source::Cookie, &token).as_deref(), Ok("alice"));
    assert_eq!(in_cookies.user(Source::Request, &none), Err(Refusal::NoCredential));

    let callback_alone = asked(Methods { callback: callback_at(&endpoint), ..nothing() });
    for source in [&TOKEN_SOURCES[..], &[Source::Cookie, Source::Request]].concat() {
        assert_eq!(callback_alone.user(source, &token).as_deref(), Ok("carol"), "{source:?}");
    }

    let sessions_alone = asked(Methods { sessions: sessions(), ..nothing() });
    for source in [&TOKEN_SOURCES[..], &[Source::Request]].concat() {
        assert_eq!(sessions_alone.user(source, &token), Err(Refusal::NoCredential), "{source:?}");
    }
    assert_eq!(asked(nothing()).user(Source::Header, &token), Err(Refusal::NoCredential));
}

#[test]
fn what_was_looked_up_is_looked_up_again_by_its_renewal_and_a_token_has_none() {
    let endpoint = known_as("carol");
    let sessions = Some(SessionMethod { sessions: express(), store: Box::new(Always("bob")) });
    let methods = Methods { tokens: Some(verifier()), sessions, callback: callback_at(&endpoint), ..nothing() };
    let asked = Asked::new(methods, Options::default());
    for (source, credential, user) in
        [(Source::Cookie, session_cookie(), "bob"), (Source::Request, Secret::new(""), "carol")]
    {
        asked.ask(1, source, &credential).unwrap();
        let mut identity = asked.next().1.unwrap();
        for _ in 0..3 {
            asked.ask(2, Source::Renewal, &identity.renewal.clone().unwrap()).unwrap();
            let again = asked.next().1.unwrap();
            assert_eq!((again.user.as_str(), &again.renewal), (user, &identity.renewal));
            identity = again;
        }
    }
    asked.ask(3, Source::Header, &token(&claims())).unwrap();
    assert_eq!(asked.next().1.unwrap().renewal, None);
    for none in ["", "X", "Salice", "Cx", "Cx:y", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
        assert_eq!(asked.user(Source::Renewal, &Secret::new(none)), Err(Refusal::Malformed), "{none}");
    }
    assert_eq!(endpoint.requests(), 4);
}

#[test]
fn every_request_that_was_taken_is_answered_once() {
    let endpoint = known_as("carol");
    let sessions = Some(SessionMethod { sessions: express(), store: Box::new(Always("bob")) });
    let methods = Methods { tokens: Some(verifier()), sessions, callback: callback_at(&endpoint), ..nothing() };
    let options = Options { queue_max: 8, lookup_threads: 2, ..Options::default() };
    let asked = Asked::new(methods, options);
    let credentials = [
        (Source::Header, token(&claims())),
        (Source::Header, Secret::new("x")),
        (Source::Cookie, session_cookie()),
        (Source::Request, Secret::new("")),
        (Source::Renewal, Secret::new("")),
    ];
    let mut taken = HashMap::new();
    let mut refused = 0;
    for tag in 0..5_000_u32 {
        let (source, credential) = &credentials[tag as usize % credentials.len()];
        match asked.ask(tag, *source, credential) {
            Ok(()) => drop(taken.insert(tag, 0)),
            Err(back) => {
                assert_eq!(back, tag);
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !taken.is_empty(), "{refused} {}", taken.len());
    // All senders of answers are gone when the last thread is.
    drop(asked.service);
    while let Ok((tag, _)) = asked.answers.recv_timeout(DEADLINE) {
        *taken.get_mut(&tag).expect("it was taken") += 1;
    }
    assert!(taken.values().all(|answers| *answers == 1));
}

#[test]
fn a_method_that_panics_answers_and_goes_on() {
    let (sessions, when_asked, tell) = held();
    let options = Options { lookup_threads: 1, ..Options::default() };
    let asked = Asked::new(Methods { sessions: Some(sessions), ..nothing() }, options);
    for (tag, how, refusal) in
        [(1, "panic", Refusal::Unavailable), (2, "", Refusal::NoSession), (3, "panic", Refusal::Unavailable)]
    {
        asked.ask(tag, Source::Cookie, &session_cookie()).unwrap();
        when_asked.recv_timeout(DEADLINE).unwrap();
        tell.send(how).unwrap();
        assert_eq!(asked.next(), (tag, Err(refusal)));
    }
}

#[test]
fn a_callback_that_never_answers_keeps_no_token_and_no_session_waiting() {
    let silent = Endpoint::new(Answer::Silence);
    let options = CallbackOptions { time_max: Duration::from_secs(600), ..CallbackOptions::default() };
    let callback = Some(Callback::new(&silent.url(), options).unwrap());
    let sessions = Some(SessionMethod { sessions: express(), store: Box::new(Always("bob")) });
    let methods = Methods { tokens: Some(verifier()), sessions, callback, ..nothing() };
    let asked = Asked::new(methods, Options { lookup_threads: 2, queue_max: 4, ..Options::default() });
    let mut taken = 0;
    eventually("two are asked and four wait", || {
        taken += u32::from(asked.ask(9, Source::Request, &Secret::new("")).is_ok());
        (taken == 6).then_some(())
    });
    assert_eq!(asked.ask(9, Source::Request, &Secret::new("")), Err(9));
    for _ in 0..20 {
        assert_eq!(asked.user(Source::Header, &token(&claims())).as_deref(), Ok("alice"));
        assert_eq!(asked.user(Source::Cookie, &session_cookie()).as_deref(), Ok("bob"));
    }
    eventually("two are asked", || (silent.requests() == 2).then_some(()));
    silent.say(Answer::of(401, ""));
    silent.hang_up();
    let mut answers: Vec<_> = (0..taken).map(|_| asked.next().1.unwrap_err()).collect();
    answers.sort_by_key(|refusal| refusal.is_ours());
    assert_eq!(answers.iter().filter(|refusal| refusal.is_ours()).count(), 2, "{answers:?}");
}

#[test]
fn keys_that_do_not_come_keep_no_other_issuers_token_waiting() {
    let silent = Endpoint::new(Answer::Silence);
    let remote = Issuer::named("https://silent.example", RemoteKeys::new(&silent.url()).unwrap());
    let tokens = Some(verifier_of(vec![issuer(Key::secret(&secret()).unwrap()), remote]));
    let asked = Asked::new(Methods { tokens, ..nothing() }, Options { queue_max: 64, ..Options::default() });
    let of_silent = token(&json!({ "iss": "https://silent.example", "sub": "alice" }));
    for _ in 0..32 {
        asked.ask(9, Source::Header, &of_silent).unwrap();
    }
    for _ in 0..20 {
        asked.ask(1, Source::Header, &token(&claims())).unwrap();
        assert_eq!(asked.next().0, 1, "before any of the others");
    }
    silent.hang_up();
    for _ in 0..32 {
        assert_eq!(asked.next(), (9, Err(Refusal::Unavailable)));
    }
    assert_eq!(asked.service.troubles()[0].of, "issuer https://silent.example");
    assert_eq!(silent.requests(), 1);
}

#[test]
fn an_issuer_that_hangs_keeps_no_new_key_of_another_one_waiting() {
    let published = Endpoint::new(Answer::of(200, json!({ "keys": [jwk("p256-a", "1")] })));
    let silent = Endpoint::new(Answer::Silence);
    let remote = |name: &str, endpoint: &Endpoint| Issuer::named(name, RemoteKeys::new(&endpoint.url()).unwrap());
    let issuers = vec![remote(ISSUER, &published).audience(AUDIENCE), remote("https://silent.example", &silent)];
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    let methods = Methods { tokens: Some(verifier_of(issuers)), ..nothing() };
    let asked = Asked::at(methods, Options::default(), move || clock.load(Ordering::SeqCst));
    assert_eq!(asked.user(Source::Header, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
    eventually("the other one does not answer", || (silent.requests() == 1).then_some(()));
    let of_silent = token(&json!({ "iss": "https://silent.example", "sub": "alice" }));
    for _ in 0..100 {
        asked.ask(9, Source::Header, &of_silent).unwrap();
    }
    published.say(Answer::of(200, json!({ "keys": [jwk("p256-a", "1"), jwk("ed25519-a", "2")] })));
    now.fetch_add(30_000, Ordering::SeqCst);
    asked.ask(1, Source::Header, &token_by("ed25519-a", "2")).unwrap();
    let (tag, outcome) = asked.next();
    assert_eq!((tag, outcome.map(|identity| identity.user).as_deref()), (1, Ok("alice")), "before any of the others");
    silent.hang_up();
    assert!((0..100).all(|_| asked.next() == (9, Err(Refusal::Unavailable))));
}

#[test]
fn a_flood_of_unknown_kids_makes_one_request_in_thirty_seconds() {
    let published = Endpoint::new(Answer::of(200, json!({ "keys": [jwk("p256-a", "1")] })));
    let remote = Issuer::named(ISSUER, RemoteKeys::new(&published.url()).unwrap()).audience(AUDIENCE);
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    let methods = Methods { tokens: Some(verifier_of(vec![remote])), ..nothing() };
    let asked = Asked::at(methods, Options::default(), move || clock.load(Ordering::SeqCst));
    // At the start they are fetched by themselves, and once.
    eventually("they are fetched", || (published.requests() == 1).then_some(()));
    assert_eq!(asked.user(Source::Header, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
    for round in 0..3 {
        for one in 0..200 {
            let unknown = token_by("p256-b", &format!("{round} {one}"));
            asked.ask(one, Source::Header, &unknown).unwrap();
        }
        for _ in 0..200 {
            assert_eq!(asked.next().1, Err(Refusal::UnknownKey));
        }
        assert_eq!(published.requests(), 1 + round);
        now.fetch_add(30_000, Ordering::SeqCst);
    }
}

#[test]
fn an_unknown_kid_that_may_not_be_asked_for_waits_for_no_other_issuers_keys() {
    let published = Endpoint::new(Answer::of(200, json!({ "keys": [jwk("p256-a", "1")] })));
    let silent = Endpoint::new(Answer::Silence);
    let remote = |name: &str, endpoint: &Endpoint| Issuer::named(name, RemoteKeys::new(&endpoint.url()).unwrap());
    let issuers = vec![remote(ISSUER, &published).audience(AUDIENCE), remote("https://silent.example", &silent)];
    let asked = Asked::new(Methods { tokens: Some(verifier_of(issuers)), ..nothing() }, Options::default());
    eventually("one has answered, and the other one not", || (silent.requests() == 1).then_some(()));
    let of_silent = token(&json!({ "iss": "https://silent.example", "sub": "alice" }));
    for _ in 0..8 {
        asked.ask(9, Source::Header, &of_silent).unwrap();
    }
    for one in 0..20 {
        asked.ask(1, Source::Header, &token_by("p256-b", &format!("unknown {one}"))).unwrap();
        assert_eq!(asked.next(), (1, Err(Refusal::UnknownKey)));
    }
    assert_eq!(published.requests(), 1);
    silent.hang_up();
    assert!((0..8).all(|_| asked.next() == (9, Err(Refusal::Unavailable))));
}

#[test]
fn keys_that_are_old_are_fetched_beside_the_tokens_that_need_them() {
    let published = Endpoint::new(Answer::of(200, json!({ "keys": [jwk("p256-a", "1")] })));
    let remote = Issuer::named(ISSUER, RemoteKeys::new(&published.url()).unwrap()).audience(AUDIENCE);
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    let methods = Methods { tokens: Some(verifier_of(vec![remote])), ..nothing() };
    let asked = Asked::at(methods, Options::default(), move || clock.load(Ordering::SeqCst));
    let undated = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "alice" });
    let token = token_of(r#"{"alg":"ES256","kid":"1"}"#, &undated.to_string(), Algorithm::ES256, &private("p256-a"));
    assert_eq!(asked.user(Source::Header, &token).as_deref(), Ok("alice"));
    published.say(Answer::Silence);
    now.fetch_add(600_000, Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(asked.user(Source::Header, &token).as_deref(), Ok("alice"));
    }
    eventually("they are asked for", || (published.requests() == 2).then_some(()));
    published.say(Answer::of(200, json!({ "keys": [] })));
    published.hang_up();
    eventually("that failed", || (!asked.service.troubles().is_empty()).then_some(()));
    now.fetch_add(30_000, Ordering::SeqCst);
    eventually("the key was withdrawn", || {
        (asked.user(Source::Header, &token) == Err(Refusal::UnknownKey)).then_some(())
    });
    assert_eq!(published.requests(), 3);
}

#[test]
fn who_has_waited_too_long_is_answered_without_work() {
    let (sessions, when_asked, tell) = held();
    let patience = Duration::from_secs(1);
    let options = Options { lookup_threads: 1, patience, ..Options::default() };
    let asked = Asked::new(Methods { sessions: Some(sessions), ..nothing() }, options);
    asked.ask(1, Source::Cookie, &session_cookie()).unwrap();
    when_asked.recv_timeout(DEADLINE).unwrap();
    asked.ask(2, Source::Cookie, &session_cookie()).unwrap();
    let waits = Instant::now();
    eventually("its patience ends", || (waits.elapsed() > patience).then_some(()));
    tell.send("").unwrap();
    assert_eq!(asked.next(), (1, Err(Refusal::NoSession)));
    assert_eq!(asked.next(), (2, Err(Refusal::Unavailable)));
    assert!(when_asked.try_recv().is_err(), "it was looked up");
}

#[test]
fn dropping_the_last_waits_for_nobody_who_hangs_and_answers_who_waits() {
    let (sessions, when_asked, tell) = held();
    let options = Options { lookup_threads: 1, ..Options::default() };
    let asked = Asked::new(Methods { sessions: Some(sessions), ..nothing() }, options);
    let clone = asked.service.clone();
    asked.ask(1, Source::Cookie, &session_cookie()).unwrap();
    when_asked.recv_timeout(DEADLINE).unwrap();
    asked.ask(2, Source::Cookie, &session_cookie()).unwrap();
    drop(clone);
    // It would never end, if it waited for the one that is being looked up.
    drop(asked.service);
    tell.send("").unwrap();
    let answers = &asked.answers;
    assert_eq!(answers.recv_timeout(DEADLINE), Ok((1, Err(Refusal::NoSession))));
    assert_eq!(answers.recv_timeout(DEADLINE), Ok((2, Err(Refusal::Unavailable))));
    assert!(answers.recv_timeout(DEADLINE).is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn an_answer_may_drop_the_last() {
    let kept: Arc<Mutex<Option<Service<u32>>>> = Arc::default();
    let (sender, answers) = mpsc::channel();
    let count = Arc::new(AtomicUsize::new(0));
    let (of_answer, counter) = (kept.clone(), count.clone());
    let deliver = move |_, _: Outcome| {
        counter.fetch_add(1, Ordering::SeqCst);
        let last = of_answer.lock().unwrap().take();
        drop(last);
        let _ = sender.send(());
    };
    let methods = Methods { tokens: Some(verifier()), ..nothing() };
    let service = Service::start(methods, Options::default(), deliver, || NOW).unwrap();
    let mut place = kept.lock().unwrap();
    service
        .ask(Request {
            tag: 1,
            source: Source::Header,
            credential: token(&claims()),
            is_known: false,
            from: None,
            headers: Vec::new(),
        })
        .unwrap();
    *place = Some(service);
    drop(place);
    answers.recv_timeout(DEADLINE).unwrap();
    assert!(answers.recv_timeout(DEADLINE).is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}
