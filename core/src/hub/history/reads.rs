//! What is asked of rooms' histories: so many questions at a time, the others wait in their order. Clients' `HISTORY` commands wait apart,
//! because any number of them may wait, and nobody becomes a member of a room before the core's own question about it is answered.

use crate::broker::ReadId;
use crate::history::{Epoch, Position, Query};
use crate::id::ConnId;
use crate::protocol::CommandId;
use crate::protocol::command::HistoryFrom;
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a question waits that could not be answered, and may be later.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What an answer is for. Keepers are named by their serial number, because another may have their room's key by then.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// To say what members of this room have missed; how often that has been asked.
    Learn(u64, u64),
    /// To tell those who come back whether nothing is missing behind this place.
    Resume(u64, Position),
    /// For those who come back and have yet to be given what is kept in memory no more.
    Page(u64),
    /// A client's `HISTORY`.
    History(Box<Asked>),
}

/// A client's question.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Nobody waits for the answer, if it must not have it any more.
    pub conn: Option<ConnId>,
    pub id: Option<CommandId>,
    pub room: Box<str>,
    pub from: HistoryFrom,
    pub epoch: Option<Epoch>,
    pub limit: u32,
}

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub room: u32,
    pub purpose: Purpose,
    pub query: Query,
}

#[derive(Debug)]
pub(super) struct Reads {
    next: u64,
    in_flight: BTreeMap<ReadId, Question>,
    in_flight_max: usize,
    /// Those of the core itself.
    own: VecDeque<Question>,
    /// Those of clients.
    histories: VecDeque<Question>,
    /// The last that was asked was the core's own. While both wait, they take turns.
    was_own: bool,
    /// The core's own that failed, and when to ask them again.
    failed: VecDeque<(Time, Question)>,
}

impl Reads {
    pub fn new(in_flight_max: usize) -> Reads {
        Reads {
            next: 0,
            in_flight: BTreeMap::new(),
            in_flight_max: in_flight_max.max(1),
            own: VecDeque::new(),
            histories: VecDeque::new(),
            was_own: false,
            failed: VecDeque::new(),
        }
    }

    pub fn push(&mut self, question: Question) {
        match question.purpose {
            Purpose::History(_) => self.histories.push_back(question),
            _ => self.own.push_back(question),
        }
    }

    /// The next to be asked now, if there is a place for one more.
    pub fn next(&mut self) -> Option<(ReadId, &Question)> {
        if self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let queue = if self.own.is_empty() || self.was_own && !self.histories.is_empty() {
            &mut self.histories
        } else {
            &mut self.own
        };
        let question = queue.pop_front()?;
        self.was_own = !matches!(question.purpose, Purpose::History(_));
        let id = ReadId::new(self.next);
        self.next += 1;
        Some((id, self.in_flight.entry(id).or_insert(question)))
    }

    /// What this answer is for; nothing where nobody waits for it.
    pub fn take(&mut self, id: ReadId) -> Option<Question> {
        self.in_flight.remove(&id)
    }

    /// One of the core's own could not be answered, and may be later.
    pub fn ask_later(&mut self, question: Question, now: Time) {
        self.failed.push_back((now + AGAIN_AFTER, question));
    }

    /// No answer comes to what has been asked: the core asks all of its own again, before the others. What clients have asked is taken out:
    /// they are told.
    pub fn void(&mut self) -> Vec<Asked> {
        let (mut asked, mut own) = (Vec::new(), VecDeque::new());
        let in_flight = std::mem::take(&mut self.in_flight).into_values();
        for question in in_flight.chain(self.histories.drain(..)) {
            match question.purpose {
                Purpose::History(history) => asked.push(*history),
                _ => own.push_back(question),
            }
        }
        own.append(&mut self.own);
        self.own = own;
        asked
    }

    /// What this connection has asked of the rooms of which it is so is not for it any more. Returns those questions. What has been asked
    /// already keeps its place until the answer comes.
    pub fn withdraw(&mut self, conn: ConnId, is_withdrawn: impl Fn(&str) -> bool) -> Vec<Asked> {
        let mut withdrawn = Vec::new();
        for question in self.in_flight.values_mut().chain(&mut self.histories) {
            if let Purpose::History(asked) = &mut question.purpose
                && asked.conn == Some(conn)
                && is_withdrawn(&asked.room)
            {
                withdrawn.push(Asked::clone(asked));
                asked.conn = None;
            }
        }
        withdrawn
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Time) {
        let due = self.failed.iter().take_while(|(at, _)| *at <= now).count();
        self.own.extend(self.failed.drain(..due).map(|(_, question)| question));
    }

    pub fn next_timeout(&self) -> Option<Time> {
        self.failed.front().map(|(at, _)| *at)
    }

    /// Whether none waits to be asked.
    pub fn is_idle(&self) -> bool {
        self.own.is_empty() && self.histories.is_empty() && self.failed.is_empty()
    }

    /// How many of clients wait for a place among those that are asked at a time.
    pub fn histories_waiting(&self) -> usize {
        self.histories.len()
    }

    /// How many have been asked and not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Clients that wait for the answer to a `HISTORY`.
    pub fn askers(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.asked().filter_map(|asked| asked.conn)
    }

    /// The rooms of whose histories this connection waits for a part.
    pub fn asked_by(&self, conn: ConnId) -> impl Iterator<Item = &str> {
        self.asked().filter(move |asked| asked.conn == Some(conn)).map(|asked| &*asked.room)
    }

    fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.in_flight.values().chain(&self.histories).filter_map(|question| match &question.purpose {
            Purpose::History(asked) => Some(&**asked),
            _ => None,
        })
    }
}
