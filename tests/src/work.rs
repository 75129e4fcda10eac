//! How much work a core may do for its clients, as bounds of what can be counted from outside: bytes that must have been inflated,
//! bytes that it says, members that it writes to. All follow from [`Config`] and from what was fed. [`world`] holds a core
//! to them whatever its clients send; the fuzz target `core` does so in every step.

pub mod sender;
pub mod world;

use fanfare_core::{Config, Rate};
use std::time::Duration;

/// A connection's bytes are looked at until they have made so much work beyond themselves (ARCHITECTURE.md, "The turn").
const LOOK_BYTES: usize = 32 * 1024;
/// What a byte becomes at most where a text is made JSON: `\u0001`.
const ESCAPED_BYTES_MAX: usize = 6;
/// More than the server's own words around what the client has chosen: the reason of an `ERROR`, and an id of 64 escaped bytes; the
/// header of a publish.
const WORDS_BYTES_MAX: usize = 1_024;
/// What stands before the message's text in a publish.
const HEADER_BYTES_MAX: usize = 64;
/// For each byte that a client sends, so many are published or said at most beside what is charged: the server's own words. A text of
/// one byte is published with a header of 22 and a `MESSAGE` of 41 around it, and came in a frame of 7. Of commands, which have such
/// words themselves, and of pongs it is less.
const SAID_PER_BYTE: usize = 10;
/// A member that is written to counts once more in a turn for each so many bytes.
const BYTES_PER_MEMBER: usize = 4 * 1024;
/// Of a run so many bytes are handed out at once, if half of what a connection may leave unread is not less.
const PART_BYTES: usize = 64 * 1024;
/// Runs that have become longer than a part go out whole while all of them are no more for all members.
const WHOLE_BYTES: usize = 4 * 1024 * 1024;
/// Of a silence before it, so much makes good for what a connection sends.
const SILENCE: Duration = Duration::from_secs(1);

/// The bounds that hold with a configuration.
///
/// **A look** at bytes is what an event of a client's bytes gives, and `Event::Timeout` once where bytes are kept. It ends with the
/// message that brings its surplus to 32 KiB. Before that message it was less; the message itself adds no more than what it inflates
/// to (`message_bytes_max`), what it grows by when it is made JSON (six bytes for one), and one reply or the name of its room. So the
/// surplus of a look has a bound, whatever the bytes are: [`Bounds::surplus_of_look`]. All that is inflated, published and said at
/// once in a look is in its bytes and its surplus, but for headers of frames and of publishes, for which `SAID_PER_BYTE` stands.
///
/// **A turn** of an adapter that reads a connection once has two looks, the one of the event and the one of the timeout. Publishes
/// that waited for their `SUBSCRIBE` can come in addition, of which there are no more than `deferred_total_bytes_max`.
///
/// **A connection** is charged its bytes before they are looked at, and the surplus of each look after it. A charge that is too much ends
/// it. So all that it ever makes is no more than its rate allows in its time, with the burst, and the surplus of one look, which is that
/// for which it goes.
#[derive(Clone, Debug)]
pub struct Bounds {
    config: Config,
}

impl Bounds {
    /// Those of a core with this configuration.
    pub fn new(config: &Config) -> Bounds {
        Bounds { config: config.clone() }
    }

    /// A reply's bytes.
    pub fn reply(&self) -> usize {
        // Of names only quotation marks and backslashes are escaped.
        WORDS_BYTES_MAX + 2 * self.config.limits.room_name_bytes_max
    }

    /// What a look makes beyond its bytes.
    pub fn surplus_of_look(&self) -> usize {
        LOOK_BYTES + self.config.limits.message_bytes_max.saturating_mul(ESCAPED_BYTES_MAX) + self.reply()
    }

    /// What so many looks inflate, beyond the bytes at which they look.
    pub fn inflated(&self, looks: usize) -> usize {
        looks * (LOOK_BYTES + self.config.limits.message_bytes_max)
    }

    /// What so many looks at so many bytes publish and say at once.
    pub fn said(&self, looks: usize, bytes: usize) -> usize {
        SAID_PER_BYTE * bytes + looks * self.surplus_of_look()
    }

    /// Bytes of publishes that may have waited for their SUBSCRIBEs, with their headers.
    pub fn deferred(&self) -> usize {
        self.config
            .limits
            .deferred_total_bytes_max
            .max(self.config.limits.message_bytes_max * ESCAPED_BYTES_MAX + self.reply())
    }

    /// Frames of so many messages of the broker with so many bytes, which become JSON.
    pub fn reports(&self, reports: usize, bytes: usize) -> usize {
        reports * self.reply() + ESCAPED_BYTES_MAX * bytes
    }

    /// What a turn writes to members of rooms; no frame is longer than `frame`. Whoever subscribes again, leaves or is closed is given
    /// in addition what waits for it, at once, because what it is told next must not overtake that.
    ///
    /// Runs of small rooms are taken until `members_per_turn_max` have been reached, those of the room at hand until so many more as
    /// make it a large one, and of large rooms until a sixteenth; the last run that is taken may be beyond. A member counts once and
    /// again for each 4 KiB, so bytes are no more than 4 KiB times the count. To that come runs that go out whole.
    pub fn given(&self, frame: usize) -> usize {
        let group = usize::from(self.config.limits.group_members_max);
        let part = PART_BYTES.min(self.config.limits.outbox_bytes_max / 2).max(frame);
        let members =
            self.config.limits.members_per_turn_max + 4 * group + self.config.limits.members_per_turn_max / 16;
        WHOLE_BYTES + members * BYTES_PER_MEMBER + 2 * group * part
    }

    /// What so many publishes have of their own beside what is charged.
    pub fn headers(&self, publishes: usize) -> usize {
        HEADER_BYTES_MAX * publishes
    }

    /// What a connection has been charged of bytes at most, in this time; nothing says how much where there is no limit.
    pub fn charged_bytes(&self, age: Duration) -> Option<usize> {
        allowed(self.config.limits.bytes, age, SILENCE)
    }

    /// What all connections together have made beyond their bytes, where nobody is read while that is too much.
    pub fn charged_surplus(&self, age: Duration) -> Option<usize> {
        allowed(self.config.limits.surplus, age, Duration::ZERO)
    }

    /// What it has been charged of deliveries.
    pub fn charged_deliveries(&self, age: Duration) -> Option<usize> {
        allowed(self.config.limits.deliveries, age, SILENCE)
    }

    /// How many of its messages have been acted upon.
    pub fn charged_messages(&self, age: Duration) -> Option<usize> {
        allowed(self.config.limits.messages, age, SILENCE)
    }

    /// What one message to so many members is charged, in deliveries: one for each member and started KiB, and the burst at most.
    pub fn deliveries(&self, members: usize, message_bytes: usize) -> usize {
        (members * message_bytes.div_ceil(1_024)).min(self.config.limits.deliveries.burst as usize)
    }
}

/// What a rate allows in this time; of a silence before it, so much counts.
fn allowed(rate: Rate, age: Duration, silence: Duration) -> Option<usize> {
    let micros = (age + silence).as_micros() as u64;
    rate.is_limited().then(|| (rate.burst + (rate.per_second * micros).div_ceil(1_000_000)) as usize)
}
