//! The newest messages of a room, kept in memory: whoever comes back soon is given them without a question to the broker.

use crate::history::Removal;
use std::collections::VecDeque;

/// What an entry costs beside its text: its place, and an allocator's header and rounding.
const ENTRY_BYTES: usize = size_of::<Box<[u8]>>() + 16;

/// Texts of messages without a hole between them, by their offsets. That of what is removed is empty, and that of a removal its payload.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The offset of the first; without any, of the next to come.
    first: u64,
    texts: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Tail {
    /// None, before the message with this offset.
    pub fn beginning_at(first: u64) -> Tail {
        Tail { first, ..Tail::default() }
    }

    /// The offset of the oldest; of the next to come where there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The offset behind the newest.
    pub fn end(&self) -> u64 {
        self.first + self.texts.len() as u64
    }

    /// What this text takes of it.
    pub fn entry_bytes(text: &[u8]) -> usize {
        text.len() + ENTRY_BYTES
    }

    /// Its memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, offset: u64) -> Option<&[u8]> {
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.texts.get(index).map(|text| &**text)
    }

    /// Adds the message that follows the newest.
    pub fn push(&mut self, text: &[u8]) {
        self.texts.push_back(text.into());
        self.bytes += text.len() + ENTRY_BYTES;
    }

    /// Adds the message before the oldest.
    pub fn push_front(&mut self, text: &[u8]) {
        self.texts.push_front(text.into());
        self.first -= 1;
        self.bytes += text.len() + ENTRY_BYTES;
    }

    /// Forgets the oldest.
    pub fn pop(&mut self) {
        if let Some(text) = self.texts.pop_front() {
            self.first += 1;
            self.bytes -= text.len() + ENTRY_BYTES;
        }
        if self.texts.is_empty() {
            self.texts.shrink_to_fit();
        }
    }

    /// Forgets what the removal that stands at `at` removes. Its place stays.
    pub fn remove(&mut self, removal: Removal, at: u64) {
        let (from, to) = match removal {
            Removal::One(offset) => (offset, offset.saturating_add(1)),
            Removal::All => (self.first, at),
        };
        for offset in from.max(self.first)..to.min(at).min(self.end()) {
            let text = std::mem::take(&mut self.texts[(offset - self.first) as usize]);
            self.bytes -= text.len();
        }
    }

    /// Forgets what comes after this message.
    pub fn cut_behind(&mut self, offset: u64) {
        while self.end() > offset + 1
            && let Some(text) = self.texts.pop_back()
        {
            self.bytes -= text.len() + ENTRY_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_keeps_its_place_and_no_memory() {
        let mut tail = Tail::beginning_at(7);
        for text in ["seven", "eight", "nine", "REMOVED 8"] {
            tail.push(text.as_bytes());
        }
        tail.remove(Removal::One(8), 10);
        tail.remove(Removal::One(3), 10);
        tail.remove(Removal::One(u64::MAX), 10);
        assert_eq!((tail.get(7), tail.get(8), tail.get(9)), (Some(&b"seven"[..]), Some(&b""[..]), Some(&b"nine"[..])));
        assert_eq!(tail.bytes(), "sevennineREMOVED 8".len() + 4 * ENTRY_BYTES);
        tail.remove(Removal::All, 10);
        assert_eq!((tail.get(7), tail.get(10), tail.end()), (Some(&b""[..]), Some(&b"REMOVED 8"[..]), 11));
        assert_eq!(tail.bytes(), "REMOVED 8".len() + 4 * ENTRY_BYTES);
    }

    #[test]
    fn it_is_read_by_offset_and_counts_its_memory() {
        let mut tail = Tail::beginning_at(7);
        for text in ["seven", "eight", "nine"] {
            tail.push(text.as_bytes());
        }
        assert_eq!((tail.first(), tail.end(), tail.get(8)), (7, 10, Some(&b"eight"[..])));
        assert_eq!((tail.get(6), tail.get(10)), (None, None));
        tail.pop();
        tail.cut_behind(8);
        assert_eq!((tail.first(), tail.end(), tail.get(8)), (8, 9, Some(&b"eight"[..])));
        assert_eq!(tail.bytes(), 5 + ENTRY_BYTES);
        tail.cut_behind(3);
        assert_eq!((tail.first(), tail.end(), tail.bytes()), (8, 8, 0));
        tail.pop();
        assert_eq!(tail.first(), 8);
        tail.push_front(b"seven");
        assert_eq!((tail.first(), tail.end(), tail.get(7)), (7, 8, Some(&b"seven"[..])));
        assert_eq!(tail.bytes(), 5 + ENTRY_BYTES);
    }
}
