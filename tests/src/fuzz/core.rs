//! The whole core under anything that can happen to it: bytes of any kind in any split, sockets that take little or fail, a
//! broker that answers in any order and lies, an adapter that names connections that are gone and drops actions half-way, and
//! time that jumps. No model here: what must hold is that nothing panics, that every invariant stands after every turn, that
//! each client is sent well-formed bytes, that all ends in the end, and that the same events give the same actions.

mod chaos;
mod clients;

use arbitrary::{Arbitrary, Unstructured};
use chaos::Chaos;

/// Longer histories say nothing new, and take their time.
const STEPS_MAX: usize = 300;

/// One thing that happens. Connections are named by the order in which they came, all that ever were; rooms by number.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step<'a> {
    Open,
    /// A good request head for one of the paths.
    Upgrade(u8, u8),
    /// Bytes, in pieces of this size.
    Bytes(u8, u8, &'a [u8]),
    /// A masked frame with any first byte.
    Frame(u8, u8, &'a [u8]),
    /// A text frame.
    Text(u8, &'a str),
    Subscribe(u8, u8),
    Unsubscribe(u8, u8),
    /// With an id, and with an echo.
    Send(u8, u8, bool, bool),
    Ping(u8),
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
    Shutdown,
    Wait(Wait),
    EndTurn,
    /// The turn ends, and the adapter carries out so many of its actions, and so many targets of the next.
    EndTurnEarly(u8, u8),
}

/// An event of the broker that answers nothing.
#[derive(Arbitrary, Clone, Copy, Debug)]
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
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Wait {
    Millis(u16),
    Seconds(u16),
    /// To the time that the core asked for.
    NextTimeout,
    /// A clock that jumps.
    To(u64),
}

/// The first byte chooses the limits; steps follow.
pub fn core(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let limits = bytes.arbitrary().unwrap_or(0);
    let steps = bytes.arbitrary_iter::<Step<'_>>().expect("any bytes are steps");
    let steps: Vec<_> = steps.map_while(Result::ok).take(STEPS_MAX).collect();
    let log = Chaos::run(limits, &steps);
    assert!(Chaos::run(limits, &steps) == log, "the same events give the same actions");
}
