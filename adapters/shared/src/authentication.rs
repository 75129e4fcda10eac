//! Between the cores of a server and the threads that verify credentials. A core asks, and goes on with its turns. What has been found
//! out waits in its mailbox, and wakes its loop.

use crate::config::{Config, bans_store, methods};
use crate::program::StartError;
use crate::time::unix_ms;
use crate::told::Told;
use fanfare_auth::{self as auth, BanWatch, Info, Refusal, Request, Secret, Service};
use fanfare_core::rules::{Grants, PatternError, Right};
use fanfare_core::time::Time;
use fanfare_core::{Authenticate, Ban, Banned, Bans, ConnId, Denied, Event, Identity, Source, Turn};
use percent_encoding::percent_decode;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How often it is looked whether bans have changed: within a second each is in force everywhere.
const BANS_EVERY: Duration = Duration::from_millis(500);
/// For how long bans may be out of sight before a server is not ready: longer than a connection takes to be made anew.
const BANS_UNSEEN_MAX: Duration = Duration::from_secs(10);
/// How many outcomes a turn takes: each may be an upgrade, with rooms to join.
const OUTCOMES_PER_TURN: usize = 256;
/// How often a core is told what time it is.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

type Wake = Box<dyn Fn() + Send + Sync>;

/// What verifies credentials, one for each process.
pub struct Authenticator {
    service: Service<Tag>,
    bans: Option<BanWatch>,
    mailboxes: Arc<[Mailbox]>,
    told: Told,
    told_of_bans: Told,
}

/// Whose credential it is.
#[derive(Clone, Copy)]
struct Tag {
    worker: usize,
    conn: ConnId,
    is_renewal: bool,
}

/// What has been found out for one core.
#[derive(Default)]
struct Mailbox {
    found: Mutex<Found>,
    /// There is something in it. It is set and cleared while that is locked.
    has_any: AtomicBool,
    wake: OnceLock<Wake>,
}

#[derive(Default)]
struct Found {
    outcomes: Vec<(ConnId, Result<Identity, Denied>)>,
    bans: Option<Arc<Bans>>,
    are_bans_unseen: Option<bool>,
}

impl Mailbox {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in, and wakes the loop.
    fn put(&self, put: impl FnOnce(&mut Found)) {
        let mut found = self.found();
        put(&mut found);
        self.has_any.store(true, Ordering::Release);
        drop(found);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn put_outcome(&self, conn: ConnId, outcome: Result<Identity, Denied>) {
        self.put(|found| found.outcomes.push((conn, outcome)));
    }

    /// Takes what is in it.
    fn take(&self) -> Found {
        if !self.has_any.load(Ordering::Acquire) {
            return Found::default();
        }
        let mut found = self.found();
        self.has_any.store(false, Ordering::Release);
        std::mem::take(&mut found)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("workers", &self.mailboxes.len()).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Starts its threads, where clients are asked who they are.
    ///
    /// # Errors
    /// A key that cannot be read, or a thread that cannot be started.
    pub fn start(config: &Config) -> Result<Option<Arc<Authenticator>>, StartError> {
        if config.core.auth.is_none() {
            return Ok(None);
        }
        let (methods, options) = methods(config)?;
        let mailboxes: Arc<[Mailbox]> = (0..config.workers).map(|_| Mailbox::default()).collect();
        let deliver = {
            let mailboxes = Arc::clone(&mailboxes);
            move |Tag { worker, conn, is_renewal }: Tag, outcome: Result<auth::Identity, Refusal>| {
                mailboxes[worker].put_outcome(conn, outcome_of(conn, is_renewal, outcome));
            }
        };
        let service = Service::start(methods, options, deliver, unix_ms)
            .map_err(StartError::of("cannot start the threads that verify credentials"))?;
        let bans = bans_store(config)?.map(|store| {
            let (mailboxes, mailboxes_of_unseen) = (Arc::clone(&mailboxes), Arc::clone(&mailboxes));
            let deliver = move |bans: &[auth::Ban]| {
                let bans = Arc::new(Bans::new(bans.iter().map(ban_of)));
                for mailbox in &*mailboxes {
                    mailbox.put(|found| found.bans = Some(Arc::clone(&bans)));
                }
            };
            let unseen = move |time: Duration| {
                for mailbox in &*mailboxes_of_unseen {
                    mailbox.put(|found| found.are_bans_unseen = Some(time >= BANS_UNSEEN_MAX));
                }
            };
            BanWatch::start(Arc::from(store), BANS_EVERY, unix_ms, deliver, unseen)
        });
        let bans = bans.transpose().map_err(StartError::of("cannot start the thread that watches bans"))?;
        let (told, told_of_bans) = (Told::default(), Told::default());
        Ok(Some(Arc::new(Authenticator { service, bans, mailboxes, told, told_of_bans })))
    }

    /// The desk of this worker, whose loop `wake` wakes.
    pub fn desk(self: &Arc<Authenticator>, worker: usize, wake: impl Fn() + Send + Sync + 'static) -> Desk {
        // Each worker has one.
        let _ = self.mailboxes[worker].wake.set(Box::new(wake));
        let authenticator = Arc::clone(self);
        Desk {
            authenticator,
            worker,
            clock_told: None,
            has_bans: self.bans.is_none(),
            collected: VecDeque::new(),
            bans: None,
            are_bans_unseen: None,
        }
    }

    /// Tells the log why credentials cannot be verified, and what is wrong with bans, when that has changed.
    fn tell_troubles(&self) {
        let troubles = self.service.troubles().into_iter().map(|trouble| format!("{}: {}", trouble.of, trouble.why));
        let troubles = troubles.collect::<Vec<_>>().join("; ");
        if self.told.is_news(&troubles) {
            match troubles.is_empty() {
                true => tracing::info!("credentials can be verified again"),
                false => tracing::warn!(error = troubles, "credentials cannot be verified"),
            }
        }
        let Some(bans) = &self.bans else { return };
        let trouble = bans.trouble().unwrap_or_default();
        if self.told_of_bans.is_news(&trouble) {
            match (trouble.is_empty(), bans.is_loaded()) {
                (true, _) => tracing::info!("bans are seen again"),
                (false, true) => {
                    tracing::warn!(error = trouble, "bans may be out of date: those that are known stay in force")
                }
                (false, false) => tracing::warn!(error = trouble, "bans are not known, so nobody is let in"),
            }
        }
    }
}

/// Where one core's credentials are handed in, and what has been found out is picked up.
#[derive(Debug)]
pub struct Desk {
    authenticator: Arc<Authenticator>,
    worker: usize,
    /// When the core was told what time it is.
    clock_told: Option<Time>,
    /// The core knows who is banned. Before, nobody may come in.
    has_bans: bool,
    /// What was found out, and has yet to be fed.
    collected: VecDeque<(ConnId, Result<Identity, Denied>)>,
    bans: Option<Arc<Bans>>,
    are_bans_unseen: Option<bool>,
}

impl Desk {
    /// Takes an [`Action::Authenticate`](fanfare_core::Action::Authenticate). It never blocks.
    pub fn ask(&mut self, asked: Authenticate<'_>) {
        let Authenticate { conn, source, credential, head, has_origin, is_known, from } = asked;
        let mailbox = &self.authenticator.mailboxes[self.worker];
        if !self.has_bans {
            return mailbox.put_outcome(conn, Err(Denied::Unavailable));
        }
        let service = &self.authenticator.service;
        let tag = Tag { worker: self.worker, conn, is_renewal: source == Source::Renewal };
        let (source, credential) = credential_of(source, credential);
        let headers = headers_of(head, service.forward_headers(), has_origin);
        if service.ask(Request { tag, source, credential, is_known, from, headers }).is_err() {
            mailbox.put_outcome(conn, Err(Denied::Unavailable));
        }
    }

    /// Picks up what has been found out. Returns how many outcomes will be fed next: as many upgrades at most are answered then.
    pub fn collect(&mut self) -> usize {
        let Found { outcomes, bans, are_bans_unseen } = self.authenticator.mailboxes[self.worker].take();
        self.collected.extend(outcomes);
        self.bans = bans.or(self.bans.take());
        self.are_bans_unseen = are_bans_unseen.or(self.are_bans_unseen);
        self.collected.len().min(OUTCOMES_PER_TURN)
    }

    /// Whether there is something to be fed: then the loop must not sleep.
    pub fn is_ready(&self) -> bool {
        let mailbox = &self.authenticator.mailboxes[self.worker];
        let has_of_bans = self.bans.is_some() || self.are_bans_unseen.is_some();
        !self.collected.is_empty() || has_of_bans || mailbox.has_any.load(Ordering::Acquire)
    }

    /// How many credentials were not looked at because too many waited: of all workers, told by one of them.
    pub fn not_looked_at(&self) -> u64 {
        if self.worker == 0 { self.authenticator.service.refused() } else { 0 }
    }

    /// For how many seconds the bans have not been seen as they are: told by one of the workers.
    pub fn bans_unseen_s(&self) -> u64 {
        let bans = self.authenticator.bans.as_ref().filter(|_| self.worker == 0);
        bans.map_or(0, |bans| bans.unseen_for().as_secs())
    }

    /// Feeds what has been collected, as much as a turn takes, and, now and then, what time it is.
    pub fn feed(&mut self, turn: &mut Turn<'_>, now: Time) {
        if self.clock_told.is_none_or(|told| now.since(told) >= CLOCK_EVERY) {
            turn.feed(Event::WallClock { unix_ms: unix_ms() });
            self.clock_told = Some(now);
            self.authenticator.tell_troubles();
        }
        // Bans first, because an outcome may be older than they are.
        if let Some(bans) = self.bans.take() {
            self.has_bans = true;
            turn.feed(Event::Bans(&bans));
        }
        let mut has_trouble = false;
        if let Some(unseen) = self.are_bans_unseen.take() {
            turn.feed(Event::BansUnseen(unseen));
            has_trouble = true;
        }
        let now_fed = self.collected.len().min(OUTCOMES_PER_TURN);
        for (conn, outcome) in self.collected.drain(..now_fed) {
            has_trouble |= matches!(outcome, Err(Denied::Unavailable));
            turn.feed(Event::Authenticated { conn, outcome: outcome.as_ref().map_err(|denied| *denied) });
        }
        if has_trouble {
            self.authenticator.tell_troubles();
        }
    }
}

/// The credential as whoever verifies it wants it.
fn credential_of(source: Source, credential: &[u8]) -> (auth::Source, Secret) {
    let as_it_is = || Secret::new(credential);
    match source {
        Source::Header => (auth::Source::Header, as_it_is()),
        Source::Query => (auth::Source::Query, Secret::new(percent_decode(credential).collect::<Vec<u8>>())),
        Source::Subprotocol => (auth::Source::Subprotocol, as_it_is()),
        Source::Cookie => (auth::Source::Cookie, auth::cookie_value(credential)),
        Source::Command => (auth::Source::Command, as_it_is()),
        Source::Request => (auth::Source::Request, as_it_is()),
        Source::Renewal => (auth::Source::Renewal, as_it_is()),
    }
}

/// The header fields of these names, which are in lower case; what browsers send unasked only where the `Origin` has passed. Other clients
/// have no `Origin`, and `Authorization` is their own.
fn headers_of(head: &[u8], names: &[String], has_origin: bool) -> Vec<(String, Vec<u8>)> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        Some((name, line[colon + 1..].trim_ascii()))
    });
    let is_of_page = fields.clone().any(|(name, _)| name == "origin");
    let passes = |name: &str| match name {
        "cookie" => has_origin,
        "authorization" => has_origin || !is_of_page,
        _ => true,
    };
    let wanted = fields.filter(|(name, _)| names.contains(name) && passes(name));
    wanted.map(|(name, value)| (name, value.to_vec())).collect()
}

/// What the core is told.
fn outcome_of(conn: ConnId, is_renewal: bool, outcome: Result<auth::Identity, Refusal>) -> Result<Identity, Denied> {
    let refused = |why: &dyn fmt::Display| {
        tracing::debug!(conn = format!("{conn:?}"), is_renewal, reason = %why, "credential refused");
    };
    match outcome {
        Ok(identity) => identity_of(conn, identity).map_err(|why| {
            refused(&why);
            Denied::Unauthorised
        }),
        Err(refusal) => {
            refused(&refusal);
            Err(match refusal {
                Refusal::Expired => Denied::Expired,
                Refusal::Forbidden => Denied::Forbidden,
                Refusal::Unavailable => Denied::Unavailable,
                _ => Denied::Unauthorised,
            })
        }
    }
}

fn identity_of(conn: ConnId, identity: auth::Identity) -> Result<Identity, PatternError> {
    let auth::Identity { user, grants, join, expires_ms, issued_ms, token_id, info, renewal } = identity;
    let mut told = Identity::new(user);
    let lists = [
        (Right::Subscribe, &grants.subscribe),
        (Right::Publish, &grants.publish),
        (Right::History, &grants.history),
        (Right::Presence, &grants.presence),
    ];
    for (right, patterns) in lists {
        told.grants = std::mem::take::<Grants>(&mut told.grants).with(right, patterns.iter().map(String::as_str))?;
    }
    told.join = join.into_iter().map(String::into_boxed_str).collect();
    (told.expires_ms, told.issued_ms) = (expires_ms, issued_ms);
    told.token_id = token_id.map(String::into_boxed_str);
    told.info = info.and_then(|info| match info {
        Info::Told(text) => Some(text.into_boxed_str()),
        Info::TooLong => {
            tracing::debug!(
                conn = format!("{conn:?}"),
                bytes_max = auth::INFO_BYTES_MAX,
                "info of a credential left out: too long"
            );
            None
        }
    });
    told.renewal = renewal.map(|renewal| renewal.expose().into());
    Ok(told)
}

fn ban_of(ban: &auth::Ban) -> Ban {
    let banned = match &ban.what {
        auth::Banned::User(user) => Banned::User(user.as_str().into()),
        auth::Banned::Token(token) => Banned::Token(token.as_str().into()),
        auth::Banned::IssuedBefore { ms, user } => {
            Banned::IssuedBefore { ms: *ms, user: user.as_deref().map(Into::into) }
        }
    };
    Ban { banned, until_ms: ban.until_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_forwarded_by_name_and_cookies_with_an_origin_alone() {
        let head = b"GET / HTTP/1.1\r\nHost: a: b\r\nCOOKIE:  sid=1 \r\nX-Other: x\r\n\r\n";
        let names = ["cookie".to_owned(), "host".to_owned()];
        let text = |has_origin| {
            let headers = headers_of(head, &names, has_origin).into_iter();
            headers.map(|(name, value)| name + "=" + &String::from_utf8(value).unwrap()).collect::<Vec<_>>().join("|")
        };
        assert_eq!((text(true), text(false)), ("host=a: b|cookie=sid=1".to_owned(), "host=a: b".to_owned()));
    }

    #[test]
    fn what_a_browser_adds_by_itself_is_forwarded_for_no_page_whose_origin_has_not_passed() {
        let names = ["authorization".to_owned(), "cookie".to_owned()];
        let count = |origin: &str, has_origin| {
            let head = format!("GET / HTTP/1.1\r\nAuthorization: Basic eA==\r\n{origin}Cookie: sid=1\r\n\r\n");
            headers_of(head.as_bytes(), &names, has_origin).len()
        };
        let page = "ORIGIN: https://evil.example\r\n";
        assert_eq!((count(page, true), count(page, false), count("", false)), (2, 0, 1));
    }

    #[test]
    fn credentials_are_read_as_their_places_write_them() {
        let read =
            |source, text: &str| String::from_utf8(credential_of(source, text.as_bytes()).1.expose().to_vec()).unwrap();
        assert_eq!(read(Source::Query, "a%2Eb"), "a.b");
        assert_eq!(read(Source::Cookie, "\"s%3Aid\""), "s:id");
        assert_eq!(read(Source::Header, "a%2Eb"), "a%2Eb");
    }

    fn bob(grants: auth::Grants, info: Option<Info>) -> auth::Identity {
        auth::Identity {
            user: "bob".to_owned(),
            grants,
            join: vec!["tea".to_owned()],
            expires_ms: Some(5),
            issued_ms: None,
            token_id: None,
            info,
            renewal: None,
        }
    }

    #[test]
    fn a_grant_that_is_no_pattern_refuses_the_credential() {
        let identity =
            |pattern: &str| bob(auth::Grants { subscribe: vec![pattern.to_owned()], ..auth::Grants::default() }, None);
        let conn = ConnId::from_bits(0);
        let told = outcome_of(conn, false, Ok(identity("chat:*"))).unwrap();
        assert!(told.grants.allow(Right::Subscribe, "chat:1") && told.join == [Box::<str>::from("tea")]);
        assert_eq!(outcome_of(conn, false, Ok(identity("a:**:b"))), Err(Denied::Unauthorised));
    }

    #[test]
    fn an_info_that_is_too_long_is_left_out_and_refuses_nothing() {
        let told = |info| {
            let outcome = outcome_of(ConnId::from_bits(0), false, Ok(bob(auth::Grants::default(), info)));
            outcome.unwrap().info.as_deref().map(str::to_owned)
        };
        assert_eq!(told(Some(Info::Told(r#"{"name":"Bob"}"#.to_owned()))).as_deref(), Some(r#"{"name":"Bob"}"#));
        assert_eq!((told(Some(Info::TooLong)), told(None)), (None, None));
    }
}
