//! The instances of the cluster: what is ordered of one is carried out by all, each says what came of it, and whoever was asked puts that
//! together. Orders and answers go through the broker, in rooms of programs, so that no instance needs to know the address of another.
//!
//! An order goes to the room `orders`, as `{"from":…,"number":…,"command":…}`, and an answer to the room `answers:<from>`, as
//! `{"number":…,"answer":…}`. How many have heard an order is the broker's answer to its publish.

use crate::link::{Link, Unanswered, with_id};
use crate::problem::{Problem, parse};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

/// Where orders are heard.
const ORDERS: &str = "orders";
/// Instances have so long to answer, where it is known how many there are.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// The same where that is not known, so that always so long is waited.
const WAITED_FOR_UNKNOWN: Duration = Duration::from_secs(1);
/// A broker that has refused is asked again after this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Orders of this instance that have not all their answers.
const ORDERS_MAX: usize = 64;
/// Answers to one order that wait to be put together.
const ANSWERS_MAX: usize = 1_024;

/// What an instance says of itself.
pub(crate) type About = Box<dyn Fn() -> Value + Send + Sync>;
/// Has this instance stop as a signal would.
pub(crate) type Stop = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;
/// An instance that stops answers first.
const STOPS_AFTER: Duration = Duration::from_millis(200);

/// What has come of an order, on one instance or on several.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// How many connections it concerned.
    pub connections: u64,
    /// Those that are listed.
    pub listed: Vec<Value>,
    /// Rooms, with the number of their members.
    pub rooms: BTreeMap<String, u64>,
    /// Whether there are more rooms than are listed.
    pub more: bool,
    /// What instances say of themselves.
    pub instances: Vec<Value>,
    /// Why it was not carried out.
    pub refused: Option<Refused>,
}

/// Why an instance has not carried out an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub code: String,
    pub reason: String,
}

impl Outcome {
    /// The same for both together, with at most so many rooms.
    fn join(&mut self, mut other: Outcome, rooms_max: usize) {
        self.connections += other.connections;
        self.listed.append(&mut other.listed);
        for (room, members) in other.rooms {
            *self.rooms.entry(room).or_default() += members;
        }
        self.more |= other.more || self.rooms.len() > rooms_max;
        while self.rooms.len() > rooms_max {
            self.rooms.pop_last();
        }
        self.instances.append(&mut other.instances);
        self.refused = self.refused.take().or(other.refused);
    }

    /// What a core has answered.
    fn of_core(answer: &[u8]) -> Outcome {
        #[derive(Deserialize)]
        struct Room {
            room: String,
            members: u64,
        }
        #[derive(Deserialize)]
        #[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
        enum Answer {
            Done { connections: u64 },
            Connections { connections: Vec<Value>, total: u64 },
            Rooms { rooms: Vec<Room>, more: bool },
            Error { code: String, reason: String },
        }
        match serde_json::from_slice(answer) {
            Ok(Answer::Done { connections }) => Outcome { connections, ..Outcome::default() },
            Ok(Answer::Connections { connections, total }) => {
                Outcome { connections: total, listed: connections, ..Outcome::default() }
            }
            Ok(Answer::Rooms { rooms, more }) => {
                let rooms = rooms.into_iter().map(|Room { room, members }| (room, members)).collect();
                Outcome { rooms, more, ..Outcome::default() }
            }
            Ok(Answer::Error { code, reason }) => Outcome::refused(&code, &reason),
            Err(error) => Outcome::refused("unreadable", &error.to_string()),
        }
    }

    fn refused(code: &str, reason: &str) -> Outcome {
        let refused = Refused { code: code.to_owned(), reason: reason.to_owned() };
        Outcome { refused: Some(refused), ..Outcome::default() }
    }
}

/// How many instances have carried out an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Reach {
    /// So many have answered in time.
    pub answered: u64,
    /// So many have heard the order. Absent where the broker does not tell: in a Redis Cluster with classic Pub/Sub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

/// This instance, and its way to the others.
pub(crate) struct Cluster {
    link: Link,
    /// Drawn when it starts.
    pub instance: String,
    /// Whether there is a broker by which there may be others.
    has_others: bool,
    about: About,
    stop: Stop,
    numbers: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Outcome>>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Cluster")
            .field("instance", &self.instance)
            .field("has_others", &self.has_others)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Ordered {
    from: String,
    number: u64,
    command: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Answered {
    number: u64,
    answer: Outcome,
}

/// What cores say unasked.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
enum Said {
    Held { room: String },
    Gone,
    Told { room: String, text: String },
    Error { room: Option<String>, reason: String },
}

impl Cluster {
    pub fn new(link: Link, instance: String, has_others: bool, about: About, stop: Stop) -> Cluster {
        let (numbers, waiting) = (AtomicU64::new(0), Mutex::default());
        Cluster { link, instance, has_others, about, stop, numbers, waiting }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all instances carry out a command, which has a `type` and no `id`. The outcome has at most `rooms_max` rooms.
    ///
    /// # Errors
    /// None has carried it out. Where some have, the others are those that have not answered.
    pub async fn order(&self, command: Value, rooms_max: usize) -> Result<(Outcome, Reach), Problem> {
        let Value::Object(command) = command else { unreachable!("a command is an object") };
        let (outcome, reach) = match self.has_others {
            false => {
                let outcome = self.obey(&command).await;
                let answered = u64::from(outcome.refused.is_none());
                (outcome, Reach { answered, of: Some(1) })
            }
            true => self.order_all(command, rooms_max).await?,
        };
        match &outcome.refused {
            Some(Refused { code, reason }) if reach.answered == 0 && outcome.connections == 0 => {
                Err(Problem::of_error(code, reason))
            }
            _ => Ok((outcome, reach)),
        }
    }

    async fn order_all(&self, command: Map<String, Value>, rooms_max: usize) -> Result<(Outcome, Reach), Problem> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (answer, mut answers) = mpsc::channel(ANSWERS_MAX);
        {
            let mut waiting = self.waiting();
            if waiting.len() >= ORDERS_MAX {
                return Err(Unanswered::Busy.into());
            }
            waiting.insert(number, answer);
        }
        let _forget = Forget { cluster: self, number };
        let ordered = Ordered { from: self.instance.clone(), number, command };
        let heard = self.tell(ORDERS, &ordered).await?;
        if heard == Some(0) {
            let detail = "the broker passes on no orders yet; try again in a moment";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable", detail));
        }
        let until = Instant::now() + if heard.is_some() { ANSWERED_WITHIN } else { WAITED_FOR_UNKNOWN };
        let (mut outcome, mut heard_of, mut answered) = (Outcome::default(), 0, 0);
        while heard.is_none_or(|heard| heard_of < heard)
            && let Ok(Some(answer)) = timeout_at(until, answers.recv()).await
        {
            heard_of += 1;
            answered += u64::from(answer.refused.is_none());
            outcome.join(answer, rooms_max);
        }
        Ok((outcome, Reach { answered, of: heard }))
    }

    /// Says something to all that hold the room: how many those are, if the broker tells.
    async fn tell(&self, room: &str, what: &impl Serialize) -> Result<Option<u64>, Problem> {
        #[derive(Deserialize)]
        struct Ack {
            receivers: Option<u64>,
        }
        let text = serde_json::to_string(what).expect("its keys are texts");
        let command = |id| json!({"type": "TELL", "id": id, "room": room, "text": text}).to_string();
        let answer = self.link.ask_core(self.speaker(), command).await?;
        let Ack { receivers } = parse(&answer)?;
        Ok(receivers)
    }

    /// Carries out a command here.
    async fn obey(&self, command: &Map<String, Value>) -> Outcome {
        let text = |name: &str| command.get(name).and_then(Value::as_str);
        if text("instance").is_some_and(|instance| instance != self.instance) {
            return Outcome::default();
        }
        let mut about = (self.about)();
        about["instance"] = Value::from(&*self.instance);
        let itself = || Outcome { instances: vec![about], ..Outcome::default() };
        match text("type") {
            Some("ABOUT") => itself(),
            Some("DRAIN") => {
                let stop = Arc::clone(&self.stop);
                tokio::spawn(async move {
                    sleep(STOPS_AFTER).await;
                    if let Err(error) = stop() {
                        tracing::error!(error, "cannot drain as a backend wants it");
                    }
                });
                itself()
            }
            Some("CONNECTIONS" | "DISCONNECT" | "EXPEL" | "ROOMS") => self.obey_by_cores(command).await,
            Some("SHED") => {
                let outcome = self.obey_by_cores(command).await;
                Outcome { instances: itself().instances, ..outcome }
            }
            _ => Outcome::refused("unknown_type", "an instance of this version has no such order"),
        }
    }

    async fn obey_by_cores(&self, command: &Map<String, Value>) -> Outcome {
        let rooms_max = command.get("limit").and_then(Value::as_u64).map_or(usize::MAX, |limit| limit as usize);
        let mut outcome = Outcome::default();
        let begin = |core| self.link.begin(core, |id| with_id(command, id), None);
        let asked: Vec<_> = self.link.open_cores().map(begin).collect();
        for asked in asked {
            let answer = match asked {
                Ok(asked) => asked.answer().await,
                Err(unanswered) => Err(unanswered),
            };
            let answer = match answer {
                Ok(answer) => Outcome::of_core(&answer),
                Err(unanswered) => {
                    let Problem { code, detail, .. } = unanswered.into();
                    Outcome::refused(&code, &detail)
                }
            };
            outcome.join(answer, rooms_max);
        }
        outcome.listed.truncate(rooms_max);
        outcome
    }

    /// The core by which this instance speaks to others: the first that has not ended.
    fn speaker(&self) -> usize {
        self.link.open_cores().next().unwrap_or(0)
    }

    /// Hears what others order and answer, from now on.
    pub async fn take_part(self: Arc<Self>, mut said: mpsc::Receiver<Vec<u8>>) {
        if !self.has_others {
            return;
        }
        self.hold_all();
        while let Some(text) = said.recv().await {
            match serde_json::from_slice(&text) {
                Ok(Said::Told { room, text }) if room == ORDERS => {
                    tokio::spawn(Arc::clone(&self).answer(text));
                }
                Ok(Said::Told { text, .. }) => self.hear(&text),
                Ok(Said::Held { room }) => tracing::debug!(room, "the API hears other instances"),
                Ok(Said::Error { room: Some(room), reason }) => {
                    tracing::warn!(reason, "the API cannot hear other instances");
                    let cluster = Arc::clone(&self);
                    tokio::spawn(async move {
                        sleep(ASKED_AGAIN_AFTER).await;
                        cluster.hold(&room);
                    });
                }
                // It may have been the one that heard the others.
                Ok(Said::Gone) => self.hold_all(),
                Ok(Said::Error { room: None, reason }) => tracing::debug!(reason, "a core refused something"),
                Err(error) => tracing::debug!(%error, "a core said something unknown"),
            }
        }
    }

    fn hold_all(&self) {
        self.hold(ORDERS);
        self.hold(&self.answers_to(&self.instance));
    }

    fn hold(&self, room: &str) {
        self.link.send(self.speaker(), json!({"type": "HOLD", "room": room}).to_string());
    }

    fn answers_to(&self, instance: &str) -> String {
        format!("answers:{instance}")
    }

    async fn answer(self: Arc<Self>, ordered: String) {
        // Nobody but instances says anything there: one of another version may.
        let Ok(Ordered { from, number, command }) = serde_json::from_str(&ordered) else { return };
        let answer = self.obey(&command).await;
        if let Err(problem) = self.tell(&self.answers_to(&from), &Answered { number, answer }).await {
            tracing::warn!(reason = problem.detail, "an order was carried out, and its answer could not be sent");
        }
    }

    fn hear(&self, answered: &str) {
        if let Ok(Answered { number, answer }) = serde_json::from_str(answered)
            && let Some(waiting) = self.waiting().get(&number)
        {
            // Too many, or nobody waits any more: it is an answer less, which is told.
            let _ = waiting.try_send(answer);
        }
    }
}

/// Ends the waiting for answers, however it ends.
struct Forget<'a> {
    cluster: &'a Cluster,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.cluster.waiting().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_put_together() {
        let rooms = |rooms: &[(&str, u64)], more| {
            let rooms = rooms.iter().map(|(room, members)| ((*room).to_owned(), *members)).collect();
            Outcome { rooms, more, connections: 2, ..Outcome::default() }
        };
        let mut all = rooms(&[("a", 1), ("c", 1)], false);
        all.join(rooms(&[("b", 5), ("c", 2)], false), 3);
        assert_eq!((all.connections, all.more), (4, false));
        all.join(rooms(&[("d", 1)], false), 3);
        assert_eq!((all.rooms.len(), all.rooms["c"], all.more), (3, 3, true));
        all.join(Outcome::refused("busy", "too many"), 3);
        assert_eq!(all.refused.unwrap().code, "busy");
    }

    #[test]
    fn what_cores_answer_is_understood() {
        let of = |text: &str| Outcome::of_core(text.as_bytes());
        assert_eq!(of(r#"{"type":"DONE","id":1,"connections":3}"#).connections, 3);
        let listed = of(r#"{"type":"CONNECTIONS","id":1,"connections":[{"connection":"a"}],"total":9}"#);
        assert_eq!((listed.connections, listed.listed.len()), (9, 1));
        let rooms = of(r#"{"type":"ROOMS","id":1,"rooms":[{"room":"a","members":2}],"more":true}"#);
        assert_eq!((rooms.rooms["a"], rooms.more), (2, true));
        assert_eq!(of(r#"{"type":"ERROR","code":"bad_field","reason":"r"}"#).refused.unwrap().code, "bad_field");
        assert_eq!(of("x").refused.unwrap().code, "unreadable");
    }
}
