//! What was asked on a connection and not answered yet, for the thread that writes and the one that reads.

use super::ask::{Ask, Publish};
use fanfare_core::broker::redis::history::Script;
use fanfare_core::broker::redis::replication::Replication;
use fanfare_core::history::Position;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Unanswered commands beyond which no more are written until half are answered. A message comes after all answers that Redis owes,
/// and after those still in the socket, so it would be late by as many. Enough for Redis to have some at hand while one of the
/// threads waits for a processor.
const UNANSWERED_MAX: usize = 1_024;

/// What was asked and not answered yet.
pub(super) struct Awaited {
    /// `None` once nothing will be answered any more.
    asks: Mutex<Option<Asks>>,
    /// More may be written, or nothing ever again.
    may_write: Condvar,
    /// What was refused for a while, to be asked again.
    refused: Mutex<Vec<Ask>>,
    /// What is stored, and waits for replicas.
    replication: Mutex<Replication<(Publish, Position)>>,
    /// The server's role is worth asking for.
    pub(super) asks_role: AtomicBool,
    /// Why the connection was given up here, if it was.
    given_up: Mutex<Option<String>>,
    /// When the subscriber has heard the canary last, which is as good as a PONG.
    canary_heard_at: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Asks {
    /// In the order in which they were written.
    unanswered: VecDeque<Ask>,
    /// Redis has forgotten the scripts: what it did not know, to be repeated before anything else is written.
    unknown: Option<Vec<Ask>>,
}

impl Asks {
    /// Whether more than so many are unanswered, or any has to be before more is written.
    fn exceed(&self, unanswered_max: usize) -> bool {
        let max = if self.unknown.is_some() { 0 } else { unanswered_max };
        self.unanswered.len() > max
    }
}

impl Awaited {
    pub(super) fn new(asks_role: bool) -> Awaited {
        Awaited {
            asks: Mutex::new(Some(Asks::default())),
            may_write: Condvar::new(),
            refused: Mutex::default(),
            replication: Mutex::default(),
            asks_role: AtomicBool::new(asks_role),
            given_up: Mutex::default(),
            canary_heard_at: Mutex::default(),
        }
    }

    pub(super) fn give_up(&self, reason: String) {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    pub(super) fn take_given_up(&self) -> Option<String> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn canary_heard(&self) {
        *self.canary_heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(super) fn canary_heard_at(&self) -> Option<Instant> {
        *self.canary_heard_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is stored, and waits for replicas.
    pub(super) fn replication(&self) -> MutexGuard<'_, Replication<(Publish, Position)>> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is to be asked again.
    pub(super) fn refuse(&self, ask: Ask) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn take_refused(&self) -> Vec<Ask> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a sign of life is asked for already, or whatever has no answer yet is probe enough.
    pub(super) fn is_probed(&self) -> bool {
        let asks = self.lock();
        let asks_role = self.asks_role.load(Relaxed);
        let is_probe = |ask: &Ask| !asks_role || matches!(ask, Ask::Probe { .. });
        asks.as_ref().is_some_and(|asks| asks.unanswered.iter().any(is_probe))
    }

    /// Takes what was asked first.
    pub(super) fn answered(&self) -> Option<Ask> {
        let mut asks = self.lock();
        let asks = asks.as_mut()?;
        let first = asks.unanswered.pop_front();
        self.wake(asks);
        first
    }

    fn wake(&self, asks: &Asks) {
        let at = if asks.unknown.is_some() { 0 } else { UNANSWERED_MAX / 2 };
        if asks.unanswered.len() == at {
            self.may_write.notify_one();
        }
    }

    /// Whether something is to be repeated that Redis did not know.
    pub(super) fn is_repeating(&self) -> bool {
        self.lock().as_ref().is_some_and(|asks| asks.unknown.is_some())
    }

    /// Redis does not know the script of what was asked first: it is repeated. In the same step, so that nothing is written in between.
    /// Returns whether it has a script at all.
    pub(super) fn unknown(&self) -> bool {
        let mut asks = self.lock();
        let Some(asks) = asks.as_mut() else { return false };
        let Asks { unanswered, unknown } = asks;
        if !unanswered.front().is_some_and(Ask::runs_script) {
            return false;
        }
        let repeated = unanswered.pop_front();
        self.replication().wrote(repeated.as_ref().map_or(0, Ask::replicas_min));
        unknown.get_or_insert_default().extend(repeated);
        self.wake(asks);
        true
    }

    /// A store of this room was made, and these were not, because somebody else has given Redis the script in between. Repeated, they would
    /// come after what their sender said later.
    pub(super) fn overtaken(&self, room: &str) -> Vec<Ask> {
        let mut asks = self.lock();
        let unknown = asks.as_mut().and_then(|asks| asks.unknown.as_mut());
        unknown.map_or_else(Vec::new, |unknown| unknown.extract_if(.., |ask| ask.stores_in(room)).collect())
    }

    /// Nothing will be answered any more. Takes what Redis has refused to do, and what it may have done.
    pub(super) fn end(&self) -> (Vec<Ask>, VecDeque<Ask>) {
        let Asks { unanswered, unknown } = self.lock().take().unwrap_or_default();
        self.may_write.notify_one();
        (unknown.unwrap_or_default(), unanswered)
    }

    /// Waits until more may be written; then these are asked as well, unless nothing will be answered any more: they come back. Returns
    /// what has to be written before.
    pub(super) fn ask(&self, batch: Vec<Ask>, prefix: &str) -> Result<Vec<u8>, Vec<Ask>> {
        let mut asks = self.lock();
        if asks.as_ref().is_some_and(|asks| asks.exceed(UNANSWERED_MAX - 1)) {
            let exceed = |asks: &mut Option<Asks>| asks.as_ref().is_some_and(|asks| asks.exceed(UNANSWERED_MAX / 2));
            asks = self.may_write.wait_while(asks, exceed).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(Asks { unanswered, unknown }) = asks.as_mut() else { return Err(batch) };
        let mut first = Vec::new();
        if let Some(unknown) = unknown.take() {
            unanswered.extend(Script::ALL.map(Ask::Load));
            unanswered.extend(unknown);
            unanswered.iter().for_each(|ask| ask.encode(prefix, &mut first));
        }
        unanswered.extend(batch);
        Ok(first)
    }

    /// A list of asks is whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, Option<Asks>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Message, Publish, Read};
    use super::*;
    use fanfare_core::broker::{PublishId, ReadId};
    use std::sync::Arc;
    use std::thread;

    fn publish(number: u64, room: Option<&str>) -> Ask {
        let message = match room {
            None => Message::Plain { channel: "c".to_owned(), payload: Vec::new() },
            Some(room) => Message::Stored {
                replicas_min: 0,
                room: room.to_owned(),
                command: format!("store{number} ").into_bytes(),
            },
        };
        Ask::Publish(Publish { message, id: Some(PublishId::new(number)), bytes: 0 })
    }

    fn read(number: u64) -> Ask {
        Ask::Read(Read { command: format!("read{number} ").into_bytes(), id: ReadId::new(number) })
    }

    /// Short names of them.
    fn names(asks: impl IntoIterator<Item = Ask>) -> Vec<String> {
        let name = |ask| match ask {
            Ask::Publish(publish) => format!("publish {}", publish.id.expect("an id").number()),
            Ask::Read(read) => format!("read {}", read.id.number()),
            Ask::Load(script) => format!("load {script:?}"),
            ask => format!("{ask:?}"),
        };
        asks.into_iter().map(name).collect()
    }

    fn all_answered(awaited: &Awaited) -> Vec<String> {
        names(std::iter::from_fn(|| awaited.answered()))
    }

    #[test]
    fn what_redis_does_not_know_is_repeated_in_front_of_what_comes_next() {
        let awaited = Awaited::new(false);
        let batch =
            vec![publish(1, Some("a")), publish(2, None), read(3), publish(4, Some("b")), publish(5, Some("a"))];
        assert_eq!(awaited.ask(batch, "").expect("it goes on"), b"");
        assert!(awaited.unknown() && awaited.is_repeating());
        assert!(!awaited.unknown(), "no script publishes");
        assert_eq!(names(awaited.answered()), ["publish 2"]);
        assert!(awaited.unknown() && awaited.unknown());
        // The last is stored, so the first is not any more.
        assert_eq!(names(awaited.answered()), ["publish 5"]);
        assert_eq!(names(awaited.overtaken("a")), ["publish 1"]);
        let first = awaited.ask(vec![publish(6, None)], "").expect("it goes on");
        assert!(first.ends_with(b"\r\nread3 store4 "), "{}", String::from_utf8_lossy(&first));
        assert!(!awaited.is_repeating());
        assert_eq!(all_answered(&awaited), ["load Store", "load Read", "read 3", "publish 4", "publish 6"]);
    }

    #[test]
    fn nothing_is_written_until_everything_is_answered() {
        let awaited = Arc::new(Awaited::new(false));
        awaited.ask(vec![publish(1, Some("a")), publish(2, None)], "").expect("it goes on");
        assert!(awaited.unknown());
        assert!(awaited.lock().as_ref().is_some_and(|asks| asks.exceed(UNANSWERED_MAX)));
        let writer = {
            let awaited = Arc::clone(&awaited);
            thread::spawn(move || awaited.ask(vec![publish(3, None)], ""))
        };
        assert_eq!(names(awaited.answered()), ["publish 2"]);
        let first = writer.join().expect("it does not panic").expect("it goes on");
        assert!(first.starts_with(b"*3\r\n$6\r\nSCRIPT\r\n") && first.ends_with(b"store1 "));
        assert_eq!(all_answered(&awaited), ["load Store", "load Read", "publish 1", "publish 3"]);
    }

    #[test]
    fn what_is_lost_is_told_from_what_was_refused() {
        let awaited = Awaited::new(false);
        awaited.ask(vec![publish(1, Some("a")), publish(2, Some("a"))], "").expect("it goes on");
        assert!(awaited.unknown());
        let (unknown, unanswered) = awaited.end();
        assert_eq!((names(unknown), names(unanswered)), (vec!["publish 1".to_owned()], vec!["publish 2".to_owned()]));
        assert_eq!(names(awaited.ask(vec![read(3)], "").expect_err("it has ended")), ["read 3"]);
    }
}
