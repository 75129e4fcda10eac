//! What is said on one connection. A thread writes what is asked ([`Writer`]). The link's thread reads the replies, which come in the
//! order of asking, and the messages between them.

use super::answers::Answers;
use super::ask::{Ask, Message, Probe, Publish};
use super::awaited::Awaited;
use super::connection::{Connection, error_text, reply_of, standing, tells_cluster};
use super::context::{LinkContext, Over};
use super::report::Report;
use super::role::Role;
use super::writer::Writer;
use crossbeam_channel::{Sender, unbounded};
use fanfare_core::broker::PublishError;
use fanfare_core::broker::redis::history::HistoryError;
use fanfare_core::broker::redis::resp::Reply;
use fanfare_core::broker::redis::{Canary, CanaryNews, Complaints, Refusal, Standing, Trouble};
use fanfare_core::time::Time;
use redis::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

/// The end that reads.
pub(super) struct Conversation<'a> {
    pub(super) link: &'a LinkContext,
    pub(super) awaited: Arc<Awaited>,
    pub(super) answers: Answers,
    /// To the end that writes.
    asks: Sender<Ask>,
    start: Instant,
    trouble: Trouble,
    /// How often the scripts have been loaded since one of them ran.
    pub(super) loads_in_a_row: u32,
    pub(super) complaints: &'a mut Complaints,
}

/// Why a connection is of no use any more.
pub(super) type Reason = String;

const NO_NUMBER: &str = "PUBLISH was answered with something else than a number";

/// Why the connection must end, if it must.
pub(super) type Verdict = Result<(), Reason>;

impl Conversation<'_> {
    /// Reports what Redis says until the connection ends, and returns why it did. Every publish is answered.
    pub(super) fn hold(
        link: &LinkContext,
        mut connection: Connection,
        complaints: &mut Complaints,
    ) -> Result<Reason, Over> {
        let (asks, asked) = unbounded();
        // A subscriber may not ask; and all lead to the same server.
        let awaited = Arc::new(Awaited::new(link.role != Role::Subscriber && connection.tells_role));
        let answers = Answers { counts: Arc::clone(&link.counts), inbox: link.reporter() };
        let writer = Writer {
            socket: Arc::clone(&connection.socket),
            asks: asked,
            awaited: Arc::clone(&awaited),
            config: Arc::clone(&link.config),
            answers: answers.clone(),
            again_at: None,
            probe_at: Instant::now() + link.config.probe_interval,
            loads: link.loads_scripts(),
            waits_for_replicas: link.role == Role::DurablePublisher,
        };
        let thread = thread::Builder::new().name("fanfare-ask".to_owned());
        if let Err(error) = thread.spawn(move || writer.run()) {
            return Ok(format!("no thread to write with: {error}"));
        }
        let trouble = Trouble::new(link.config.seed.rotate_left(32).wrapping_add(link.role as u64));
        let (start, loads_in_a_row) = (Instant::now(), 0);
        let mut conversation =
            Conversation { link, awaited, answers, asks, start, trouble, loads_in_a_row, complaints };
        if link.loads_scripts() {
            conversation.have_scripts(connection.unloaded.take());
            // All lead to the same server, which is worth one word.
            if link.role == Role::Publisher {
                conversation.may_evict(connection.eviction.take());
            }
        }
        link.report(Report::Up(link.role, conversation.asks.clone()))?;
        let mut reason = conversation.listen(&mut connection)?;
        if let Some(given_up) = conversation.awaited.take_given_up() {
            reason = given_up;
        }
        connection.socket.shutdown();
        let (unknown, unanswered) = conversation.awaited.end();
        let stored = conversation.awaited.replication().lose();
        for (publish, _) in stored {
            conversation.answers.fail(Ask::Publish(publish), PublishError::Unconfirmed)?;
        }
        for ask in unknown {
            conversation.answers.fail(ask, PublishError::Unavailable)?;
        }
        for ask in unanswered {
            conversation.answers.fail(ask, PublishError::Unconfirmed)?;
        }
        Ok(reason)
    }

    fn listen(&mut self, connection: &mut Connection) -> Result<Reason, Over> {
        loop {
            let outcome = match connection.read(&self.link.config) {
                Ok(Value::Array(items)) if self.link.role == Role::Subscriber => self.take_push(items)?,
                Ok(Value::Array(items)) => self.take_list(&items)?,
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

    /// The number of those who were sent a message, a PONG, or the name of a script.
    fn take_reply(&mut self, reply: &Value) -> Result<Verdict, Over> {
        match self.answered() {
            Some(Ask::Publish(publish @ Publish { message: Message::Plain { .. }, .. }))
                if matches!(reply, Value::Int(_)) =>
            {
                self.answers.succeed(&publish, None).map(Ok)
            }
            Some(Ask::Wait(wait)) if let Value::Int(replicas) = reply => {
                self.waited(wait, (*replicas).clamp(0, u16::MAX.into()) as u16, None).map(Ok)
            }
            Some(Ask::Canary { number, .. }) if matches!(reply, Value::Int(_)) => {
                self.canary(CanaryNews::Published(number)).map(Ok)
            }
            Some(Ask::Load(script)) => Ok(self.loaded(script, &reply_of(reply))),
            Some(Ask::Probe { probe: Probe::Canary, .. }) => self.canary(CanaryNews::Passed).map(Ok),
            Some(Ask::Probe { probe: Probe::Ping, again }) => self.probed(again, None).map(Ok),
            // In a cluster a replica is as good as any, and so is who does not tell its role.
            Some(Ask::Probe { probe: Probe::Cluster, .. }) if !tells_cluster(reply) => self.demoted().map(Err),
            Some(Ask::Probe { again, .. }) => self.role_unknown(again).map(Ok),
            asked => self.mistaken(asked),
        }
    }

    /// What scripts reply, or a role.
    fn take_list(&mut self, items: &[Value]) -> Result<Verdict, Over> {
        match self.answered() {
            Some(Ask::Publish(publish @ Publish { message: Message::Stored { .. }, .. })) => {
                self.stored(publish, items)
            }
            Some(Ask::Read(read)) => self.have_read(read, items),
            Some(Ask::Probe { probe: Probe::Role, again }) if standing(items) == Standing::Replica => {
                self.tell_writer(Ask::Probe { probe: Probe::Cluster, again });
                Ok(Ok(()))
            }
            Some(Ask::Probe { probe: Probe::Role, again }) => self.probed(again, None).map(Ok),
            asked => self.mistaken(asked),
        }
    }

    /// It was answered with something else than such commands are.
    pub(super) fn mistaken(&self, asked: Option<Ask>) -> Result<Verdict, Over> {
        let Some(asked) = asked else { return Ok(unasked()) };
        let reason = match &asked {
            asked if asked.runs_script() => "a script was answered with something else than a list",
            Ask::Publish(_) => NO_NUMBER,
            Ask::Canary { .. } => return self.canary(CanaryNews::NotPublished(NO_NUMBER.to_owned())).map(Ok),
            Ask::Wait(_) => "WAIT was answered with something else than a number",
            _ => return Ok(unasked()),
        };
        self.answers.fail(asked, PublishError::Unconfirmed)?;
        Ok(Err(reason.to_owned()))
    }

    fn canary(&self, news: CanaryNews) -> Result<(), Over> {
        self.link.report(Report::Canary(news))
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
        self.complaints.probed();
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
    pub(super) fn tell_writer(&self, ask: Ask) {
        self.asks.send(ask).expect("the writer lasts while anybody can ask");
    }

    fn now(&self) -> Time {
        Time::from_micros(self.start.elapsed().as_micros() as u64)
    }

    fn take_error(&mut self, text: &str) -> Result<Verdict, Over> {
        let (error, text) = (text.as_bytes(), self.link.config.explained_error(text.as_bytes()));
        if HistoryError::of(error) == HistoryError::NoScript && self.repeats() {
            return Ok(Ok(()));
        }
        let asked = self.answered();
        let refusal = match &asked {
            Some(Ask::Probe { .. } | Ask::Load(_) | Ask::Canary { .. }) => Refusal::of_probe(error),
            _ => Refusal::of(error),
        };
        match (asked, refusal) {
            (Some(ask), _) if ask.runs_script() => return self.script_refused(ask, HistoryError::of(error)),
            (Some(Ask::Wait(wait)), _) => return self.waited(wait, 0, Some(&text)).map(Ok),
            (Some(Ask::Canary { .. }), _) => {
                if let Some(news) = Canary::refused(error, &self.link.config) {
                    self.canary(news)?;
                }
                if refusal == Refusal::Lasting {
                    return Ok(Ok(()));
                }
            }
            (Some(Ask::Load(script)), Refusal::Lasting) => {
                return Ok(self.loaded(script, &Reply::Error(error)));
            }
            // A publish is not made again: what its sender says next would overtake it.
            (Some(ask @ Ask::Publish(_)), Refusal::Lasting) => {
                return self.answers.fail(ask, PublishError::Refused).map(Ok);
            }
            (Some(ask @ Ask::Publish(_)), _) => self.answers.fail(ask, PublishError::Unavailable)?,
            (Some(Ask::Subscribe(room) | Ask::Unsubscribe(room)), Refusal::Lasting) => {
                return self.link.report(Report::SubscribeFailed(room, text)).map(Ok);
            }
            (Some(ask @ (Ask::Subscribe(_) | Ask::Unsubscribe(_))), Refusal::Passing) => self.awaited.refuse(ask),
            (Some(Ask::Probe { probe: Probe::Canary, .. }), Refusal::Lasting) => {
                return self.canary(CanaryNews::Passed).map(Ok);
            }
            (Some(Ask::Probe { probe: Probe::Canary, .. }), Refusal::Passing) => {
                self.canary(CanaryNews::PingRefused)?
            }
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
        self.judge(refusal, text)
    }

    /// What a refusal that is not about one command alone means for the connection.
    pub(super) fn judge(&mut self, refusal: Refusal, reason: String) -> Result<Verdict, Over> {
        match refusal {
            Refusal::Passing => self.refused(reason).map(Ok),
            Refusal::Replica => self.demoted().map(Err),
            _ => Ok(Err(reason)),
        }
    }

    /// Messages, and the confirmations of a connection that subscribes.
    fn take_push(&mut self, items: Vec<Value>) -> Result<Verdict, Over> {
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
                Some(Ask::Probe { probe: Probe::Canary, .. }) => self.canary(CanaryNews::Passed).map(Ok),
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
        let Some(room) = self.room_of(channel) else { return Ok(()) };
        if Canary::is_named(&room) {
            self.awaited.canary_heard();
        }
        self.link.report(Report::Message(room, payload))
    }

    fn room_of(&self, channel: Vec<u8>) -> Option<String> {
        let prefix = &self.link.config.prefix;
        let mut room = String::from_utf8(channel).ok().filter(|channel| channel.starts_with(prefix))?;
        room.drain(..prefix.len());
        Some(room)
    }
}

fn unasked() -> Verdict {
    Err("it answered what it was not asked".to_owned())
}
