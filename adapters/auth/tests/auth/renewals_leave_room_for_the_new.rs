//! Credentials that are looked up again share threads with those that are new, and neither kind keeps the other one out.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{
    Callback, CallbackOptions, CookieKind, Identity, Methods, Options, Refusal, Request, Secret, Service, Source,
};
use fanfare_tests::{DEADLINE, eventually};
use serde_json::json;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

const NEW: &str = "new";
const AGAIN: &str = "again";

type Outcome = Result<Identity, Refusal>;

/// A service that asks an endpoint, and what it answers.
struct Asked {
    service: Service<&'static str>,
    answers: Receiver<(&'static str, Outcome)>,
    /// What is shown to it again.
    renewal: Secret,
}

impl Asked {
    /// At this endpoint, which has to know somebody at first.
    fn at(endpoint: &Endpoint, options: Options) -> Self {
        let time_max = Duration::from_secs(600);
        let callback = Callback::new(&endpoint.url(), CallbackOptions { time_max, ..CallbackOptions::default() });
        let methods = Methods {
            tokens: None,
            sessions: None,
            callback: Some(callback.unwrap()),
            cookie_holds: CookieKind::Session,
        };
        let (sender, answers) = mpsc::channel();
        let deliver = move |tag, outcome| drop(sender.send((tag, outcome)));
        let service = Service::start(methods, options, deliver, || NOW).unwrap();
        let mut asked = Self { service, answers, renewal: Secret::new("") };
        asked.ask(NEW).unwrap();
        asked.renewal = asked.next().1.unwrap().renewal.unwrap();
        asked
    }

    fn ask(&self, tag: &'static str) -> Result<(), &'static str> {
        let (source, credential) = match tag {
            NEW => (Source::Request, Secret::new("")),
            _ => (Source::Renewal, self.renewal.clone()),
        };
        self.service.ask(Request { tag, source, credential, is_known: false, from: None, headers: Vec::new() })
    }

    /// The same for a client that comes from this address, or has come in before.
    fn ask_for(&self, tag: &'static str, from: [u8; 4], is_known: bool) -> Result<(), &'static str> {
        let from = Some(IpAddr::from(from));
        let (source, credential) = (Source::Command, Secret::new("t"));
        self.service.ask(Request { tag, source, credential, is_known, from, headers: Vec::new() })
    }

    fn next(&self) -> (&'static str, Outcome) {
        self.answers.recv_timeout(DEADLINE).expect("an answer")
    }

    /// Answers until one of this kind, which is counted.
    fn until(&self, tag: &'static str) -> usize {
        1 + std::iter::repeat_with(|| self.next()).take_while(|answer| answer.0 != tag).count()
    }
}

fn alice() -> Answer {
    Answer::of(200, json!({ "user": "alice" }))
}

fn slowly() -> Answer {
    Answer::Slow(Duration::from_millis(50), 200, json!({ "user": "alice" }).to_string())
}

#[test]
fn renewals_that_are_never_answered_keep_nobody_new_waiting() {
    let endpoint = Endpoint::new(alice());
    let asked = Asked::at(&endpoint, Options { queue_max: 64, ..Options::default() });
    endpoint.say(Answer::Silence);
    let mut taken = 0;
    eventually("six are asked about, and the others wait", || {
        taken += usize::from(asked.ask(AGAIN).is_ok());
        (taken == 6 + 64).then_some(())
    });
    eventually("six are asked about", || (endpoint.requests() == 1 + 6).then_some(()));
    assert_eq!(asked.ask(AGAIN), Err(AGAIN));
    endpoint.say(alice());
    for _ in 0..100 {
        asked.ask(NEW).unwrap();
        let (tag, outcome) = asked.next();
        assert_eq!((tag, outcome.unwrap().user.as_str()), (NEW, "alice"));
    }
    assert_eq!(endpoint.requests(), 1 + 6 + 100);
}

#[test]
fn a_crowd_of_renewals_at_a_slow_endpoint_is_looked_at_beside_the_new() {
    let endpoint = Endpoint::new(alice());
    let asked = Asked::at(&endpoint, Options::default());
    endpoint.say(slowly());
    (0..400).for_each(|_| asked.ask(AGAIN).unwrap());
    (0..40).for_each(|_| asked.ask(NEW).unwrap());
    let before: usize = (0..40).map(|_| asked.until(NEW)).sum();
    // Six of the eight threads look at what is new, once they have done what they had begun.
    assert!(before < 40 + 200, "{before} answers until all that were new had one");
    let rest = 440 - before;
    assert!((0..rest).all(|_| asked.next().1.is_ok()), "none is forgotten");
}

#[test]
fn a_flood_of_new_ones_keeps_no_renewal_waiting() {
    let endpoint = Endpoint::new(alice());
    let asked = Asked::at(&endpoint, Options::default());
    endpoint.say(Answer::Slow(Duration::from_millis(10), 200, json!({ "user": "alice" }).to_string()));
    (0..1_000).for_each(|_| asked.ask(NEW).unwrap());
    (0..40).for_each(|_| asked.ask(AGAIN).unwrap());
    let before: usize = (0..40).map(|_| asked.until(AGAIN)).sum();
    assert!(before < 40 + 500, "{before} answers until all renewals had one");
}

#[test]
fn a_thread_alone_looks_at_the_new_first() {
    let endpoint = Endpoint::new(alice());
    let asked = Asked::at(&endpoint, Options { lookup_threads: 1, ..Options::default() });
    endpoint.say(Answer::Silence);
    (0..20).for_each(|_| asked.ask(AGAIN).unwrap());
    eventually("one is asked about", || (endpoint.requests() == 2).then_some(()));
    asked.ask(NEW).unwrap();
    endpoint.say(alice());
    endpoint.hang_up();
    let first: Vec<_> = (0..3).map(|_| asked.next().0).collect();
    assert_eq!(first, [AGAIN, NEW, AGAIN]);
}

#[test]
fn a_renewal_has_more_patience_than_a_client() {
    let endpoint = Endpoint::new(alice());
    let patience = Duration::from_millis(200);
    let asked = Asked::at(&endpoint, Options { lookup_threads: 1, patience, ..Options::default() });
    endpoint.say(Answer::Slow(2 * patience, 200, json!({ "user": "alice" }).to_string()));
    asked.ask(AGAIN).unwrap();
    eventually("it is asked about", || (endpoint.requests() == 2).then_some(()));
    asked.ask(NEW).unwrap();
    asked.ask(AGAIN).unwrap();
    let outcomes: Vec<_> = (0..3).map(|_| asked.next()).map(|(tag, outcome)| (tag, outcome.err())).collect();
    assert_eq!(outcomes, [(AGAIN, None), (NEW, Some(Refusal::Unavailable)), (AGAIN, None)]);
}

#[test]
fn a_full_queue_is_told_until_it_has_been_empty_and_counted() {
    let endpoint = Endpoint::new(alice());
    let asked = Asked::at(&endpoint, Options { queue_max: 2, ..Options::default() });
    assert_eq!((asked.service.troubles(), asked.service.refused()), (vec![], 0));
    endpoint.say(Answer::Silence);
    let mut taken = 0;
    let mut refused = 0;
    eventually("eight are asked about, and two wait", || {
        match asked.ask(NEW) {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
        (taken == 8 + 2).then_some(())
    });
    assert_eq!(asked.ask(NEW), Err(NEW));
    for _ in 0..2 {
        let troubles = asked.service.troubles();
        let told: Vec<_> = troubles.iter().map(|trouble| (&*trouble.of, &*trouble.why)).collect();
        assert_eq!(told, [("callback", "too many wait")]);
    }
    assert_eq!(asked.service.refused(), refused + 1);
    endpoint.say(alice());
    endpoint.hang_up();
    (0..taken).for_each(|_| drop(asked.next()));
    // It is told at least once, also if it has been empty meanwhile.
    assert!(asked.service.troubles().iter().any(|trouble| trouble.why == "too many wait"));
    assert!(!asked.service.troubles().iter().any(|trouble| trouble.why == "too many wait"));
}

#[test]
fn an_address_that_fills_the_queue_keeps_no_other_one_and_no_user_out() {
    let endpoint = Endpoint::new(alice());
    let asked = Asked::at(&endpoint, Options { queue_max: 32, lookup_threads: 1, ..Options::default() });
    endpoint.say(Answer::Silence);
    let crowd = [10, 0, 0, 1];
    let mut taken = 0;
    eventually("one is asked about, and the others wait", || {
        taken += usize::from(asked.ask_for("crowd", crowd, false).is_ok());
        (taken == 1 + 32).then_some(())
    });
    assert_eq!(asked.ask_for("crowd", crowd, false), Err("crowd"));
    asked.ask_for("other", [10, 0, 0, 2], false).unwrap();
    assert_eq!(asked.next(), ("crowd", Err(Refusal::Unavailable)), "one of them makes room");
    asked.ask_for("user", crowd, true).unwrap();
    endpoint.say(alice());
    endpoint.hang_up();
    let answers: Vec<_> = (0..taken + 1).map(|_| asked.next().0).collect();
    // One was under way, and of each address one has its turn.
    assert!(answers[..3].contains(&"other"), "{answers:?}");
}

#[test]
fn a_users_token_waits_for_no_strangers_token() {
    let (go, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let (sender, answers) = mpsc::channel();
    let deliver = move |tag: &'static str, _: Outcome| {
        let _ = sender.send(tag);
        // A thread is at work for as long as this test wants.
        let _ = held.lock().unwrap().recv();
    };
    let methods = Methods { tokens: Some(verifier()), sessions: None, callback: None, cookie_holds: CookieKind::Token };
    let service = Service::start(methods, Options { token_threads: 1, ..Options::default() }, deliver, || NOW).unwrap();
    let ask = |tag, is_known| {
        let (source, credential) = (Source::Command, token(&claims()));
        service.ask(Request { tag, source, credential, is_known, from: None, headers: Vec::new() }).unwrap();
    };
    ask("first", false);
    assert_eq!(answers.recv_timeout(DEADLINE).unwrap(), "first");
    (0..3).for_each(|_| ask("stranger", false));
    ask("user", true);
    drop(go);
    let order: Vec<_> = (0..4).map(|_| answers.recv_timeout(DEADLINE).unwrap()).collect();
    assert_eq!(order, ["user", "stranger", "stranger", "stranger"]);
}
