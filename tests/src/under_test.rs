//! Which server the suite is about: the adapter, and the broker of servers whose tests do not say it. Each test holds for all.

use std::env;
use std::num::NonZero;
use std::thread;

/// The adapter under test: its binary's name.
const SERVER: &str = "FANFARE_TEST_SERVER";
/// `memory` or `redis`.
const BROKER: &str = "FANFARE_TEST_BROKER";

/// What drives the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// `fanfare`, with event loops.
    Mio,
    /// `fanfare-threaded`, with a thread per connection.
    Threaded,
}

impl Adapter {
    /// The one that `FANFARE_TEST_SERVER` names; `fanfare` if it names none.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    pub fn under_test() -> Adapter {
        match variable(SERVER).as_deref() {
            None | Some("fanfare") => Adapter::Mio,
            Some("fanfare-threaded") => Adapter::Threaded,
            Some(other) => panic!("{SERVER} is fanfare or fanfare-threaded, not {other:?}"),
        }
    }

    /// Of the package and of its binary.
    pub fn name(self) -> &'static str {
        match self {
            Adapter::Mio => "fanfare",
            Adapter::Threaded => "fanfare-threaded",
        }
    }

    /// Bytes of memory that a connection may take beside its messages: a record of 64 bytes, a socket, a timer, an entry of a
    /// map, and as much again for vectors that grow. A thread of its own touches some 10 KB more.
    pub fn connection_bytes(self) -> u64 {
        match self {
            Adapter::Mio => 1 << 10,
            Adapter::Threaded => 16 << 10,
        }
    }

    /// Bytes of memory that the allocator keeps at hand. Where many threads allocate, glibc's has up to eight arenas for each
    /// processor, every one with 128 KiB that nobody uses at its end, and what has been freed in front of it.
    pub fn arenas_bytes(self) -> u64 {
        match self {
            Adapter::Mio => 0,
            Adapter::Threaded => 8 * thread::available_parallelism().map_or(1, NonZero::get) as u64 * (256 << 10),
        }
    }
}

/// Whether servers whose tests say nothing of a broker have a Redis of their own: what `FANFARE_TEST_BROKER` says.
///
/// # Panics
///
/// If it says neither `memory` nor `redis`.
pub fn uses_redis() -> bool {
    match variable(BROKER).as_deref() {
        None | Some("memory") => false,
        Some("redis") => true,
        Some(other) => panic!("{BROKER} is memory or redis, not {other:?}"),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
