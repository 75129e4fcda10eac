//! Between the HTTP API's thread and the cores: what backends ask is fed to a core, and what it answers goes back.

mod bans;

use crate::config::Config;
use crate::ops::Board;
use crate::tls::Tls;
use fanfare_api::{Api, Bans, End, Here, Keys, Order};
use fanfare_core::rules::own_room_of;
use fanfare_core::{Core, Event, Turn};
use fanfare_shell::listen::listen;
use fanfare_shell::program::StartError;
use fanfare_shell::signals;
use fanfare_tls::ServerConfig;
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

pub use fanfare_api::Link;

/// Commands that a turn takes: each may be a message to many.
const ORDERS_PER_TURN: usize = 64;

/// The API of a server that is being opened: its port is taken, and its keys are read.
pub struct Opened {
    listener: TcpListener,
    keys: Keys,
    link: Link,
    bans: Option<Arc<dyn Bans>>,
    tls: Option<Arc<ServerConfig>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Opened").field("listener", &self.listener).field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Opened {
    /// Takes the port and reads the keys, where the configuration says so.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn open(config: &Config, tls: Option<&Tls>) -> Result<Option<Opened>, StartError> {
        let (Some(address), Some(path)) = (config.api.listen, &config.api.keys_file) else { return Ok(None) };
        let keys = Keys::read(path).map_err(StartError::of("cannot read api.keys_file"))?;
        let bans = bans::open(config)?;
        let tls = tls.filter(|_| config.api.tls).map(Tls::config);
        let listener = listen(address)?;
        Ok(Some(Opened { listener, keys, link: Link::new(config.workers), bans, tls }))
    }

    /// The way to the cores.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Serves it from now on, until the result is dropped.
    ///
    /// # Errors
    /// If its thread cannot be made.
    pub fn start(self, config: &Config, instance: String, board: Arc<Board>) -> Result<Api, fanfare_api::StartError> {
        let Opened { listener, keys, link, bans, tls } = self;
        let here = Here {
            instance,
            tls,
            has_others: config.redis.target.is_some(),
            message_bytes_max: config.core.limits.message_bytes_max,
            room_of_user: own_room_of,
            bans,
            about: Box::new({
                let address = config.listen;
                move || board.about(address)
            }),
            stop: Arc::new(|| signals::terminate().map_err(|error| error.to_string())),
        };
        Api::start(listener, (link, keys), here)
    }
}

/// One core's end.
#[derive(Debug)]
pub struct Counter {
    end: End,
}

impl Counter {
    /// Of this core, whose loop `wake` wakes.
    pub fn new(link: &Link, core: usize, wake: impl Fn() + Send + Sync + 'static) -> Counter {
        Counter { end: link.end(core, wake) }
    }

    /// Whether there is something to be fed: then the loop must not sleep.
    pub fn is_ready(&self) -> bool {
        self.end.is_ready()
    }

    /// Feeds what has been asked for, as much as a turn takes.
    pub fn feed(&mut self, turn: &mut Turn<'_>) {
        for Order { text, user } in self.end.take(ORDERS_PER_TURN) {
            turn.feed(Event::Command { text: &text, user: user.as_deref() });
        }
    }

    /// Takes back what the core has answered.
    pub fn collect(&mut self, core: &mut Core) {
        for text in core.replies() {
            self.end.answered(&text);
        }
    }
}
