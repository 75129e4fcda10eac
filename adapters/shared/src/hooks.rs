//! Between the cores of a server and the threads of its webhooks. A core asks about a message, and goes on with its turns. What has been
//! decided waits in its mailbox, and wakes its loop.

use crate::config::{Config, ConnectionEvent, Fail};
use crate::ops::Snapshot;
use crate::program::StartError;
use crate::settings::Drawn;
use crate::time::unix_ms;
use crate::told::Told;
use fanfare_core::{Core, Decision, Event, Notice, Proposal, ProposalId, Turn};
use fanfare_hooks::{self as hooks, Answer, Hook, Options, Question};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many decisions a turn takes: each may be a message to many.
const DECISIONS_PER_TURN: usize = 64;

type Wake = Box<dyn Fn() + Send + Sync>;
/// What was decided about a message; nothing, if nobody has.
type Decided = (ProposalId, Option<Answer>);

/// The webhooks of a process.
pub struct Hooks {
    list: Vec<One>,
    mailboxes: Arc<[Mailbox]>,
    /// By how many workers rooms are occupied, of those whose rules tell of that. What is told of a room is told while this is locked, so
    /// that it is told in order.
    occupied: Mutex<HashMap<Box<str>, usize>>,
}

/// One of them.
struct One {
    name: String,
    fail: Fail,
    events: Vec<ConnectionEvent>,
    hook: Hook<Tag>,
    told: Told,
}

/// Which message of which worker is asked about.
#[derive(Clone, Copy)]
struct Tag {
    worker: usize,
    proposal: ProposalId,
}

/// What has been decided for one core.
#[derive(Default)]
struct Mailbox {
    decided: Mutex<Vec<Decided>>,
    /// There is something in it. It is set and cleared while that is locked.
    has_any: AtomicBool,
    /// Events have been taken, or not.
    has_changed: AtomicBool,
    wake: OnceLock<Wake>,
}

impl Mailbox {
    fn decided(&self) -> MutexGuard<'_, Vec<Decided>> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a decision in, and wakes the loop.
    fn put(&self, proposal: ProposalId, answer: Option<Answer>) {
        let mut decided = self.decided();
        decided.push((proposal, answer));
        self.has_any.store(true, Ordering::Release);
        drop(decided);
        self.wake();
    }

    /// Events have been taken, or not: figures and log tell of it.
    fn note(&self) {
        self.has_changed.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn take(&self) -> Vec<Decided> {
        if !self.has_any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut decided = self.decided();
        self.has_any.store(false, Ordering::Release);
        std::mem::take(&mut decided)
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.list.iter().map(|one| &one.name).collect();
        f.debug_struct("Hooks").field("names", &names).finish_non_exhaustive()
    }
}

/// What becomes of a message about which nobody has decided.
fn otherwise(fail: Fail) -> Option<Answer> {
    match fail {
        Fail::Open => Some(Answer::Allow),
        Fail::Closed => None,
    }
}

impl Hooks {
    /// Starts the threads of those that rules name, or that are told of connections.
    ///
    /// # Errors
    /// A file that cannot be read, or a thread that cannot be started.
    pub fn start(config: &Config, instance: &str) -> Result<Option<Arc<Hooks>>, StartError> {
        let rules = config.core.rules.as_slice();
        let mailboxes: Arc<[Mailbox]> = (0..config.workers).map(|_| Mailbox::default()).collect();
        let mut list = Vec::new();
        for hook in &config.hooks {
            let is_asked = rules.iter().any(|rule| rule.before_publish.as_deref() == Some(&*hook.name));
            let is_told =
                !hook.events.is_empty() || rules.iter().any(|rule| rule.occupancy.as_deref() == Some(&*hook.name));
            if !is_asked && !is_told {
                continue;
            }
            let unread = |why: String| StartError(format!("cannot start the hook {:?}: {why}", hook.name));
            let options = Options {
                url: hook.url.as_ref().map(|url| url.expose().to_owned()).unwrap_or_default(),
                plaintext: hook.plaintext,
                key: hook.key().map_err(unread)?,
                roots: hook.roots().map_err(unread)?,
                timeout: hook.timeout,
                concurrency: hook.concurrency,
                retry_for: hook.retry_for,
                instance: instance.to_owned(),
                message_bytes_max: config.core.limits.message_bytes_max,
            };
            let (fail, of_answers) = (hook.fail, Arc::clone(&mailboxes));
            let deliver = move |Tag { worker, proposal }: Tag, outcome: Result<Answer, String>| {
                of_answers[worker].put(proposal, outcome.ok().or_else(|| otherwise(fail)));
            };
            let of_changes = Arc::clone(&mailboxes);
            let changed = move || of_changes[0].note();
            let started = Hook::start(options, (is_asked, is_told), deliver, changed, unix_ms);
            let hook_threads = started.map_err(StartError::of("cannot start the threads of a hook"))?;
            list.push(One {
                name: hook.name.clone(),
                fail,
                events: hook.events.clone(),
                hook: hook_threads,
                told: Told::default(),
            });
        }
        Ok((!list.is_empty()).then(|| Arc::new(Hooks { list, mailboxes, occupied: Mutex::default() })))
    }

    /// The desk of this worker, whose core has these numbers, and whose loop `wake` wakes.
    pub fn desk(self: &Arc<Hooks>, worker: usize, drawn: Drawn, wake: impl Fn() + Send + Sync + 'static) -> HookDesk {
        // Each worker has one.
        let _ = self.mailboxes[worker].wake.set(Box::new(wake));
        HookDesk { hooks: Arc::clone(self), worker, node: drawn.node, collected: VecDeque::new() }
    }

    /// Tells those that want it of a connection.
    fn tell_of_connection(&self, kind: ConnectionEvent, event: &hooks::Event) {
        let told = self.list.iter().filter(|one| one.events.contains(&kind));
        told.for_each(|one| one.hook.tell(event));
    }

    /// Tells the hook of this name that a room is occupied or not, unless it is by another worker as well.
    fn tell_of_room(&self, name: &str, room: Box<str>, is_occupied: bool) {
        let mut occupied = self.occupied.lock().unwrap_or_else(PoisonError::into_inner);
        let before = occupied.get(&room).copied().unwrap_or(0);
        let event = match (before, is_occupied) {
            (0, true) => {
                occupied.insert(room.clone(), 1);
                hooks::Event::Occupied { room: room.into_string() }
            }
            (1, false) => {
                occupied.remove(&room);
                hooks::Event::Vacated { room: room.into_string() }
            }
            (_, is_occupied) => {
                occupied.insert(room, if is_occupied { before + 1 } else { before.saturating_sub(1) });
                return;
            }
        };
        if let Some(one) = self.list.iter().find(|one| one.name == name) {
            one.hook.tell(&event);
        }
    }

    /// Tells the log what is wrong with endpoints, when that has changed.
    fn tell_troubles(&self) {
        for One { name, hook, told, .. } in &self.list {
            let trouble = hook.trouble().unwrap_or_default();
            if told.is_news(&trouble) {
                match trouble.is_empty() {
                    true => tracing::info!(hook = name, "the hook answers again"),
                    false => tracing::warn!(hook = name, error = trouble, "the hook does not do what it should"),
                }
            }
        }
    }
}

/// Where one core's questions are handed in, and what has been decided is picked up.
#[derive(Debug)]
pub struct HookDesk {
    hooks: Arc<Hooks>,
    worker: usize,
    /// Of its core, by which connections are named.
    node: u64,
    /// What was decided, and has yet to be fed.
    collected: VecDeque<Decided>,
}

impl HookDesk {
    /// Takes an [`Action::Propose`](fanfare_core::Action::Propose). It never blocks.
    pub fn propose(&mut self, proposal: Proposal<'_>) {
        let Proposal { id, hook, conn, user, room, message } = proposal;
        let mailbox = &self.hooks.mailboxes[self.worker];
        let Some(One { hook, fail, .. }) = self.hooks.list.iter().find(|one| one.name == hook) else {
            return mailbox.put(id, None);
        };
        let question = Question {
            room: room.to_owned(),
            user: user.map(str::to_owned),
            connection: conn.public(self.node),
            message: message.to_owned(),
        };
        if hook.ask(Tag { worker: self.worker, proposal: id }, question).is_err() {
            mailbox.put(id, otherwise(*fail));
        }
    }

    /// Whether there is something to be fed: then the loop must not sleep.
    pub fn is_ready(&self) -> bool {
        !self.collected.is_empty() || self.hooks.mailboxes[self.worker].has_any.load(Ordering::Acquire)
    }

    /// Feeds what has been decided, as much as a turn takes.
    pub fn feed(&mut self, turn: &mut Turn<'_>) {
        let decided = self.hooks.mailboxes[self.worker].take();
        if !decided.is_empty() || self.hooks.mailboxes[self.worker].has_changed.swap(false, Ordering::AcqRel) {
            self.hooks.tell_troubles();
        }
        self.collected.extend(decided);
        let now_fed = self.collected.len().min(DECISIONS_PER_TURN);
        for (proposal, answer) in self.collected.drain(..now_fed) {
            let decision = match &answer {
                Some(Answer::Allow) => Decision::Allow,
                Some(Answer::Alter(message)) => Decision::Alter(message),
                Some(Answer::Refuse(reason)) => Decision::Refuse(reason),
                None => Decision::Unavailable,
            };
            turn.feed(Event::Decided { proposal, decision });
        }
    }

    /// Takes from the core what is to be told, after a turn.
    pub fn collect(&mut self, core: &mut Core) {
        for notice in core.notices() {
            let (node, hooks) = (self.node, &self.hooks);
            match notice {
                Notice::Connected { conn, user, address, dialect } => {
                    let event = hooks::Event::Connected {
                        connection: conn.public(node),
                        user: user.map(String::from),
                        address: address.map(|address| address.to_string()),
                        dialect: format!("{dialect:?}").to_lowercase(),
                    };
                    hooks.tell_of_connection(ConnectionEvent::Connected, &event);
                }
                Notice::Identified { conn, user } => {
                    let event = hooks::Event::Identified { connection: conn.public(node), user: user.into_string() };
                    hooks.tell_of_connection(ConnectionEvent::Connected, &event);
                }
                Notice::Disconnected { conn, user, code } => {
                    let user = user.map(String::from);
                    let event = hooks::Event::Disconnected { connection: conn.public(node), user, code };
                    hooks.tell_of_connection(ConnectionEvent::Disconnected, &event);
                }
                Notice::Occupied { hook, room } => hooks.tell_of_room(&hook, room, true),
                Notice::Vacated { hook, room } => hooks.tell_of_room(&hook, room, false),
                _ => {}
            }
        }
    }

    /// Adds the figures of all workers, told by one of them.
    pub fn describe(&self, snapshot: &mut Snapshot) {
        if self.worker > 0 {
            return;
        }
        for One { hook, .. } in &self.hooks.list {
            let figures = hook.figures();
            snapshot.hook_requests += figures.requests;
            snapshot.hook_failures += figures.failures;
            snapshot.hook_events_dropped += figures.events_dropped;
            snapshot.hook_events_waiting += figures.events_waiting;
        }
    }
}
