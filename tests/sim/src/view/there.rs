//! Who is in rooms, as a connection was told: nobody comes who is there, and nobody goes who is not. And what it was told when it asked.

use super::{Ask, View};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Whoever observes a room is told of so many users at first.
const FIRST_MAX: usize = 100;

/// What a connection was told of a room.
#[derive(Clone, Debug, Default)]
pub(super) struct There {
    /// It was told that it is a member, and had asked who is there.
    is_asked: bool,
    /// Who is there, once it was told.
    users: Option<BTreeSet<String>>,
    /// It was told last how many are there, because they are too many to name.
    is_large: bool,
    /// The last answer to a question.
    answer: Option<(WhoAsk, Named)>,
}

/// A question who is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhoAsk {
    /// So many users at most.
    pub limit: usize,
    /// Those whose names stand behind this one.
    pub after: Option<&'static str>,
}

/// What a `PRESENT` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    total: u64,
    /// Users with their connections, and whether there are more behind these; `None` where only their number is told.
    users: Option<(Vec<(String, u64)>, bool)>,
}

impl Named {
    fn read(said: &Value) -> Result<Named, String> {
        let total = said["total"].as_u64().ok_or("nobody knows how many there are")?;
        if said["users"].is_null() && said["more"].is_null() {
            return Ok(Named { total, users: None });
        }
        let user = |said: &Value| Some((said["user"].as_str()?.to_owned(), said["connections"].as_u64()?));
        let users = said["users"].as_array().and_then(|users| users.iter().map(user).collect::<Option<Vec<_>>>());
        Ok(Named { total, users: Some(users.zip(said["more"].as_bool()).ok_or("it is not as it should be")?) })
    }

    /// Whether it can be an answer to this where nobody is named among more users than `named_max`.
    fn fits(&self, ask: WhoAsk, named_max: u64) -> bool {
        // For how long it goes on to be too many is not certain before everything is quiet.
        let Some((users, more)) = &self.users else { return true };
        let are_all = !more && ask.after.is_none();
        users.is_sorted_by(|(one, _), (next, _)| one < next)
            && users.iter().all(|(user, connections)| ask.after.is_none_or(|after| &**user > after) && *connections > 0)
            && users.len() <= ask.limit
            && (!more || users.len() == ask.limit)
            && self.total >= users.len() as u64 + u64::from(*more)
            && (!are_all || self.total == users.len() as u64)
            && self.total <= named_max
    }

    /// What is to be answered where these are there.
    fn of(truth: &BTreeMap<&str, u64>, ask: WhoAsk, named_max: u64) -> Named {
        let total = truth.len() as u64;
        let behind = truth.iter().filter(|(user, _)| ask.after.is_none_or(|after| **user > after));
        let behind: Vec<_> = behind.map(|(user, connections)| ((*user).to_owned(), *connections)).collect();
        let more = behind.len() > ask.limit;
        let users = (total <= named_max).then(|| (behind.into_iter().take(ask.limit).collect(), more));
        Named { total, users }
    }
}

impl View {
    /// In this room each of its SUBSCRIBE commands asks who is there.
    pub fn observes(&mut self, room: usize) {
        self.observed.insert(room);
    }

    /// Notes what something that has just been judged means for who is there.
    pub fn note_observing(&mut self, (kind, room, id): (&str, usize, Option<u64>), code: Option<&str>) {
        let (is_observed, seat) = (self.observed.contains(&room), &mut self.seats[room]);
        let is_withdrawn = kind == "ERROR" && id.is_none() && code == Some("forbidden");
        if !seat.is_member || is_withdrawn {
            seat.there = There { answer: seat.there.answer.take(), ..There::default() };
        } else if kind == "SUBSCRIBED" && id.is_some() && is_observed {
            seat.there.is_asked = true;
        }
    }

    /// Whether it is told who comes and goes, or is to be.
    pub fn is_told_who(&self, room: usize) -> bool {
        self.seats[room].there.is_asked || self.observed.contains(&room) && self.waits_for(room)
    }

    /// `PRESENT`, `JOINED` or `LEFT`.
    ///
    /// # Errors
    /// If it does not go with what was told before.
    pub fn hears_who(&mut self, kind: &str, room: usize, said: &Value) -> Result<(), String> {
        let there = &mut self.seats[room].there;
        if !there.is_asked {
            return Err("it has not asked who is there".to_owned());
        }
        if kind == "PRESENT" {
            let named = Named::read(said)?;
            let is_sound = named.fits(WhoAsk { limit: FIRST_MAX, after: None }, self.named_max);
            there.is_large = named.users.is_none();
            there.users = named.users.map(|(users, _)| users.into_iter().map(|(user, _)| user).collect());
            return if is_sound { Ok(()) } else { Err("it is not in order".to_owned()) };
        }
        let users = there.users.as_mut().ok_or("it was not told who is there")?;
        let name = said["user"].as_str().map(str::to_owned).ok_or("nobody is named")?;
        let is_new = if kind == "JOINED" { users.insert(name) } else { users.remove(&name) };
        if is_new { Ok(()) } else { Err(format!("it was so before: {users:?}")) }
    }

    /// The answer to a question who is there.
    ///
    /// # Errors
    /// If nobody asked, or it cannot be one.
    pub fn hears_answer(&mut self, room: usize, id: u64, said: &Value) -> Result<(), String> {
        let asked = self.take(Some(id), |ask| matches!(ask, Ask::Who(of, _) if *of == room));
        let Some(Ask::Who(_, ask)) = asked.map(|asked| asked.ask) else {
            return Err("PRESENT, and nobody asked".to_owned());
        };
        if !self.present[room] {
            return Err("nobody keeps who is there".to_owned());
        }
        let named = Named::read(said)?;
        let fits = named.fits(ask, self.named_max);
        self.seats[room].there.answer = Some((ask, named));
        if fits { Ok(()) } else { Err(format!("it is no answer to {ask:?}")) }
    }

    /// Whether the last answer to a question tells of these with so many connections.
    ///
    /// # Errors
    /// What it told otherwise.
    pub fn check_answer(&self, room: usize, truth: &BTreeMap<&str, u64>) -> Result<(), String> {
        let (ask, told) = self.seats[room].there.answer.as_ref().ok_or("a question who is there was not answered")?;
        let expected = Named::of(truth, *ask, self.named_max);
        if *told == expected {
            return Ok(());
        }
        Err(format!("client {} was told {told:?} to {ask:?}, and it was to be {expected:?}", self.client))
    }

    /// Whether it knows of these, if it has asked who is there.
    ///
    /// # Errors
    /// What it knows otherwise.
    pub fn check_there(&self, room: usize, truth: &BTreeSet<&str>) -> Result<(), String> {
        let there = &self.seats[room].there;
        let is_right = match &there.users {
            Some(users) => users.iter().map(|user| &**user).eq(truth.iter().copied()),
            None => there.is_large && truth.len() as u64 > self.named_max,
        };
        if is_right || !there.is_asked {
            return Ok(());
        }
        let large = if there.is_large { "too many" } else { "" };
        Err(format!("client {} knows of {:?} {large}, and there are {truth:?}", self.client, there.users))
    }
}
