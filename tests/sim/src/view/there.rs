//! Who is in rooms, as a connection was told: nobody comes who is there, and nobody goes who is not.

use super::View;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a connection was told of a room.
#[derive(Clone, Debug, Default)]
pub(super) struct There {
    /// It was told that it is a member, and had asked who is there.
    is_asked: bool,
    /// Who is there, once it was told.
    users: Option<BTreeSet<String>>,
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
            seat.there = There::default();
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
        let name = |user: &Value| user["user"].as_str().map(str::to_owned).ok_or("nobody is named");
        if kind == "PRESENT" {
            let users = said["users"].as_array().ok_or("there are few enough to name them")?;
            let names = users.iter().map(name).collect::<Result<Vec<_>, _>>()?;
            let is_sound = names.is_sorted_by(|one, next| one < next)
                && said["total"].as_u64() == Some(names.len() as u64)
                && said["more"] == false
                && users.iter().all(|user| user["connections"].as_u64().is_some_and(|connections| connections > 0));
            there.users = Some(names.into_iter().collect());
            return if is_sound { Ok(()) } else { Err("it is not in order".to_owned()) };
        }
        let users = there.users.as_mut().ok_or("it was not told who is there")?;
        let name = name(said)?;
        let is_new = if kind == "JOINED" { users.insert(name) } else { users.remove(&name) };
        if is_new { Ok(()) } else { Err(format!("it was so before: {users:?}")) }
    }

    /// Whether it knows of these, if it has asked who is there.
    ///
    /// # Errors
    /// What it knows otherwise.
    pub fn check_there(&self, room: usize, truth: &BTreeSet<&str>) -> Result<(), String> {
        let there = &self.seats[room].there;
        let is_right =
            there.users.as_ref().is_some_and(|users| users.iter().map(|user| &**user).eq(truth.iter().copied()));
        if is_right || !there.is_asked {
            return Ok(());
        }
        Err(format!("client {} knows of {:?}, and there are {truth:?}", self.client, there.users))
    }
}
