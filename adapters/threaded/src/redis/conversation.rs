//! What is said on one connection. A thread writes what is asked, all that waits at once, until too much is unanswered. The link's
//! thread reads the replies, which come in the order of asking, and the messages between them.

use super::ask::{Ask, Probe, Publish};
use super::connection::{Connection, error_text, standing, tells_cluster};
use super::context::{LinkContext, Over};
use super::report::{Counts, Report};
use super::socket::Socket;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use fanfare_core::broker::PublishError;
use fanfare_core::broker::redis::{RedisConfig, Refusal, Role, Standing, Trouble};
use fanfare_core::time::Time;
use redis::Value;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// Commands of one write.
const BATCH_MAX: usize = 512;
/// Unanswered commands beyond which no more are written until half are answered. A message comes after all answers that Redis owes,
/// and after those still in the socket, so it would be late by as many. Enough for Redis to have some at hand while one of the
/// threads waits for a processor.
const UNANSWERED_MAX: usize = 1_024;

/// What was asked and not answered yet.
struct Awaited {
    /// `None` once nothing will be answered any more.
    asks: Mutex<Option<VecDeque<Ask>>>,
    /// There are few, or none ever again.
    few: Condvar,
    /// What was refused for a while, to be asked again.
    refused: Mutex<Vec<Ask>>,
    /// The server's role is worth asking for.
    asks_role: AtomicBool,
    /// The server is a replica by now.
    demoted: AtomicBool,
}

/// The end that reads.
pub(super) struct Conversation<'a> {
    link: &'a LinkContext,
    awaited: Arc<Awaited>,
    answers: Answers,
    /// To the end that writes.
    asks: Sender<Ask>,
    start: Instant,
    trouble: Trouble,
}

/// The end that writes.
struct Writer {
    socket: Arc<Socket>,
    asks: Receiver<Ask>,
    awaited: Arc<Awaited>,
    config: Arc<RedisConfig>,
    answers: Answers,
    /// When what was refused for a while is asked again.
    again_at: Option<Instant>,
    /// When a sign of life is asked for: of who tells its role, which may change meanwhile, whatever else is asked.
    probe_at: Instant,
}

/// Where the outcome of a publish goes.
#[derive(Clone)]
struct Answers {
    counts: Arc<Counts>,
    inbox: Sender<Report>,
}

/// Why a connection is of no use any more.
type Reason = String;

impl Conversation<'_> {
    /// Reports what Redis says until the connection ends, and returns why it did. Every publish is answered.
    pub(super) fn hold(link: &LinkContext, mut connection: Connection) -> Result<Reason, Over> {
        let (asks, asked) = unbounded();
        // A subscriber may not ask; and both lead to the same server.
        let awaited = Arc::new(Awaited::new(link.role == Role::Publisher && connection.tells_role));
        let answers = Answers { counts: Arc::clone(&link.counts), inbox: link.reporter() };
        let writer = Writer {
            socket: Arc::clone(&connection.socket),
            asks: asked,
            awaited: Arc::clone(&awaited),
            config: Arc::clone(&link.config),
            answers: answers.clone(),
            again_at: None,
            probe_at: Instant::now() + link.config.probe_interval,
        };
        let thread = thread::Builder::new().name("fanfare-ask".to_owned());
        if let Err(error) = thread.spawn(move || writer.run()) {
            return Ok(format!("no thread to write with: {error}"));
        }
        link.report(Report::Up(link.role, asks.clone()))?;
        let trouble = Trouble::new(link.config.seed.rotate_left(32).wrapping_add(link.role as u64));
        let mut conversation = Conversation { link, awaited, answers, asks, start: Instant::now(), trouble };
        let mut reason = conversation.listen(&mut connection)?;
        if conversation.awaited.demoted.load(Relaxed) {
            reason = Standing::REPLICA.to_owned();
        }
        connection.socket.shutdown();
        let unanswered = conversation.awaited.end();
        for ask in unanswered {
            conversation.answers.fail(ask, PublishError::Unconfirmed)?;
        }
        Ok(reason)
    }

    fn listen(&mut self, connection: &mut Connection) -> Result<Reason, Over> {
        loop {
            let outcome = match connection.read(&self.link.config) {
                Ok(Value::Array(items)) if self.link.role == Role::Subscriber => self.take_push(items)?,
                Ok(Value::Array(items)) => self.take_role(&items)?,
                Ok(Value::ServerError(error)) => self.take_error(&error_text(&error))?,
                Ok(reply) => self.take_reply(&reply)?,
                Err(error) if error.is_timeout() => {
                    Err(format!("no answer to PING within {} ms", self.link.config.probe_timeout.as_millis()))
                }
                Err(error) if error.is_connection_dropped() => Err("it closed the connection".to_owned()),
                Err(error) => Err(self.link.reason(&error)),
            };
            if let Err(reason) = outcome {
                return Ok(reason);
            }
        }
    }

    /// What was asked first.
    fn answered(&self) -> Option<Ask> {
        self.awaited.answered()
    }

    /// The number of those who were sent a message, or a PONG.
    fn take_reply(&mut self, reply: &Value) -> Result<Result<(), Reason>, Over> {
        match self.answered() {
            Some(Ask::Publish(publish)) if matches!(reply, Value::Int(_)) => self.answers.succeed(&publish).map(Ok),
            Some(ask @ Ask::Publish(_)) => {
                self.answers.fail(ask, PublishError::Unconfirmed)?;
                Ok(Err("PUBLISH was answered with something else than a number".to_owned()))
            }
            Some(Ask::Probe { probe: Probe::Ping, again }) => self.probed(again, None).map(Ok),
            // In a cluster a replica is as good as any, and so is who does not tell its role.
            Some(Ask::Probe { probe: Probe::Cluster, .. }) if !tells_cluster(reply) => self.demoted().map(Err),
            Some(Ask::Probe { again, .. }) => self.role_unknown(again).map(Ok),
            _ => Ok(unasked()),
        }
    }

    fn take_role(&mut self, role: &[Value]) -> Result<Result<(), Reason>, Over> {
        match self.answered() {
            Some(Ask::Probe { probe: Probe::Role, again }) if standing(role) == Standing::Replica => {
                self.tell_writer(Ask::Probe { probe: Probe::Cluster, again });
                Ok(Ok(()))
            }
            Some(Ask::Probe { probe: Probe::Role, again }) => self.probed(again, None).map(Ok),
            _ => Ok(unasked()),
        }
    }

    fn demoted(&self) -> Result<Reason, Over> {
        self.link.report(Report::Demoted)?;
        Ok(Standing::REPLICA.to_owned())
    }

    fn role_unknown(&mut self, again: bool) -> Result<(), Over> {
        self.awaited.asks_role.store(false, Relaxed);
        self.probed(again, None)
    }

    /// Redis refuses something for a while.
    fn refused(&mut self, reason: String) -> Result<(), Over> {
        if self.trouble.reason().is_none() {
            self.trouble.begin(reason, self.now(), &self.link.config);
            self.tell_trouble()?;
        }
        Ok(())
    }

    /// A probe is answered, and whether Redis is willing.
    fn probed(&mut self, again: bool, trouble: Option<String>) -> Result<(), Over> {
        match trouble {
            trouble if again => {
                // A probe may be answered, and what stood in front of it refused.
                let still = self.trouble.reason().filter(|_| self.awaited.has_refused()).map(str::to_owned);
                self.trouble.answered(trouble.or(still), self.now(), &self.link.config);
                self.tell_trouble()
            }
            Some(reason) => self.refused(reason),
            None => Ok(()),
        }
    }

    fn tell_trouble(&self) -> Result<(), Over> {
        if let Some(again_at) = self.trouble.again_at() {
            self.tell_writer(Ask::Again(again_at.since(self.now())));
        }
        let reason = self.trouble.reason().map(|reason| format!("Redis: {reason}"));
        self.link.report(Report::Refusing(self.link.role, reason))
    }

    /// It takes asks for as long as there is this end, which keeps a sender.
    fn tell_writer(&self, ask: Ask) {
        self.asks.send(ask).expect("the writer lasts while anybody can ask");
    }

    fn now(&self) -> Time {
        Time::from_micros(self.start.elapsed().as_micros() as u64)
    }

    fn take_error(&mut self, text: &str) -> Result<Result<(), Reason>, Over> {
        let (error, text) = (text.as_bytes(), self.link.config.explained_error(text.as_bytes()));
        let asked = self.answered();
        let refusal = match &asked {
            Some(Ask::Probe { .. }) => Refusal::of_probe(error),
            _ => Refusal::of(error),
        };
        match (asked, refusal) {
            // A publish is not made again: what its sender says next would overtake it.
            (Some(ask @ Ask::Publish(_)), Refusal::Lasting) => {
                return self.answers.fail(ask, PublishError::Refused).map(Ok);
            }
            (Some(ask @ Ask::Publish(_)), _) => self.answers.fail(ask, PublishError::Unavailable)?,
            (Some(Ask::Subscribe(room) | Ask::Unsubscribe(room)), Refusal::Lasting) => {
                return self.link.report(Report::SubscribeFailed(room, text)).map(Ok);
            }
            (Some(ask @ (Ask::Subscribe(_) | Ask::Unsubscribe(_))), Refusal::Passing) => self.awaited.refuse(ask),
            (Some(Ask::Probe { again, .. }), Refusal::Passing) => return self.probed(again, Some(text)).map(Ok),
            // Any answer to a PING is one; whoever does not tell its role passes for a master.
            (Some(Ask::Probe { probe: Probe::Ping, again }), Refusal::Lasting) => {
                return self.probed(again, None).map(Ok);
            }
            (Some(Ask::Probe { probe: Probe::Role, again }), Refusal::Lasting) => {
                return self.role_unknown(again).map(Ok);
            }
            (Some(Ask::Probe { probe: Probe::Cluster, .. }), Refusal::Lasting) => return self.demoted().map(Err),
            _ => {}
        }
        match refusal {
            Refusal::Passing => self.refused(text).map(Ok),
            Refusal::Replica => self.demoted().map(Err),
            _ => Ok(Err(text)),
        }
    }

    /// Messages, and the confirmations of a connection that subscribes.
    fn take_push(&mut self, items: Vec<Value>) -> Result<Result<(), Reason>, Over> {
        let mut items = items.into_iter().map(|item| match item {
            Value::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        let (kind, channel) = (items.next().unwrap_or_default(), items.next().unwrap_or_default());
        match &kind[..] {
            b"message" => self.take_message(channel, items.next().unwrap_or_default()).map(Ok),
            b"subscribe" | b"unsubscribe" => {
                let room = self.room_of(channel);
                match (self.answered(), room) {
                    (Some(Ask::Subscribe(asked)), Some(room)) if kind == b"subscribe" && asked == room => {
                        self.link.report(Report::Subscribed(room)).map(Ok)
                    }
                    (Some(Ask::Unsubscribe(asked)), Some(room)) if kind == b"unsubscribe" && asked == room => {
                        self.link.report(Report::Unsubscribed(room)).map(Ok)
                    }
                    _ => Ok(unasked()),
                }
            }
            b"pong" => match self.answered() {
                Some(Ask::Probe { again, .. }) => self.probed(again, None).map(Ok),
                _ => Ok(unasked()),
            },
            _ => Ok(Ok(())),
        }
    }

    fn take_message(&self, channel: Vec<u8>, payload: Vec<u8>) -> Result<(), Over> {
        if payload.len() > self.link.config.message_bytes_max {
            self.link.counts.oversized.fetch_add(1, Relaxed);
            return Ok(());
        }
        // A channel that is no room's is nobody's.
        self.room_of(channel).map_or(Ok(()), |room| self.link.report(Report::Message(room, payload)))
    }

    fn room_of(&self, channel: Vec<u8>) -> Option<String> {
        let prefix = &self.link.config.prefix;
        let mut room = String::from_utf8(channel).ok().filter(|channel| channel.starts_with(prefix))?;
        room.drain(..prefix.len());
        Some(room)
    }
}

fn unasked() -> Result<(), Reason> {
    Err("it answered what it was not asked".to_owned())
}

impl Awaited {
    fn new(asks_role: bool) -> Awaited {
        Awaited {
            asks: Mutex::new(Some(VecDeque::new())),
            few: Condvar::new(),
            refused: Mutex::default(),
            asks_role: AtomicBool::new(asks_role),
            demoted: AtomicBool::new(false),
        }
    }

    /// Keeps what is to be asked again.
    fn refuse(&self, ask: Ask) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
    }

    fn has_refused(&self) -> bool {
        !self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take_refused(&self) -> Vec<Ask> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a sign of life is asked for already, or whatever has no answer yet is probe enough.
    fn is_probed(&self) -> bool {
        let asks = self.lock();
        let asks_role = self.asks_role.load(Relaxed);
        let is_probe = |ask: &Ask| !asks_role || matches!(ask, Ask::Probe { .. });
        asks.as_ref().is_some_and(|asks| asks.iter().any(is_probe))
    }

    /// Takes what was asked first.
    fn answered(&self) -> Option<Ask> {
        let mut asks = self.lock();
        let asks = asks.as_mut()?;
        let first = asks.pop_front();
        if asks.len() == UNANSWERED_MAX / 2 {
            self.few.notify_one();
        }
        first
    }

    /// Nothing will be answered any more. Takes everything.
    fn end(&self) -> VecDeque<Ask> {
        let asks = self.lock().take();
        self.few.notify_one();
        asks.unwrap_or_default()
    }

    /// Waits while there are many; then these are asked as well, unless nothing will be answered any more: they come back.
    fn ask(&self, batch: Vec<Ask>) -> Result<(), Vec<Ask>> {
        let mut asks = self.lock();
        if asks.as_ref().is_some_and(|asks| asks.len() >= UNANSWERED_MAX) {
            let many =
                |asks: &mut Option<VecDeque<Ask>>| asks.as_ref().is_some_and(|asks| asks.len() > UNANSWERED_MAX / 2);
            asks = self.few.wait_while(asks, many).unwrap_or_else(PoisonError::into_inner);
        }
        match asks.as_mut() {
            Some(asks) => asks.extend(batch),
            None => return Err(batch),
        }
        Ok(())
    }

    /// A list of asks is whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Ask>>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Writes what is asked until nobody can ask any more. What is asked after the connection's end is refused.
    fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            let mut bytes = Vec::new();
            batch.iter().for_each(|ask| ask.encode(&self.config.prefix, &mut bytes));
            // Noted before it is written: the replies may come sooner than this thread goes on.
            if let Err(batch) = self.awaited.ask(batch) {
                for ask in batch {
                    if self.answers.fail(ask, PublishError::Unavailable).is_err() {
                        return;
                    }
                }
                continue;
            }
            if (&mut &*self.socket).write_all(&bytes).is_err() {
                // Whoever reads has to know, and answers for what was written.
                self.socket.shutdown();
            }
        }
        self.socket.shutdown();
    }

    /// What waits, or what is due.
    fn next_batch(&mut self) -> Option<Vec<Ask>> {
        loop {
            let now = Instant::now();
            if self.again_at.is_some_and(|again_at| again_at <= now) {
                self.again_at = None;
                let mut batch = self.awaited.take_refused();
                batch.push(Ask::Probe { probe: self.probe(), again: true });
                return Some(batch);
            }
            if self.probe_at <= now {
                self.probe_at = now + self.config.probe_interval;
                if !self.awaited.is_probed() {
                    return Some(vec![Ask::Probe { probe: self.probe(), again: false }]);
                }
            }
            let until = self.again_at.map_or(self.probe_at, |again_at| again_at.min(self.probe_at));
            let first = match self.asks.recv_timeout(until.saturating_duration_since(now)) {
                Ok(first) => first,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => continue,
            };
            let waiting: Vec<Ask> = [first].into_iter().chain(self.asks.try_iter().take(BATCH_MAX - 1)).collect();
            let batch: Vec<Ask> = waiting.into_iter().filter(|ask| !self.is_for_itself(ask)).collect();
            if !batch.is_empty() {
                if !self.awaited.asks_role.load(Relaxed) {
                    self.probe_at = Instant::now() + self.config.probe_interval;
                }
                return Some(batch);
            }
        }
    }

    fn probe(&self) -> Probe {
        if self.awaited.asks_role.load(Relaxed) { Probe::Role } else { Probe::Ping }
    }

    /// Does what is not to be asked of Redis.
    fn is_for_itself(&mut self, ask: &Ask) -> bool {
        match ask {
            Ask::Again(pause) => self.again_at = Some(Instant::now() + *pause),
            Ask::GiveUp => {
                self.awaited.demoted.store(true, Relaxed);
                // Whoever reads notices.
                self.socket.shutdown();
            }
            _ => return false,
        }
        true
    }
}

impl Answers {
    fn succeed(&self, publish: &Publish) -> Result<(), Over> {
        let was_last = self.settle(publish);
        match publish.id {
            Some(id) => self.report(Report::Published(id)),
            None if was_last => self.report(Report::Settled),
            None => Ok(()),
        }
    }

    /// Other asks than publishes need no answer: that the connection is down says it all.
    fn fail(&self, ask: Ask, error: PublishError) -> Result<(), Over> {
        let Ask::Publish(publish) = ask else { return Ok(()) };
        if publish.id.is_none() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
        let was_last = self.settle(&publish);
        match publish.id {
            Some(id) => self.report(Report::PublishFailed(id, error)),
            None if was_last => self.report(Report::Settled),
            None => Ok(()),
        }
    }

    /// Returns whether none is in flight any more.
    fn settle(&self, publish: &Publish) -> bool {
        self.counts.in_flight_bytes.fetch_sub(publish.bytes, Relaxed);
        self.counts.in_flight.fetch_sub(1, Relaxed) == 1
    }

    fn report(&self, report: Report) -> Result<(), Over> {
        self.inbox.send(report).map_err(|_| Over)
    }
}
