//! Sessions in a real Redis, and an application of Express that puts them there by its real packages.

use crate::material::NOW;
use fanfare_auth::{
    CookieKind, Credential, Identity, Methods, Options, RedisPlace, RedisSessions, Refusal, Request, Secret, Service,
    SessionMethod, SessionStore, Sessions, SetupError, Source, Unavailable, cookie,
};
use fanfare_tests::{DEADLINE, Redis, eventually, free_port, run_node};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

const HOUR: u64 = 3_600_000;

fn sessions() -> Sessions {
    Sessions::new(vec![Secret::new("the new secret")]).unwrap()
}

fn at(redis: &Redis) -> RedisSessions {
    RedisSessions::new(RedisPlace::server(&Secret::new(redis.url())).unwrap())
}

/// The text of a session.
fn text(store: &RedisSessions, key: &str) -> Result<Option<String>, Unavailable> {
    let session = store.session(&Secret::new(key))?;
    Ok(session.map(|session| String::from_utf8(session.text).unwrap()))
}

/// An application of Express, until it is dropped.
struct App {
    port: u16,
    node: Option<JoinHandle<String>>,
}

impl App {
    fn start(redis: &Redis) -> Self {
        let (port, redis_port) = (free_port(), redis.port().to_string());
        let node =
            thread::spawn(move || run_node("tests/node/express_sessions.mjs", &[&redis_port, &port.to_string()], &[]));
        let app = Self { port, node: Some(node) };
        eventually("the application listens", || app.get("here", None));
        app
    }

    /// Who it says that this is, and the cookie that it sets.
    fn get(&self, path: &str, cookie: Option<&str>) -> Option<(String, Option<String>)> {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let request = cookie.into_iter().fold(ureq::get(url), |request, cookie| request.header("cookie", cookie));
        let mut answer = request.call().ok()?;
        let set = answer.headers().get("set-cookie").map(|field| field.to_str().unwrap().to_owned());
        let cookie = set.map(|field| field.split(';').next().unwrap().to_owned());
        Some((answer.body_mut().read_to_string().unwrap(), cookie))
    }

    fn sign_in(&self, user: &str) -> String {
        let (_, cookie) = self.get(&format!("login?user={user}"), None).expect("an answer");
        cookie.expect("a cookie")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // It may have ended already, which the thread tells.
        let _ = self.get("end", None);
        if let Some(Err(panic)) = self.node.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Whose session a `Cookie` names, at `NOW` by our clock.
fn whose(field: &str, store: &RedisSessions) -> Result<Identity, Refusal> {
    let value = cookie(field.as_bytes(), "connect.sid").expect("a cookie of this name");
    sessions().verify(&Credential::new(value, Source::Cookie), store, NOW)
}

fn key_of(field: &str) -> String {
    let key = sessions().key(&cookie(field.as_bytes(), "connect.sid").unwrap()).unwrap();
    String::from_utf8(key.expose().to_vec()).unwrap()
}

#[test]
fn who_signed_in_to_express_is_that_user_here_until_they_sign_out() {
    let redis = Redis::start();
    let (app, store) = (App::start(&redis), at(&redis));
    let (alice, bob) = (app.sign_in("alice"), app.sign_in("bob"));
    assert_eq!(app.get("here", Some(&alice)).unwrap().0, "alice");
    for (cookie, user) in [(&alice, "alice"), (&bob, "bob")] {
        let identity = whose(cookie, &store).unwrap();
        assert_eq!(identity.user, user);
        assert!(identity.expires_ms.is_some_and(|at| at > NOW + HOUR - 60_000 && at <= NOW + HOUR), "{identity:?}");
    }
    app.get("logout", Some(&alice)).unwrap();
    assert_eq!(whose(&alice, &store), Err(Refusal::NoSession));
    assert_eq!(whose(&bob, &store).unwrap().user, "bob");
    // Nobody who only came by has a session.
    assert_eq!(app.get("here", None).unwrap(), (String::new(), None));
}

#[test]
fn a_session_that_rolls_ends_later_although_its_text_stays_and_one_that_does_not_ends() {
    let redis = Redis::start();
    let (app, store) = (App::start(&redis), at(&redis));
    let alice = app.sign_in("alice");
    let key = key_of(&alice);
    // As if most of the hour had passed.
    assert_eq!(redis.cli(&["PEXPIRE", &key, "600000"]), "1");
    assert!(whose(&alice, &store).unwrap().expires_ms.is_some_and(|at| at <= NOW + 600_000));
    let before = text(&store, &key);
    assert_eq!(app.get("here", Some(&alice)).unwrap().0, "alice");
    eventually("the end has moved", || {
        whose(&alice, &store).unwrap().expires_ms.filter(|at| *at > NOW + HOUR - 60_000)
    });
    assert_eq!(text(&store, &key), before, "connect-redis writes no new text, so it tells the old end");
    assert_eq!(redis.cli(&["PEXPIRE", &key, "1"]), "1");
    eventually("it ends", || (whose(&alice, &store) == Err(Refusal::NoSession)).then_some(()));
}

#[test]
fn a_renewal_finds_the_session_as_it_is_by_then() {
    let redis = Redis::start();
    let app = App::start(&redis);
    let alice = app.sign_in("alice");
    let sessions = Some(SessionMethod { sessions: sessions(), store: Box::new(at(&redis)) });
    let methods = Methods { tokens: None, sessions, callback: None, cookie_holds: CookieKind::Session };
    let (sender, answers) = mpsc::channel();
    let deliver = move |(), outcome| drop(sender.send(outcome));
    let service = Service::start(methods, Options::default(), deliver, || NOW).unwrap();
    let ask = |source, credential: &Secret| -> Result<Identity, Refusal> {
        service
            .ask(Request {
                tag: (),
                source,
                credential: credential.clone(),
                is_known: false,
                from: None,
                headers: Vec::new(),
            })
            .unwrap();
        answers.recv_timeout(DEADLINE).expect("an answer")
    };
    let first = ask(Source::Cookie, &cookie(alice.as_bytes(), "connect.sid").unwrap()).unwrap();
    redis.cli(&["PEXPIRE", &key_of(&alice), "600000"]);
    let second = ask(Source::Renewal, &first.renewal.unwrap()).unwrap();
    assert_eq!(second.user, "alice");
    assert!(second.expires_ms < first.expires_ms, "{:?} {:?}", first.expires_ms, second.expires_ms);
    app.get("logout", Some(&alice)).unwrap();
    assert_eq!(ask(Source::Renewal, &second.renewal.unwrap()), Err(Refusal::NoSession));
}

#[test]
fn a_session_that_is_kept_for_ever_ends_when_its_text_says() {
    let redis = Redis::start();
    redis.cli(&["SET", "sess:a", r#"{"cookie":{"expires":"2023-11-14T22:13:21.000Z"},"passport":{"user":"alice"}}"#]);
    let stored = at(&redis).session(&Secret::new("sess:a")).unwrap().unwrap();
    assert_eq!(stored.left_ms, None);
    assert_eq!(sessions().identity(&stored, NOW).unwrap().expires_ms, Some(NOW + 1_000));
}

#[test]
fn no_more_is_read_than_is_looked_at() {
    let redis = Redis::start();
    redis.cli(&["SETRANGE", "sess:large", "10000000", "x"]);
    let stored = at(&redis).session(&Secret::new("sess:large")).unwrap().unwrap();
    assert_eq!(stored.text.len(), 256 * 1024 + 1);
    assert_eq!(sessions().identity(&stored, NOW), Err(Refusal::TooLarge));
}

#[test]
fn an_outage_is_no_missing_session_and_ends_by_itself() {
    let mut redis = Redis::start();
    let store = at(&redis);
    redis.cli(&["SET", "sess:a", "A"]);
    assert_eq!(text(&store, "sess:a").unwrap().as_deref(), Some("A"));
    assert_eq!(text(&store, "sess:b"), Ok(None));
    redis.kill();
    for _ in 0..3 {
        assert_eq!(text(&store, "sess:a"), Err(Unavailable));
        assert!(store.trouble().unwrap().contains("refused"), "{:?}", store.trouble());
    }
    redis.start_again();
    assert_eq!(text(&store, "sess:a"), Ok(None));
    assert_eq!(store.trouble(), None);
    // A connection that ended while nobody looked is no outage.
    redis.kill();
    redis.start_again();
    assert_eq!(text(&store, "sess:a"), Ok(None));
}

#[test]
fn an_answer_that_comes_too_late_is_nobody_elses() {
    let redis = Redis::start();
    let store = at(&redis);
    redis.cli(&["MSET", "sess:a", "A", "sess:b", "B"]);
    assert_eq!(text(&store, "sess:a").unwrap().as_deref(), Some("A"));
    redis.pause();
    assert_eq!(text(&store, "sess:a"), Err(Unavailable));
    redis.resume();
    assert_eq!(text(&store, "sess:b").unwrap().as_deref(), Some("B"));
}

#[test]
fn connections_are_kept_and_not_more_than_threads_ask_at_once() {
    let redis = Redis::start();
    let store = at(&redis);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..100).for_each(|_| assert_eq!(text(&store, "sess:a"), Ok(None))));
        }
    });
    // One of them is that of redis-cli.
    let connected = redis.cli(&["CLIENT", "LIST"]).lines().count() - 1;
    assert!((1..=3).contains(&connected), "{connected}");
    let since_start = redis.cli(&["INFO", "stats"]);
    let received = since_start.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    // The test's own looks are some, and three hundred look-ups would be more.
    assert!(received.trim().parse::<u32>().unwrap() < 100, "{received}");
}

#[test]
fn who_signs_in_to_redis_needs_little_and_errors_tell_no_key() {
    let redis = Redis::launch().password("secret").user("reader", "canary-word", "~sess:* +getrange +pttl").start();
    redis.cli(&["SET", "sess:a", "A"]);
    redis.cli(&["-n", "3", "SET", "sess:a", "C"]);
    redis.cli(&["HSET", "sess:canary", "a", "b"]);
    let as_user = |user: &str, path: &str| {
        let url = format!("redis://{user}@127.0.0.1:{}{path}", redis.port());
        RedisSessions::new(RedisPlace::server(&Secret::new(url)).unwrap())
    };
    assert_eq!(text(&as_user("reader:canary-word", ""), "sess:a").unwrap().as_deref(), Some("A"));
    assert_eq!(text(&as_user(":secret", "/3"), "sess:a").unwrap().as_deref(), Some("C"));
    for (user, path, key, why) in [
        ("reader:canary-wrong", "", "sess:canary", "WRONGPASS"),
        ("reader:canary-word", "", "canary", "NOPERM"),
        (":secret", "", "sess:canary", "WRONGTYPE"),
        (":secret", "/99", "sess:canary", ""),
    ] {
        let store = as_user(user, path);
        assert_eq!(text(&store, key), Err(Unavailable), "{user}");
        let trouble = store.trouble().unwrap();
        assert!(trouble.to_lowercase().contains(&why.to_lowercase()), "{trouble}");
        assert!(!format!("{trouble} {store:?} {store:#?}").contains("canary"), "{trouble} {store:?}");
    }
    // An error in which Redis repeats what it was sent.
    let renamed = Redis::launch().directive("rename-command PTTL OTHER").start();
    let store = at(&renamed);
    assert_eq!(text(&store, "sess:canary"), Err(Unavailable));
    let trouble = store.trouble().unwrap();
    assert!(!trouble.contains("canary"), "{trouble}");
}

#[test]
fn an_answer_of_another_kind_is_not_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        // The text, and what should be a number.
        socket.write_all(b"$6\r\ncanary\r\n*1\r\n$6\r\ncanary\r\n").unwrap();
        // Until the other one goes.
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let store = RedisSessions::new(RedisPlace::server(&Secret::new(url)).unwrap());
    assert_eq!(text(&store, "sess:a"), Err(Unavailable));
    let trouble = store.trouble().unwrap();
    assert!(!trouble.contains("canary"), "{trouble}");
    drop(store);
    server.join().unwrap();
}

#[test]
fn a_connection_on_which_something_was_refused_is_not_kept() {
    let redis = Redis::start();
    let store = at(&redis);
    redis.cli(&["HSET", "sess:h", "a", "b"]);
    assert_eq!(text(&store, "sess:a"), Ok(None));
    let connections = || redis.cli(&["CLIENT", "LIST"]).lines().filter(|one| !one.contains("cmd=client|list")).count();
    assert_eq!(connections(), 1);
    assert_eq!(text(&store, "sess:h"), Err(Unavailable));
    eventually("it is gone", || (connections() == 0).then_some(()));
}

#[test]
fn a_unix_socket_will_do_and_what_is_no_redis_will_not() {
    let redis = Redis::launch().unix_socket().start();
    redis.cli(&["SET", "sess:a", "A"]);
    assert_eq!(text(&at(&redis), "sess:a").unwrap().as_deref(), Some("A"));
    for url in ["", "x", "http://a/", "redis://", "redis://a/x", "redis://:canary@a:port/"] {
        let error = RedisPlace::server(&Secret::new(url)).err();
        assert_eq!(error, Some(SetupError::BadRedisUrl), "{url}");
    }
}
