//! Between the API's thread and the cores: commands on their way to a core, and answers on their way back.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Commands of one core that have no answer. More are refused, because a core that answers so late has too much to do.
const UNANSWERED_MAX: usize = 4_096;
/// An answer that is not there by then is given up: longer than a broker is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// What a core has said unasked, and nobody has heard yet.
const UNASKED_MAX: usize = 4_096;

type Wake = Box<dyn Fn() + Send + Sync>;

/// A command for a core.
#[derive(Debug)]
pub struct Order {
    /// As JSON, with an `id`.
    pub text: String,
    /// Who is told to have sent the message.
    pub user: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Too many wait already. The command was not taken.
    Busy,
    /// It may have been carried out.
    TimedOut,
}

/// The text of a command, with its `id`.
pub(crate) fn with_id(command: &Map<String, Value>, id: u64) -> String {
    let mut command = command.clone();
    command.insert("id".to_owned(), Value::from(id));
    Value::Object(command).to_string()
}

/// The API's end: commands go to the cores in turn.
#[derive(Clone, Debug)]
pub struct Link {
    ends: Arc<[Mailbox]>,
    next: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Mailbox {
    state: Mutex<State>,
    /// There are orders in it. It is set and cleared while that is locked.
    has_orders: AtomicBool,
    wake: OnceLock<Wake>,
    ids: AtomicU64,
    /// Where what the core says unasked goes.
    unasked: OnceLock<mpsc::Sender<Vec<u8>>>,
    /// Its core has ended, and acts upon nothing any more.
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    unanswered: HashMap<u64, oneshot::Sender<Vec<u8>>>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Mailbox").field("has_orders", &self.has_orders).finish_non_exhaustive()
    }
}

impl Mailbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Puts an order in. Whoever waits for its answer is known before the core can give one.
    fn push(&self, order: Order, waiting: Option<(u64, oneshot::Sender<Vec<u8>>)>) -> Result<(), Unanswered> {
        {
            let mut state = self.state();
            // What nobody waits for any more is done all the same.
            let is_full = state.unanswered.len().max(state.orders.len()) >= UNANSWERED_MAX;
            if is_full || self.is_closed() {
                return Err(Unanswered::Busy);
            }
            state.unanswered.extend(waiting);
            state.orders.push_back(order);
            self.has_orders.store(true, Ordering::Release);
        }
        if let Some(wake) = self.wake.get() {
            wake();
        }
        Ok(())
    }
}

impl Link {
    /// To so many cores.
    pub fn new(cores: usize) -> Link {
        Link { ends: (0..cores).map(|_| Mailbox::default()).collect(), next: Arc::default() }
    }

    /// The end of this core, whose loop `wake` wakes.
    pub fn end(&self, core: usize, wake: impl Fn() + Send + Sync + 'static) -> End {
        // Each core has one.
        let _ = self.ends[core].wake.set(Box::new(wake));
        End { ends: Arc::clone(&self.ends), core }
    }

    /// How many cores there are.
    pub(crate) fn cores(&self) -> usize {
        self.ends.len()
    }

    /// Those that have not ended. While a server drains, its cores end one after another.
    pub(crate) fn open_cores(&self) -> impl Iterator<Item = usize> {
        (0..self.cores()).filter(|core| !self.ends[*core].is_closed())
    }

    /// The core whose turn it is. What is to keep its order has to go to one.
    pub(crate) fn next_core(&self) -> usize {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.cores();
        self.open_cores().find(|core| *core >= next).or_else(|| self.open_cores().next()).unwrap_or(next)
    }

    /// What a core answers this command, as JSON. `command` writes it, with the `id` that it is given.
    pub(crate) async fn ask(&self, command: impl FnOnce(u64) -> String) -> Result<Vec<u8>, Unanswered> {
        self.ask_core(self.next_core(), command).await
    }

    /// What cores say unasked, from now on; of one that has ended [`GONE`]. To be asked for once.
    pub(crate) fn unasked(&self) -> mpsc::Receiver<Vec<u8>> {
        let (said, hears) = mpsc::channel(UNASKED_MAX);
        for end in self.ends.iter() {
            let _ = end.unasked.set(said.clone());
        }
        hears
    }

    /// Has this core act upon a command that has no `id`, and so no answer.
    pub(crate) fn send(&self, core: usize, text: String) {
        // A core that has too much to do, or has ended, is told again by whoever misses what should have followed.
        let _ = self.ends[core].push(Order { text, user: None }, None);
    }

    /// The same as [`Link::ask`] of this core.
    pub(crate) async fn ask_core(
        &self,
        core: usize,
        command: impl FnOnce(u64) -> String,
    ) -> Result<Vec<u8>, Unanswered> {
        self.begin(core, command, None)?.answer().await
    }

    /// Has this core act upon a command, behind those that it was given before. `user` is told to have sent its message.
    pub(crate) fn begin(
        &self,
        core: usize,
        command: impl FnOnce(u64) -> String,
        user: Option<String>,
    ) -> Result<Asked<'_>, Unanswered> {
        let mailbox = &self.ends[core];
        let id = mailbox.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        mailbox.push(Order { text: command(id), user }, Some((id, answer)))?;
        Ok(Asked { mailbox, id, answered, until: Instant::now() + ANSWERED_WITHIN })
    }
}

/// A command on its way. Dropping it ends the waiting for its answer.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    mailbox: &'a Mailbox,
    id: u64,
    answered: oneshot::Receiver<Vec<u8>>,
    until: Instant,
}

impl Asked<'_> {
    /// What the core answers, as JSON.
    pub async fn answer(mut self) -> Result<Vec<u8>, Unanswered> {
        let answer = timeout_at(self.until, &mut self.answered).await;
        answer.ok().and_then(Result::ok).ok_or(Unanswered::TimedOut)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.mailbox.state().unanswered.remove(&self.id);
    }
}

/// Said for a core that has ended.
pub(crate) const GONE: &[u8] = br#"{"type":"GONE"}"#;

/// The end of one core.
#[derive(Debug)]
pub struct End {
    ends: Arc<[Mailbox]>,
    core: usize,
}

impl Drop for End {
    /// The core has ended: nobody is to wait for it.
    fn drop(&mut self) {
        let mailbox = &self.ends[self.core];
        {
            let mut state = mailbox.state();
            mailbox.closed.store(true, Ordering::Release);
            state.orders.clear();
            state.unanswered.clear();
        }
        if let Some(unasked) = mailbox.unasked.get() {
            let _ = unasked.try_send(GONE.to_vec());
        }
    }
}

#[derive(Deserialize)]
struct Answered {
    id: Option<u64>,
}

impl End {
    /// Whether there is an order: then the loop must not sleep.
    pub fn is_ready(&self) -> bool {
        self.ends[self.core].has_orders.load(Ordering::Acquire)
    }

    /// Takes the oldest orders, so many at most.
    pub fn take(&mut self, most: usize) -> Vec<Order> {
        if !self.is_ready() {
            return Vec::new();
        }
        let mailbox = &self.ends[self.core];
        let mut state = mailbox.state();
        let count = state.orders.len().min(most);
        let orders = state.orders.drain(..count).collect();
        mailbox.has_orders.store(!state.orders.is_empty(), Ordering::Release);
        orders
    }

    /// The core has answered with this text. One that nobody waits for any more is dropped.
    pub fn answered(&mut self, text: &[u8]) {
        let Ok(Answered { id }) = serde_json::from_slice(text) else { return };
        let mailbox = &self.ends[self.core];
        let Some(id) = id else {
            if let Some(unasked) = mailbox.unasked.get() {
                // What is too much is lost, as it would be on a connection that breaks: whoever has asked hears of an answer less.
                let _ = unasked.try_send(text.to_vec());
            }
            return;
        };
        let waiting = mailbox.state().unanswered.remove(&id);
        if let Some(waiting) = waiting {
            // Its request may just have ended.
            let _ = waiting.send(text.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    fn command(room: &str) -> impl FnOnce(u64) -> String {
        move |id| format!(r#"{{"id":{id},"room":"{room}"}}"#)
    }

    #[test]
    fn answers_find_their_commands_in_any_order() {
        let link = Link::new(1);
        let mut end = link.end(0, || {});
        run(async {
            let asked = |room: &'static str| link.ask(command(room));
            let answering = async {
                let mut orders = Vec::new();
                while orders.len() < 2 {
                    tokio::task::yield_now().await;
                    orders.extend(end.take(1));
                }
                assert!(!end.is_ready());
                for Order { text, .. } in orders.into_iter().rev() {
                    end.answered(b"no JSON");
                    end.answered(br#"{"id":77}"#);
                    end.answered(text.as_bytes());
                }
            };
            let (first, second, ()) = tokio::join!(asked("a"), asked("b"), answering);
            assert!(first.unwrap().ends_with(br#""room":"a"}"#) && second.unwrap().ends_with(br#""room":"b"}"#));
        });
    }

    #[test]
    fn no_more_wait_than_may_and_each_core_has_its_turn() {
        let link = Link::new(2);
        let mut ends = [link.end(0, || {}), link.end(1, || {})];
        for core in 0..2 {
            let mut state = link.ends[core].state();
            let senders = (0..UNANSWERED_MAX as u64).map(|id| (id, oneshot::channel().0));
            state.unanswered.extend(senders);
        }
        for _ in 0..2 {
            assert_eq!(run(link.ask(command("a"))), Err(Unanswered::Busy));
        }
        assert!(ends.iter_mut().all(|end| end.take(8).is_empty()));
    }

    #[test]
    fn nobody_waits_for_a_core_that_has_ended() {
        let link = Link::new(2);
        let mut said = link.unasked();
        let [first, mut second] = [link.end(0, || {}), link.end(1, || {})];
        run(async {
            let asked = link.begin(0, command("a"), None).unwrap();
            drop(first);
            assert_eq!(asked.answer().await, Err(Unanswered::TimedOut));
            assert_eq!(said.recv().await.as_deref(), Some(GONE));
        });
        assert!(matches!(link.begin(0, command("a"), None), Err(Unanswered::Busy)));
        assert_eq!(link.open_cores().collect::<Vec<_>>(), [1]);
        for _ in 0..3 {
            let core = link.next_core();
            assert_eq!(core, 1);
            drop(link.begin(core, command("a"), None).unwrap());
        }
        assert_eq!(second.take(8).len(), 3);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_counted_while_it_is_in_line() {
        let link = Link::new(1);
        let _end = link.end(0, || {});
        for _ in 0..UNANSWERED_MAX {
            drop(link.begin(0, command("a"), None).unwrap());
        }
        assert!(matches!(link.begin(0, command("a"), None), Err(Unanswered::Busy)));
    }
}
