//! Threads on which credentials are verified, away from a server's event loop.
//! Each method and each issuer that publishes its keys has threads and a queue of its own, because an endpoint that does not answer then
//! keeps no token of another one waiting.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::credential::{Credential, Identity, Source};
use crate::methods::{Method, Methods, Shown, Trouble};
use crate::queue::{self, Order, Queue, Whose};
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::verifier::Verifier;

/// For the threads to end, when nobody asks any more. One that waits for somebody else may take longer, and is left to itself.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// How many verify, and how many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that check signatures, which is work for a processor: 2 unless told.
    pub token_threads: usize,
    /// Threads that look up sessions, and as many that ask the operator's endpoint, which is waiting: 8 each unless told. So many
    /// requests are under way there at once. A quarter of them is for credentials that are new, and a quarter looks first at those that
    /// are renewed.
    pub lookup_threads: usize,
    /// Requests that wait for a thread, in each queue: 1,024 unless told, and as many of those whose clients are known.
    pub queue_max: usize,
    /// How long a request may wait before nobody works for it any more: 5 seconds unless told. One that renews may wait for longer,
    /// because no client waits with it.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { token_threads: 2, lookup_threads: 8, queue_max: 1024, patience: Duration::from_secs(5) }
    }
}

/// A credential to be verified. `Debug` shows no header, because any of them may be one.
#[derive(Clone)]
pub struct Request<T> {
    /// Comes back with the answer.
    pub tag: T,
    /// Where the credential was found.
    pub source: Source,
    /// The credential. Nothing, if only the request is there to be judged.
    pub credential: Secret,
    /// Whether its client has shown a good one before: then it waits for no stranger. What is renewed is known anyway.
    pub is_known: bool,
    /// Where its client comes from, if that is known. Addresses are looked at in turns, so that none keeps the others waiting.
    pub from: Option<IpAddr>,
    /// The request's headers, as far as the operator's endpoint is to see them. See [`Methods::forward_headers`].
    pub headers: Vec<(String, Vec<u8>)>,
}

impl<T: fmt::Debug> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("tag", &self.tag).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Verifies on threads of its own. Whoever holds a clone may ask; when the last one is dropped, the threads end.
///
/// A method that panics is a bug, and answers [`Refusal::Unavailable`]. In a program built with `panic = "abort"`, it ends the program.
pub struct Service<T: Send + 'static> {
    handle: Arc<Handle<T>>,
}

impl<T: Send + 'static> Clone for Service<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

/// What the clones share.
struct Handle<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    lanes: Option<Lanes<T>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Disconnected once the last thread has ended.
    ended: Receiver<()>,
}

/// The queues. Those of methods that are not there have no threads.
struct Lanes<T> {
    tokens: Queue<Job<T>>,
    keys: Arc<[KeyLane<T>]>,
    sessions: Queue<Job<T>>,
    callback: Queue<Job<T>>,
}

/// Where tokens of one issuer wait for keys that have to be fetched.
struct KeyLane<T> {
    issuer: usize,
    jobs: Queue<KeyJob<T>>,
    /// Its keys are to be fetched unasked, and that waits in the queue or is under way.
    is_refreshing: Arc<AtomicBool>,
}

/// What the threads share.
struct Shared<T> {
    methods: Methods,
    patience: Duration,
    deliver: Box<dyn Fn(T, Result<Identity, Refusal>) + Send + Sync>,
    now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    is_stopping: AtomicBool,
}

/// One request on its way.
struct Job<T> {
    answer: Answer<T>,
    whose: Whose,
    asked: Instant,
    shown: Shown,
    method: Result<Method, Refusal>,
}

/// Gives one answer, and if nobody has any, then that.
struct Answer<T> {
    tag: Option<T>,
    shared: Arc<Shared<T>>,
}

impl<T> Answer<T> {
    fn give(mut self, outcome: Result<Identity, Refusal>) {
        if let Some(tag) = self.tag.take() {
            (self.shared.deliver)(tag, outcome);
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take() {
            (self.shared.deliver)(tag, Err(Refusal::Unavailable));
        }
    }
}

/// What the threads that fetch keys are given.
enum KeyJob<T> {
    Verify(Job<T>),
    Refresh,
}

impl<T: Send + 'static> Service<T> {
    /// Starts the threads. Each answer is handed over on one of them, with the tag of its request; so `deliver` must not block. The
    /// clock tells Unix time in ms.
    pub fn start(
        methods: Methods,
        options: Options,
        deliver: impl Fn(T, Result<Identity, Refusal>) + Send + Sync + 'static,
        now_ms: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let Options { token_threads, lookup_threads, queue_max, patience } = options;
        let has = |is_there: bool, threads: usize| if is_there { threads.max(1) } else { 0 };
        let session_threads = has(methods.sessions.is_some(), lookup_threads);
        let callback_threads = has(methods.callback.is_some(), lookup_threads);
        let shared = Arc::new(Shared {
            methods,
            patience,
            deliver: Box::new(deliver),
            now_ms: Box::new(now_ms),
            is_stopping: AtomicBool::new(false),
        });
        let (ending, ended) = bounded(0);
        let mut threads = Threads { shared: &shared, ending, started: Vec::new() };
        let mut key_lane = |issuer| {
            let is_refreshing = Arc::new(AtomicBool::new(false));
            let of_thread = is_refreshing.clone();
            // Of one issuer no two threads can fetch at a time.
            let jobs = threads.lane("auth-keys", token_orders(1), queue_max, move |shared: &Shared<T>, job| {
                shared.fetch_and_verify(issuer, job, &of_thread);
            })?;
            io::Result::Ok(KeyLane { issuer, jobs, is_refreshing })
        };
        let issuers = shared.methods.tokens.iter().flat_map(Verifier::fetching_issuers);
        let keys: Arc<[KeyLane<T>]> = issuers.map(&mut key_lane).collect::<io::Result<_>>()?;
        let sessions = threads.lane("auth-sessions", lookup_orders(session_threads), queue_max, Shared::look_up)?;
        let callback = threads.lane("auth-callback", lookup_orders(callback_threads), queue_max, Shared::look_up)?;
        // So that the first client need not wait for it.
        shared.refresh_those_due(&keys);
        let of_tokens = keys.clone();
        let work = move |shared: &Shared<T>, job| shared.verify_by_known(job, &of_tokens);
        let tokens = threads.lane("auth-tokens", token_orders(token_threads.max(1)), queue_max, work)?;
        let threads = Mutex::new(threads.started);
        let lanes = Some(Lanes { tokens, keys, sessions, callback });
        Ok(Self { handle: Arc::new(Handle { shared, lanes, threads, ended }) })
    }

    /// Has the credential verified. It never blocks: if too many are waiting already, the tag comes back, and there will be no answer. Or
    /// one of an address from which more wait is answered [`Refusal::Unavailable`] in its stead, at once and on this thread.
    pub fn ask(&self, request: Request<T>) -> Result<(), T> {
        let Request { tag, source, credential, is_known, from, headers } = request;
        let shown = Shown { credential: Credential::new(credential, source), headers };
        let Handle { shared, lanes, .. } = &*self.handle;
        let Some(lanes) = lanes else { return Err(tag) };
        let method = shared.methods.method(&shown.credential);
        let whose = if is_known || source == Source::Renewal { Whose::Known } else { Whose::Stranger(from) };
        let queue = match method {
            Ok(Method::Sessions) => &lanes.sessions,
            Ok(Method::Callback) => &lanes.callback,
            Ok(Method::Tokens) | Err(_) => &lanes.tokens,
        };
        let answer = Answer { tag: Some(tag), shared: shared.clone() };
        match queue.put(whose, Job { answer, whose, asked: Instant::now(), shown, method }) {
            Ok(()) => Ok(()),
            Err(mut job) => job.answer.tag.take().map_or(Ok(()), Err),
        }
    }

    /// The headers that requests are to come with, in lower case.
    pub fn forward_headers(&self) -> &[String] {
        self.handle.shared.methods.forward_headers()
    }

    /// What keeps methods from verifying, as it was when they were last used.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.handle.shared.methods.troubles();
        if let Some(Lanes { tokens, keys, sessions, callback }) = &self.handle.lanes {
            // Each is asked, because it is told once.
            let keys = keys.iter().fold(false, |was_full, lane| was_full | lane.jobs.was_full());
            let full = [
                ("tokens", tokens.was_full() | keys),
                ("sessions", sessions.was_full()),
                ("callback", callback.was_full()),
            ];
            let full = full.into_iter().filter(|(_, was_full)| *was_full);
            troubles.extend(full.map(|(of, _)| Trouble { of: of.to_owned(), why: "too many wait".to_owned() }));
        }
        troubles
    }

    /// How many credentials were not looked at because too many waited.
    pub fn refused(&self) -> u64 {
        self.handle.lanes.as_ref().map_or(0, |Lanes { tokens, keys, sessions, callback }| {
            let keys: u64 = keys.iter().map(|lane| lane.jobs.refused()).sum();
            tokens.refused() + keys + sessions.refused() + callback.refused()
        })
    }
}

impl<T: Send + 'static> Drop for Handle<T> {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.lanes = None;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // If an answer held the last clone, this is one of the threads, and waits for itself no longer than for any that hangs.
        if self.ended.recv_timeout(STOP_TIME_MAX).is_err_and(|error| error.is_disconnected()) {
            for thread in threads {
                // If it ended by a panic, that was told.
                let _ = thread.join();
            }
        }
    }
}

/// Threads as they are started.
struct Threads<'a, T> {
    shared: &'a Arc<Shared<T>>,
    ending: Sender<()>,
    started: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Threads<'_, T> {
    /// A queue, and threads that work on it until nobody can fill it any more.
    fn lane<J: Send + 'static>(
        &mut self,
        name: &str,
        orders: impl Iterator<Item = Order>,
        queue_max: usize,
        work: impl Fn(&Shared<T>, J) + Send + Sync + 'static,
    ) -> io::Result<Queue<J>> {
        let (queue, turns) = queue::new(queue_max, orders);
        let work = Arc::new(work);
        for jobs in turns {
            let (shared, ending, work) = (self.shared.clone(), self.ending.clone(), work.clone());
            self.started.push(thread::Builder::new().name(name.to_owned()).spawn(move || {
                // Dropped with the thread, which tells that it has ended.
                let _ending = ending;
                for job in jobs {
                    // What panics is dropped, and so answered.
                    let _ = catch_unwind(AssertUnwindSafe(|| work(&shared, job)));
                }
            })?);
        }
        Ok(queue)
    }
}

/// What so many threads look up first. A quarter each keeps to strangers, or prefers who is known, so that neither is ever without a
/// thread. The others prefer strangers, because a client waits for each, and renewals are many. A thread alone has to do all of it.
fn lookup_orders(threads: usize) -> impl Iterator<Item = Order> {
    (0..threads).map(move |index| match index % 4 {
        0 if threads > 1 => Order::Strangers,
        1 => Order::KnownFirst,
        _ => Order::StrangersFirst,
    })
}

/// The same of tokens. Who is known and shows one is a client that waits as well, and will be shut out if it waits for long.
fn token_orders(threads: usize) -> impl Iterator<Item = Order> {
    (0..threads).map(|index| if index % 2 == 0 { Order::KnownFirst } else { Order::StrangersFirst })
}

impl<T: Send + 'static> Shared<T> {
    /// Tokens whose keys are known. The others are passed on to who may fetch keys.
    fn verify_by_known(&self, job: Job<T>, keys: &[KeyLane<T>]) {
        if !self.is_worth_it(&job) {
            return;
        }
        let verifier = match (job.method, &self.methods.tokens) {
            (Err(refusal), _) => return job.answer.give(Err(refusal)),
            (Ok(_), None) => return job.answer.give(Err(Refusal::NoCredential)),
            (Ok(_), Some(verifier)) => verifier,
        };
        match verifier.verify_by_known(&job.shown.credential, (self.now_ms)()) {
            Ok(outcome) => job.answer.give(outcome),
            // If too many wait there, this is dropped, and so answered.
            Err(issuer) => {
                if let Some(lane) = keys.iter().find(|lane| lane.issuer == issuer) {
                    drop(lane.jobs.put(job.whose, KeyJob::Verify(job)));
                }
            }
        }
        self.refresh_those_due(keys);
    }

    /// Has keys fetched that are old, without making anybody wait for it.
    fn refresh_those_due(&self, keys: &[KeyLane<T>]) {
        let Some(verifier) = &self.methods.tokens else { return };
        let now_ms = (self.now_ms)();
        for lane in keys.iter().filter(|lane| verifier.is_refresh_due(lane.issuer, now_ms)) {
            let KeyLane { jobs, is_refreshing, .. } = lane;
            let is_new = !is_refreshing.swap(true, Ordering::AcqRel);
            if is_new && jobs.put(Whose::Known, KeyJob::Refresh).is_err() {
                is_refreshing.store(false, Ordering::Release);
            }
        }
    }

    /// Tokens whose keys are not known yet, and keys that are old.
    fn fetch_and_verify(&self, issuer: usize, job: KeyJob<T>, is_refreshing: &AtomicBool) {
        match job {
            KeyJob::Verify(job) => self.look_up(job),
            KeyJob::Refresh => {
                is_refreshing.store(false, Ordering::Release);
                if let Some(verifier) = &self.methods.tokens
                    && !self.is_stopping.load(Ordering::Acquire)
                {
                    verifier.refresh(issuer, (self.now_ms)());
                }
            }
        }
    }

    /// Whatever has to ask somebody else.
    fn look_up(&self, job: Job<T>) {
        if self.is_worth_it(&job) {
            let outcome = job.method.and_then(|method| self.methods.verify(method, &job.shown, (self.now_ms)()));
            job.answer.give(outcome);
        }
    }

    /// Whether somebody still waits for it.
    fn is_worth_it(&self, job: &Job<T>) -> bool {
        let is_waited_for = job.asked.elapsed() < self.patience || job.shown.credential.source == Source::Renewal;
        !self.is_stopping.load(Ordering::Acquire) && is_waited_for
    }
}
