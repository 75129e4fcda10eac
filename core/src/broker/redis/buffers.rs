//! The bytes of one connection that wait: `Inbox` for the unfinished remainder of a reply, `Outbox` for commands not
//! yet handed to the kernel. Both own nothing while idle and keep their warm capacity while busy. What the bytes mean
//! is none of their business.

use super::resp::{self, Limits, Malformed, Scan};

/// Capacity that is always kept, in bytes: a turn's commands and the usual remainder of a reply fit.
const KEPT_BYTES: usize = 64 * 1024;

/// Uses between two looks at whether capacity is left over from a burst: rare enough that a steady load of large
/// buffers does not pay for giving back and taking again.
const USES_BETWEEN_SHRINKS: u32 = 1024;

/// Bytes that are added to a remainder, at least, before it is scanned again, so that a line of unknown length that
/// began in one read is not looked at once per byte of the next one.
const TOP_UP_BYTES_MIN: usize = 512;

/// Watches how much of a buffer is used, to give back what only a burst needed.
#[derive(Debug, Default)]
struct Highwater {
    bytes: usize,
    uses: u32,
}

impl Highwater {
    /// The buffer held `bytes` in one use that has ended; it is empty now.
    fn used(&mut self, bytes: usize, buffer: &mut Vec<u8>) {
        self.bytes = self.bytes.max(bytes);
        self.uses += 1;
        if self.uses >= USES_BETWEEN_SHRINKS {
            self.settle(buffer);
        }
    }

    /// Shrinks to what has been used since the last time, if that is much less than what is held.
    fn settle(&mut self, buffer: &mut Vec<u8>) {
        let wanted = self.bytes.max(KEPT_BYTES);
        if buffer.capacity() > 2 * wanted {
            buffer.shrink_to(wanted);
        }
        *self = Highwater::default();
    }
}

/// What [`Inbox::feed`] found, whole.
pub(super) enum Received<'a> {
    Message { channel: &'a [u8], payload: &'a [u8] },
    Oversized,
    Reply(resp::Reply<'a>),
}

/// Why [`Inbox::feed`] stopped: the stream is broken, or whoever takes the replies will have no more of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped<E> {
    Malformed(Malformed),
    Refused(E),
}

/// The receiving side: cuts what arrives into replies, borrowed from what was read where they are whole in it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    remainder: Vec<u8>,
    /// The length below which the remainder need not be looked at again.
    need: usize,
    /// Bytes of an oversized payload still to come and be dropped, the line end behind it included.
    skip: u64,
    highwater: Highwater,
}

impl Inbox {
    /// Takes what was read and hands out every reply that it completes, in order.
    pub(super) fn feed<E>(
        &mut self,
        mut data: &[u8],
        limits: &Limits,
        mut take: impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<(), Stopped<E>> {
        while !data.is_empty() {
            if self.skip > 0 {
                data = self.skipped(data).map_err(Stopped::Malformed)?;
                continue;
            }
            if self.remainder.is_empty() {
                let scan = resp::scan(data, limits).map_err(Stopped::Malformed)?;
                match self.found(scan, &mut take).map_err(Stopped::Refused)? {
                    Some(len) => data = &data[len..],
                    None => {
                        self.remainder.extend_from_slice(data);
                        return Ok(());
                    }
                }
                continue;
            }
            let missing = self.need.saturating_sub(self.remainder.len());
            let (top_up, later) = data.split_at(missing.max(TOP_UP_BYTES_MIN).min(data.len()));
            // Grows at once to what is known to come, which the limits bound.
            self.remainder.reserve(missing.max(top_up.len()));
            self.remainder.extend_from_slice(top_up);
            if self.remainder.len() < self.need {
                return Ok(());
            }
            let remainder = std::mem::take(&mut self.remainder);
            let scan = resp::scan(&remainder, limits).map_err(Stopped::Malformed)?;
            let taken = self.found(scan, &mut take).map_err(Stopped::Refused)?;
            self.remainder = remainder;
            data = match taken {
                // The bytes behind the reply are the end of the top-up: without it there was no reply.
                Some(len) => {
                    let surplus = self.remainder.len() - len;
                    self.remainder.clear();
                    self.highwater.used(len, &mut self.remainder);
                    &data[top_up.len() - surplus..]
                }
                None => later,
            };
        }
        Ok(())
    }

    /// Hands out what was found; how many bytes that took, or none if it is unfinished.
    fn found<E>(
        &mut self,
        scan: Scan<'_>,
        take: &mut impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        match scan {
            Scan::Message { channel, payload, len } => {
                take(Received::Message { channel, payload })?;
                Ok(Some(len))
            }
            Scan::Reply { reply, len } => {
                take(Received::Reply(reply))?;
                Ok(Some(len))
            }
            Scan::Oversized { header_len, payload_len } => {
                self.skip = payload_len.saturating_add(2);
                take(Received::Oversized)?;
                Ok(Some(header_len))
            }
            Scan::Incomplete { need } => {
                self.need = need;
                Ok(None)
            }
        }
    }

    /// Drops the part of an oversized payload that `data` begins with, and returns what follows it.
    fn skipped<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let take = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
        let (skipped, rest) = data.split_at(take);
        self.skip -= take as u64;
        // Only what falls into the last two places is looked at: the line end that proves the stream in step.
        let behind = usize::try_from(self.skip).unwrap_or(usize::MAX);
        for (place, expected) in [(0_usize, b'\n'), (1, b'\r')] {
            let seen = place.checked_sub(behind).and_then(|back| skipped.len().checked_sub(back + 1));
            if seen.is_some_and(|index| skipped[index] != expected) {
                return Err(Malformed::MissingLineEnd);
            }
        }
        Ok(rest)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.remainder.capacity()
    }

    /// Gives back capacity that only a burst needed. For quiet moments.
    pub(super) fn settle(&mut self) {
        if self.remainder.is_empty() {
            self.highwater.settle(&mut self.remainder);
        }
    }
}

/// Bytes in the order in which they came: appended at the one end, taken at the other.
#[derive(Debug, Default)]
pub(super) struct ByteQueue {
    bytes: Vec<u8>,
    /// How many of `bytes` are taken already.
    taken: usize,
    highwater: Highwater,
}

impl ByteQueue {
    /// For appending to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// All that is there, the oldest first.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The oldest `len` bytes are needed no more.
    pub(super) fn take(&mut self, len: usize) {
        self.taken += len;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.highwater.used(self.taken, &mut self.bytes);
            self.taken = 0;
        } else if self.taken >= KEPT_BYTES && self.taken >= self.bytes.len() / 2 {
            // Each move halves what is held, so that every byte is moved once on average at most.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Gives back capacity that only a burst needed. For quiet moments.
    pub(super) fn settle(&mut self) {
        if self.bytes.is_empty() {
            self.highwater.settle(&mut self.bytes);
        }
    }
}

/// The sending side. Places in the stream are counted from the connection's beginning, so that it is known for every
/// command whether the kernel has it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: ByteQueue,
    sent_total: u64,
}

impl Outbox {
    /// For appending commands to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        self.queue.tail()
    }

    /// What waits to be handed over.
    pub(super) fn unsent(&self) -> &[u8] {
        self.queue.waiting()
    }

    /// The place in the stream behind the last byte appended.
    pub(super) fn end(&self) -> u64 {
        self.sent_total + self.unsent().len() as u64
    }

    /// The place in the stream behind the last byte handed over.
    pub(super) fn sent_total(&self) -> u64 {
        self.sent_total
    }

    /// The first `len` of the unsent bytes are the kernel's now.
    pub(super) fn written(&mut self, len: usize) {
        assert!(len <= self.unsent().len(), "more written than there was to write");
        self.queue.take(len);
        self.sent_total += len as u64;
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.queue.bytes.capacity()
    }

    /// Gives back capacity that only a burst needed. For quiet moments.
    pub(super) fn settle(&mut self) {
        self.queue.settle();
    }
}
