//! The whole core under anything that can happen to it: bytes of any kind in any split, sockets that take little or fail, a
//! broker that answers in any order and lies, an adapter that names connections that are gone and drops actions half-way, and
//! time that jumps. No model here: what must hold is that nothing panics, that every invariant stands after every turn, that
//! each client is sent well-formed bytes, that a turn does no more work than its bounds
//! say, that all ends in the end, and that the same events give the same actions.

mod chaos;
mod clients;
mod work;

use super::steps::{short, steps};
use arbitrary::{Result, Unstructured};
use chaos::Chaos;

/// One thing that happens. Connections are named by the order in which they came, all that ever were; rooms by number.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Open,
    /// The same, with an address; from 128 on a WebSocket whose upgrade someone else has answered.
    OpenFrom(u8),
    /// A good request head for one of the paths, with a further field.
    Upgrade(u8, u8),
    /// Bytes, in pieces of this size.
    Bytes(u8, u8, &'a [u8]),
    /// A masked frame with any first byte.
    Frame(u8, u8, &'a [u8]),
    /// A text frame with what of the bytes is UTF-8.
    Text(u8, &'a [u8]),
    Subscribe(u8, u8),
    Unsubscribe(u8, u8),
    /// With an id, and with an echo.
    Send(u8, u8, bool, bool),
    Ping(u8),
    /// Many messages that make much work, of this kind.
    Flood(u8, u8),
    Writable(u8),
    Closed(u8),
    /// Events for a connection that may never have been.
    Stale(u32, u32),
    /// The socket takes so many bytes more.
    Takes(u8, u16),
    /// It takes everything.
    TakesAll(u8),
    /// It fails at the next write.
    Breaks(u8),
    /// The broker answers so many asks in good faith.
    Answer(u8),
    /// It says what it was not asked.
    Lie(Lie),
    /// Anybody publishes to a room.
    Foreign(u8, &'a [u8]),
    Timeout,
    Drain,
    /// So many of 255 have to go.
    Shed(u8),
    Shutdown,
    Wait(Wait),
    EndTurn,
    /// The turn ends, and the adapter carries out so many of its actions, and so many targets of the next.
    EndTurnEarly(u8, u8),
}

/// An event of the broker that answers nothing.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Up,
    Down,
    PublisherUp,
    PublisherDown,
    Subscribed(u8),
    Unsubscribed(u8),
    SubscribeFailed(u8),
    Published(u8),
    PublishFailed(u8, u8),
    Lost(u8),
    Refusing,
    Willing,
    Fenced(u8),
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    Millis(u16),
    Seconds(u16),
    /// To the time that the core asked for.
    NextTimeout,
    /// A clock that jumps.
    To(u64),
}

impl<'a> Step<'a> {
    fn read(bytes: &mut Unstructured<'a>) -> Result<Step<'a>> {
        Ok(match bytes.int_in_range(0..=25)? {
            0 => Step::Open,
            1 => Step::Upgrade(bytes.arbitrary()?, bytes.arbitrary()?),
            2 => Step::Bytes(bytes.arbitrary()?, bytes.arbitrary()?, short(bytes)?),
            3 => Step::Frame(bytes.arbitrary()?, bytes.arbitrary()?, short(bytes)?),
            4 => Step::Text(bytes.arbitrary()?, short(bytes)?),
            5 | 6 => Step::Subscribe(bytes.arbitrary()?, bytes.arbitrary()?),
            7 => Step::Unsubscribe(bytes.arbitrary()?, bytes.arbitrary()?),
            8 | 9 => Step::Send(bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?),
            10 => match bytes.arbitrary()? {
                conn @ ..0x80 => Step::Ping(conn),
                conn => Step::Flood(conn, bytes.arbitrary()?),
            },
            11 => Step::Writable(bytes.arbitrary()?),
            12 => Step::Closed(bytes.arbitrary()?),
            13 => Step::Stale(bytes.arbitrary()?, bytes.arbitrary()?),
            14 => Step::Takes(bytes.arbitrary()?, bytes.arbitrary()?),
            15 => Step::TakesAll(bytes.arbitrary()?),
            16 => Step::Breaks(bytes.arbitrary()?),
            17 => Step::Answer(bytes.arbitrary()?),
            18 => Step::Lie(Lie::read(bytes)?),
            19 => Step::Foreign(bytes.arbitrary()?, short(bytes)?),
            20 => Step::Timeout,
            21 => match bytes.arbitrary()? {
                ..0x60 => Step::Shutdown,
                0x60..0xa0 => Step::Drain,
                share => Step::Shed(share),
            },
            22 => Step::Wait(Wait::read(bytes)?),
            23 => Step::EndTurnEarly(bytes.arbitrary()?, bytes.arbitrary()?),
            24 => Step::EndTurn,
            _ => Step::OpenFrom(bytes.arbitrary()?),
        })
    }
}

impl Lie {
    fn read(bytes: &mut Unstructured<'_>) -> Result<Lie> {
        Ok(match bytes.int_in_range(0..=10)? {
            0 => Lie::Up,
            1 => Lie::Down,
            2 => Lie::PublisherUp,
            3 => Lie::PublisherDown,
            4 => Lie::Subscribed(bytes.arbitrary()?),
            5 => Lie::Unsubscribed(bytes.arbitrary()?),
            6 => Lie::SubscribeFailed(bytes.arbitrary()?),
            7 => Lie::Published(bytes.arbitrary()?),
            8 => Lie::Refusing,
            9 => Lie::Willing,
            _ => match (bytes.arbitrary()?, bytes.arbitrary()?) {
                (partition, 0xf0..) => Lie::Lost(partition),
                (fence, 0xe0..) => Lie::Fenced(fence),
                (publish, error) => Lie::PublishFailed(publish, error),
            },
        })
    }
}

impl Wait {
    fn read(bytes: &mut Unstructured<'_>) -> Result<Wait> {
        Ok(match bytes.int_in_range(0..=3)? {
            0 => Wait::Millis(bytes.arbitrary()?),
            1 => Wait::Seconds(bytes.arbitrary()?),
            2 => Wait::NextTimeout,
            _ => Wait::To(bytes.arbitrary()?),
        })
    }
}

/// The first byte chooses the limits; steps follow.
pub fn core(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let limits = bytes.arbitrary().unwrap_or(0);
    let steps = steps(&mut bytes, Step::read);
    let log = Chaos::run(limits, &steps);
    assert!(Chaos::run(limits, &steps) == log, "the same events give the same actions");
}
