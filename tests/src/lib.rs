//! What the end-to-end tests share: real processes, real sockets, and the patience to wait for a fact.
//!
//! Nothing here knows the server's code; it knows the written contract: command line, log lines, HTTP, frames.
//!
//! - [`Server`] is one `fanfare` process, [`Redis`] one `redis-server` in a folder of its own. Both are ended when
//!   dropped, and die with the test even if the test is killed. A server prints its log when its test fails. With
//!   `FANFARE_TEST_WORKERS=2` every server has two workers whose test does not say how many; `FANFARE_TEST_SERVER` names another
//!   adapter's binary; with `FANFARE_TEST_BROKER=redis` every server has a Redis of its own whose test says nothing of a broker.
//! - [`Client`] speaks WebSocket through tungstenite and thinks in rooms and messages; [`RawClient`] writes and reads
//!   bytes and frames by hand, so that it can break every rule. The bytes are those of `fanfare-wire`, in `tests/wire`.
//! - [`Launch::tls`] starts a server that speaks TLS. The clients here reach it through a tunnel, as if it did not.
//! - [`presence`] is users in a room, and observers who find every contradiction in what they are told of them.
//! - [`abuse`] is a siege: attackers at work, and a well-behaved pair beside them that must not notice.
//! - Tests are modules of a few programs, because each program is linked by itself. In `siege` only one test at a time has servers:
//!   it gets its turn with its first, and must start all on its own thread.
//! - Every wait is for a fact and ends after [`DEADLINE`] with a message that says what did not happen. No test
//!   sleeps to be right.

pub mod abuse;
pub mod backend;
mod binary;
mod client;
mod clusters;
mod curl;
pub mod embedded;
mod endpoint;
pub mod event_stream;
mod example;
pub mod fuzz;
mod http;
pub mod ledger;
mod log;
pub mod lone_core;
mod metrics;
pub mod model;
mod node;
mod order;
pub mod presence;
mod previous;
mod process;
mod proxies;
mod raw;
mod redis_server;
mod resp;
mod room_history;
mod sentinels;
mod serial;
mod server;
mod settings;
pub mod stored;
mod tls;
mod under_test;
pub mod work;

use std::thread;
use std::time::{Duration, Instant};

pub use binary::{fanfare_binary, workspace_root};
pub use client::Client;
pub use clusters::Cluster;
pub use curl::{Curl, CurlStream};
pub use endpoint::{Asked, Endpoint};
pub use example::Example;
pub use fanfare_wire::{
    COMPRESSED, Frame, Length, MASK, SAMPLE_ACCEPT, SAMPLE_KEY, code, deflated, head, head_bytes, inflated, mask,
    opcode, path_joining, upgrade_request, upgrade_request_to,
};
pub use http::{Response, get, http};
pub use log::Log;
pub use metrics::Metrics;
pub use node::run_node;
pub use order::assert_one_order;
pub use previous::{PreviousBinaries, previous_binaries};
pub use process::free_port;
pub use proxies::ReverseProxy;
pub use raw::RawClient;
pub use redis_server::{Redis, RedisLaunch};
pub use resp::{Reply, RespConnection};
pub use room_history::{Failure, HistoryLink, Kept};
pub use rustix::process::Signal;
pub use sentinels::{GROUP, Group};
pub use server::{Launch, Server};
pub use settings::{compression, config, proxies, redis_config};
pub use tls::{Authority, TlsStream, connect_tls};
pub use under_test::{Adapter, uses_redis};

/// How long a test waits for a fact before it fails. Far more than any of them needs on a busy two-core machine.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a fact that cannot announce itself is looked for.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` until it gives a value.
///
/// # Panics
///
/// After [`DEADLINE`], naming `what`.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, probe)
}

/// The same for what takes longer by design.
///
/// # Panics
///
/// After `limit`, naming `what`.
pub fn eventually_within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(PROBE_INTERVAL);
    }
}
