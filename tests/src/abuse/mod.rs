//! A siege: an attack at work, and beside it a publisher and a subscriber that keep the rules and must not notice.
//!
//! [`Siege`] judges what every attack has in common: the pair's messages all arrive, in order; the server's memory stays
//! below a bound; afterwards nothing is left of the attackers, and in the end nothing of anybody. [`Flood`] is the attack of many bytes, [`Hogs`] that of few
//! bytes that inflate; the others are few enough lines to stand in their tests.

mod flood;
mod inflating;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::{Adapter, Client, Metrics, Server, eventually};

pub use flood::{Flood, Outcome};
pub use inflating::{
    Hogs, INFLATED_BYTES, INFLATING_PER_READ, Readers, compressed, compressing, inflating_messages, inflating_pings,
    members_in_four_forms,
};

/// The room of the pair. No attacker is in it.
const ROOM: &str = "the pair's";

/// Messages on their way at once: order means nothing with one alone.
const IN_FLIGHT: u64 = 4;

/// The pause after each of these: some hundreds of messages a second, well below what any limit calls too fast. Nothing
/// waits for it but the pair itself.
const PAUSE: Duration = Duration::from_millis(10);

/// How many messages the pair must have exchanged during an attack, or it has not lasted.
const EXCHANGES_MIN: u64 = 10 * IN_FLIGHT;

/// What memory may grow by in any attack: a turn's megabyte of input with the answers to it, the metrics that are
/// served, pages of the program touched for the first time, and what the allocator keeps.
const ALLOWANCE_BYTES: u64 = 4 << 20;

/// A server under attack.
pub struct Siege<'a> {
    server: &'a Server,
    bytes_max: AtomicU64,
    exchanged: AtomicU64,
    /// How many they were when the attack began.
    exchanged_before: AtomicU64,
    over: AtomicBool,
    fallen: AtomicBool,
}

impl<'a> Siege<'a> {
    /// Carries out `attack` while the pair exchanges messages, and judges the outcome. The attack may take `bytes_max`
    /// bytes of the server's memory, beside what any turn needs. It ends its own connections.
    ///
    /// # Panics
    ///
    /// If a message of the pair is lost, late by [`crate::DEADLINE`] or out of order; if the server has used more memory;
    /// if anything of the attackers is left; or if the attack was over before the pair had said much.
    pub fn lay(server: &'a Server, bytes_max: u64, attack: impl FnOnce(&Siege<'a>)) {
        let siege = Siege {
            server,
            bytes_max: AtomicU64::new(bytes_max),
            exchanged: AtomicU64::new(0),
            exchanged_before: AtomicU64::new(0),
            over: AtomicBool::new(false),
            fallen: AtomicBool::new(false),
        };
        let subscriber = Client::member(server, ROOM);
        let publisher = Client::connect(server);
        thread::scope(|scope| {
            let pair = scope.spawn(|| {
                let _fallen = OnPanic(&siege.fallen);
                siege.keep_talking(publisher, subscriber)
            });
            {
                let _over = OnDrop(&siege.over);
                siege.fence();
                let before = siege.server.memory_bytes();
                siege.exchanged_before.store(siege.exchanged(), Ordering::Release);
                attack(&siege);
                assert!(
                    siege.has_lasted(),
                    "the attack was over before the pair had exchanged {EXCHANGES_MIN} messages"
                );
                siege.judge_memory(before);
                siege.wait_until_only_the_pair_is_left();
            }
            let (publisher, subscriber) = pair.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            publisher.leave();
            subscriber.leave();
        });
        for gauge in GAUGES {
            server.wait_for_metrics(&format!("{gauge} is 0"), |metrics| metrics.value(gauge) == 0.0);
        }
    }

    /// The server.
    pub fn server(&self) -> &'a Server {
        self.server
    }

    /// The attack has become larger than was known before: it may take so many bytes.
    pub fn allow(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Release);
    }

    /// Whether the pair has said enough for the attack to end.
    pub fn has_lasted(&self) -> bool {
        self.assert_standing();
        self.exchanged() - self.exchanged_before.load(Ordering::Acquire) >= EXCHANGES_MIN
    }

    /// Waits until messages that the pair sent after this call have gone through the server: it has read everything that
    /// was written to it before, a turn of its loop at least having passed.
    ///
    /// # Panics
    ///
    /// If the pair has fallen.
    pub fn fence(&self) {
        // Those on their way at the moment, and as many again.
        let target = self.exchanged() + 2 * IN_FLIGHT;
        eventually("messages of the pair pass", || {
            self.assert_standing();
            (self.exchanged() >= target).then_some(())
        });
    }

    /// Waits until the attack [has lasted](Siege::has_lasted), its connections doing nothing.
    ///
    /// # Panics
    ///
    /// If the pair falls.
    pub fn last(&self) {
        eventually("the pair has exchanged its messages", || self.has_lasted().then_some(()));
    }

    /// Waits until the metrics satisfy `holds`; the pair is two connections, one room and one membership of them.
    ///
    /// # Panics
    ///
    /// After [`crate::DEADLINE`], naming `what`.
    pub fn wait_for_metrics(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        self.server.wait_for_metrics(what, holds)
    }

    /// Waits until everybody else has gone, and every trace of them.
    ///
    /// # Panics
    ///
    /// After [`crate::DEADLINE`].
    pub fn wait_until_only_the_pair_is_left(&self) {
        self.wait_for_metrics("only the pair is left", |metrics| {
            let expected = [2.0, 0.0, 1.0, 1.0];
            let counts = ["fanfare_connections", "fanfare_pending_upgrades", "fanfare_rooms", "fanfare_memberships"];
            counts.map(|gauge| metrics.value(gauge)) == expected
                && metrics.value("fanfare_unsent_bytes") == 0.0
                && metrics.value("fanfare_stored_frame_bytes") == 0.0
        });
    }

    fn exchanged(&self) -> u64 {
        self.exchanged.load(Ordering::Acquire)
    }

    fn assert_standing(&self) {
        assert!(!self.fallen.load(Ordering::Acquire), "the pair has fallen: its own message says how");
    }

    fn keep_talking(&self, mut publisher: Client, mut subscriber: Client) -> (Client, Client) {
        let mut number: u64 = 0;
        while !self.over.load(Ordering::Acquire) {
            let numbers = number..number + IN_FLIGHT;
            for number in numbers.clone() {
                publisher.publish(ROOM, &number.to_string());
            }
            for number in numbers.clone() {
                subscriber.expect_message(ROOM, &number.to_string());
            }
            number = numbers.end;
            // Read as well: whoever only writes does not answer pings.
            publisher.fence();
            self.exchanged.store(number, Ordering::Release);
            thread::sleep(PAUSE);
        }
        (publisher, subscriber)
    }

    fn judge_memory(&self, before: u64) {
        let grown = self.server.memory_bytes_peak().saturating_sub(before);
        let allowed = self.bytes_max.load(Ordering::Acquire) + ALLOWANCE_BYTES + Adapter::under_test().arenas_bytes();
        assert!(grown <= allowed, "the server's memory grew by {grown} bytes; {allowed} would have been in order");
    }
}

/// What must be zero when nobody is there.
const GAUGES: [&str; 7] = [
    "fanfare_connections",
    "fanfare_pending_upgrades",
    "fanfare_rooms",
    "fanfare_memberships",
    "fanfare_unsent_bytes",
    "fanfare_stored_frame_bytes",
    "fanfare_broker_publishes_in_flight",
];

/// Ends the pair's loop, also when the attack panics: else its thread would be waited for in vain.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Tells the attack that the pair is no more.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}
