//! Commands of one connection that are not written yet, each with what it is for.

use std::collections::VecDeque;

use super::buffers::ByteQueue;

/// The commands, oldest first.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    /// What each is for, unless it is not wanted any more, and how long it is.
    commands: VecDeque<(Option<T>, usize)>,
    bytes: ByteQueue,
}

impl<T> Default for Backlog<T> {
    fn default() -> Backlog<T> {
        Backlog { commands: VecDeque::new(), bytes: ByteQueue::default() }
    }
}

impl<T: Copy> Backlog<T> {
    /// Adds the command that `write` appends.
    pub(super) fn push(&mut self, what: T, write: impl FnOnce(&mut Vec<u8>)) {
        let bytes = self.bytes.tail();
        let start = bytes.len();
        write(bytes);
        let len = bytes.len() - start;
        self.commands.push_back((Some(what), len));
    }

    /// What the first is for.
    pub(super) fn first(&self) -> Option<T> {
        self.commands.front().and_then(|(what, _)| *what)
    }

    /// Whether there is one of which it is so.
    pub(super) fn any(&self, is_it: impl Fn(T) -> bool) -> bool {
        self.commands.iter().any(|(what, _)| what.is_some_and(&is_it))
    }

    /// Forgets the first.
    pub(super) fn pop(&mut self) {
        if let Some((_, len)) = self.commands.pop_front() {
            self.bytes.take(len);
        }
    }

    /// Bytes of all.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.waiting().len()
    }

    /// Those that are not wanted any more, because `is_wanted` says so; they are told to `dropped`.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(T) -> bool, mut dropped: impl FnMut(T)) {
        for (what, _) in &mut self.commands {
            if let Some(unwanted) = what.filter(|what| !is_wanted(*what)) {
                *what = None;
                dropped(unwanted);
            }
        }
    }

    /// Takes all of them. It seldom has any, so no memory is kept.
    pub(super) fn drain(&mut self, mut each: impl FnMut(T, &[u8])) {
        let Backlog { commands, mut bytes } = std::mem::take(self);
        for (what, len) in commands {
            if let Some(what) = what {
                each(what, &bytes.waiting()[..len]);
            }
            bytes.take(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_still_comes_out_as_it_came_in() {
        let mut backlog = Backlog::default();
        for (number, text) in [(1, "one"), (2, "two"), (3, ""), (4, "four")] {
            backlog.push(number, |out| out.extend_from_slice(text.as_bytes()));
        }
        assert_eq!(backlog.len_bytes(), 10);
        let mut dropped = Vec::new();
        backlog.retain(|number| number != 2, |number| dropped.push(number));
        backlog.retain(|number| number != 2, |number| dropped.push(number));
        let mut taken = Vec::new();
        backlog.drain(|number, bytes| taken.push((number, String::from_utf8_lossy(bytes).into_owned())));
        let expected = [(1, "one"), (3, ""), (4, "four")].map(|(number, text)| (number, text.to_owned()));
        assert_eq!((dropped, &taken[..], backlog.len_bytes()), (vec![2], &expected[..], 0));
        backlog.drain(|_, _| panic!("there is nothing"));
    }
}
