//! Lists of rooms that are being made, a part of the rooms in each turn.

use crate::hidden::is_hidden;
use crate::protocol::{CommandId, reply};
use std::collections::BTreeMap;

/// One of them.
#[derive(Debug)]
pub(super) struct List {
    id: CommandId,
    prefix: Box<str>,
    after: Box<str>,
    limit: usize,
    /// The first room that has not been looked at.
    pub at: u32,
    /// The first of those that belong to it, one more than it may have, with the number of their members.
    found: BTreeMap<Box<str>, usize>,
}

impl List {
    /// Of rooms whose names begin with `prefix` and stand behind `after`; the first `limit` of them.
    pub fn new(id: CommandId, prefix: Box<str>, after: Box<str>, limit: usize) -> List {
        List { id, prefix, after, limit, at: 0, found: BTreeMap::new() }
    }

    /// Looks at a room.
    pub fn consider(&mut self, name: &str, members: usize) {
        let is_of_it = name.starts_with(&*self.prefix) && *name > *self.after && !is_hidden(name);
        let is_full = self.found.len() > self.limit;
        if !is_of_it || is_full && self.found.last_key_value().is_some_and(|(last, _)| name > &**last) {
            return;
        }
        self.found.insert(name.into(), members);
        if is_full {
            self.found.pop_last();
        }
    }

    /// Appends the answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        reply::rooms(out, &self.id, &self.found, self.limit);
    }
}
