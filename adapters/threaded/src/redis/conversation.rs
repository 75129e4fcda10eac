//! What is said on one connection: a thread writes what is asked, all that waits at once, until too much is unanswered; the link's
//! thread reads the replies, which come in the order of asking, and the messages between them.

use super::link::{Connection, Link, Over, Socket, error_text};
use super::{Counts, Report};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use fanfare_core::broker::redis::{RedisConfig, Role};
use fanfare_core::broker::{PublishError, PublishId};
use redis::{Value, cmd};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Commands of one write.
const BATCH_MAX: usize = 512;
/// With so many unanswered commands no more are written, until there are half as many: a message comes after all answers that
/// Redis owes, and after those that nobody has taken from the socket yet, so it would be late by as many. Enough for
/// Redis to have some at hand while one of the threads waits for a processor.
const UNANSWERED_MAX: usize = 1_024;

/// Something to ask of Redis.
#[derive(Debug)]
pub enum Ask {
    /// For a room's messages.
    Subscribe(String),
    /// For no more of them.
    Unsubscribe(String),
    /// To pass on a message.
    Publish(Publish),
    /// For a sign of life.
    Ping,
}

/// Something to be published.
#[derive(Debug)]
pub struct Publish {
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
    pub(super) id: Option<PublishId>,
    /// What it counts for among the bytes in flight.
    pub(super) bytes: usize,
}

/// What was asked and not answered yet.
struct Awaited {
    /// `None` once nothing will be answered any more.
    asks: Mutex<Option<VecDeque<Ask>>>,
    /// There are few, or none ever again.
    few: Condvar,
}

/// The end that reads.
pub(super) struct Conversation<'a> {
    link: &'a Link,
    awaited: Arc<Awaited>,
    answers: Answers,
}

/// The end that writes.
struct Writer {
    socket: Arc<Socket>,
    asks: Receiver<Ask>,
    awaited: Arc<Awaited>,
    config: Arc<RedisConfig>,
    answers: Answers,
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
    pub(super) fn hold(link: &Link, mut connection: Connection) -> Result<Reason, Over> {
        let (asks, asked) = unbounded();
        let awaited = Arc::new(Awaited::new());
        let answers = Answers { counts: Arc::clone(&link.counts), inbox: link.reporter() };
        let writer = Writer {
            socket: Arc::clone(&connection.socket),
            asks: asked,
            awaited: Arc::clone(&awaited),
            config: Arc::clone(&link.config),
            answers: answers.clone(),
        };
        let thread = thread::Builder::new().name("fanfare-ask".to_owned());
        if let Err(error) = thread.spawn(move || writer.run()) {
            return Ok(format!("no thread to write with: {error}"));
        }
        link.report(Report::Up(link.role, asks))?;
        let conversation = Conversation { link, awaited, answers };
        let reason = conversation.listen(&mut connection)?;
        connection.socket.shutdown();
        let unanswered = conversation.awaited.end();
        for ask in unanswered {
            conversation.answers.fail(ask, PublishError::Unconfirmed)?;
        }
        Ok(reason)
    }

    fn listen(&self, connection: &mut Connection) -> Result<Reason, Over> {
        loop {
            let outcome = match connection.read(&self.link.config) {
                Ok(Value::Array(items)) if self.link.role == Role::Subscriber => self.take_push(items)?,
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
    fn take_reply(&self, reply: &Value) -> Result<Result<(), Reason>, Over> {
        match self.answered() {
            Some(Ask::Publish(publish)) if matches!(reply, Value::Int(_)) => self.answers.succeed(&publish).map(Ok),
            Some(ask @ Ask::Publish(_)) => {
                self.answers.fail(ask, PublishError::Unconfirmed)?;
                Ok(Err("PUBLISH was answered with something else than a number".to_owned()))
            }
            Some(Ask::Ping) => Ok(Ok(())),
            _ => Ok(unasked()),
        }
    }

    fn take_error(&self, text: &str) -> Result<Result<(), Reason>, Over> {
        let text = self.link.config.printable_error(text.as_bytes());
        match self.answered() {
            Some(Ask::Subscribe(room)) => self.link.report(Report::SubscribeFailed(room, text)).map(Ok),
            Some(ask @ Ask::Publish(_)) => self.answers.fail(ask, PublishError::Refused).map(Ok),
            Some(Ask::Ping) => Ok(Ok(())),
            Some(Ask::Unsubscribe(_)) | None => Ok(Err(text)),
        }
    }

    /// Messages, and the confirmations of a connection that subscribes.
    fn take_push(&self, items: Vec<Value>) -> Result<Result<(), Reason>, Over> {
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
                Some(Ask::Ping) => Ok(Ok(())),
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
    fn new() -> Awaited {
        Awaited { asks: Mutex::new(Some(VecDeque::new())), few: Condvar::new() }
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

    fn is_empty(&self) -> bool {
        self.lock().as_ref().is_some_and(VecDeque::is_empty)
    }

    /// A list of asks is whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Ask>>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Writes what is asked until nobody can ask any more. What is asked after the connection's end is refused.
    fn run(self) {
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

    /// What waits, or a `PING` where nothing has been asked for some time.
    fn next_batch(&self) -> Option<Vec<Ask>> {
        loop {
            let first = match self.asks.recv_timeout(self.config.probe_interval) {
                Ok(first) => first,
                Err(RecvTimeoutError::Disconnected) => return None,
                // Whatever has no answer yet is probe enough.
                Err(RecvTimeoutError::Timeout) if self.awaited.is_empty() => Ask::Ping,
                Err(RecvTimeoutError::Timeout) => continue,
            };
            return Some([first].into_iter().chain(self.asks.try_iter().take(BATCH_MAX - 1)).collect());
        }
    }
}

impl Ask {
    fn encode(&self, prefix: &str, out: &mut Vec<u8>) {
        match self {
            Ask::Subscribe(room) => cmd("SUBSCRIBE").arg(format!("{prefix}{room}")).write_packed_command(out),
            Ask::Unsubscribe(room) => cmd("UNSUBSCRIBE").arg(format!("{prefix}{room}")).write_packed_command(out),
            Ask::Publish(Publish { channel, payload, .. }) => {
                cmd("PUBLISH").arg(channel).arg(payload).write_packed_command(out);
            }
            Ask::Ping => cmd("PING").write_packed_command(out),
        }
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
