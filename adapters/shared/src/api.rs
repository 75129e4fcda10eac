//! Between the HTTP API's thread and the cores: what backends ask is fed to a core, and what it answers goes back.

use crate::config::Config;
use crate::ops::Board;
use fanfare_api::{Api, End, Keys, Order};
use fanfare_core::rules::own_room_of;
use fanfare_core::{Core, Event, Turn};
use fanfare_shell::listen::listen;
use fanfare_shell::program::StartError;
use std::net::TcpListener;
use std::sync::Arc;

pub use fanfare_api::Link;

/// Commands that a turn takes: each may be a message to many.
const ORDERS_PER_TURN: usize = 64;

/// The API of a server that is being opened: its port is taken, and its keys are read.
#[derive(Debug)]
pub struct Opened {
    listener: TcpListener,
    keys: Keys,
    link: Link,
}

impl Opened {
    /// Takes the port and reads the keys, where the configuration says so.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn open(config: &Config) -> Result<Option<Opened>, StartError> {
        let (Some(address), Some(path)) = (config.api.listen, &config.api.keys_file) else { return Ok(None) };
        let keys = Keys::read(path).map_err(StartError::of("cannot read api.keys_file"))?;
        let listener = listen(address)?;
        Ok(Some(Opened { listener, keys, link: Link::new(config.workers) }))
    }

    /// The way to the cores.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Serves it from now on, until the result is dropped.
    ///
    /// # Errors
    /// If its thread cannot be made.
    pub fn start(self, config: &Config, board: Arc<Board>) -> Result<Api, fanfare_api::StartError> {
        let Opened { listener, keys, link } = self;
        let message_bytes_max = config.core.limits.message_bytes_max;
        Api::start(listener, (link, keys), message_bytes_max, move || board.instances(), own_room_of)
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
