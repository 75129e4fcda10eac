//! The event loops of a process: one that runs where it is started, or several, each on a thread of its own, with the
//! connections, the rooms and the figures of one server.

use crate::accept::Shortage;
use crate::event_loop::Server;
use crate::exchange::Exchange;
use crate::share::{Counts, Share};
use fanfare_adapter::config::Config;
use fanfare_adapter::descriptors::{self, Places};
use fanfare_adapter::listen::{listen, listen_together};
use fanfare_adapter::ops::Board;
use fanfare_adapter::program::{self, StartError};
use fanfare_adapter::readiness::Readiness;
use fanfare_adapter::signals;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

/// What one worker is given of what all of them have.
#[derive(Debug)]
pub struct Seat {
    /// Which one it is, from 0.
    pub worker: usize,
    /// Of all workers together.
    pub places: Places,
    /// Of places and descriptors.
    pub shortage: Arc<Shortage>,
    /// Where figures are shown.
    pub board: Option<Arc<Board>>,
    /// Whether all are ready.
    pub readiness: Arc<Readiness>,
    /// `None` where there are no other workers.
    pub share: Option<Share>,
    /// The embedded broker, where there are other workers and no Redis.
    pub exchange: Option<Arc<Exchange>>,
}

/// All event loops, ready to run.
#[derive(Debug)]
pub struct Workers {
    servers: Vec<Server>,
    address: SocketAddr,
}

impl Workers {
    /// Opens everything. With a board, figures are published on it.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn start(config: &Config, board: Option<Arc<Board>>) -> Result<Workers, StartError> {
        let workers = config.workers;
        let places = descriptors::places(&config.limits, workers, descriptors::raise_limit()).map_err(StartError)?;
        let listeners = match workers {
            1 => vec![listen(config.listen)?],
            several => listen_together(config.listen, several)?,
        };
        let address = listeners[0].local_addr().map_err(StartError::of("cannot read the listener's address"))?;
        let signals = signals::install(workers).map_err(StartError::of("cannot handle signals"))?;

        let has_redis = config.redis.target.is_some();
        let shortage = Arc::<Shortage>::default();
        let readiness = Arc::new(Readiness::new(workers, has_redis, board.clone()));
        let counts = (workers > 1).then(|| Arc::new(Counts::new(places.connections_max)));
        let exchange = (workers > 1 && !has_redis).then(|| Arc::new(Exchange::new(workers)));
        let mut servers = Vec::with_capacity(workers);
        for (worker, (listener, signals)) in listeners.into_iter().zip(signals).enumerate() {
            let seat = Seat {
                worker,
                places,
                shortage: Arc::clone(&shortage),
                board: board.clone(),
                readiness: Arc::clone(&readiness),
                share: counts.clone().map(Share::new),
                exchange: exchange.clone(),
            };
            servers.push(Server::start(config, listener, signals, seat)?);
        }
        Ok(Workers { servers, address })
    }
}

impl program::Server for Workers {
    fn address(&self) -> SocketAddr {
        self.address
    }

    /// If one of them fails, the others may be running still: the process should end.
    fn run(mut self) -> io::Result<usize> {
        match &mut self.servers[..] {
            [alone] => alone.run(),
            _ => run_together(self.servers),
        }
    }
}

/// Returns how many connections were left in all.
fn run_together(servers: Vec<Server>) -> io::Result<usize> {
    let (end, ends) = channel();
    for (worker, mut server) in servers.into_iter().enumerate() {
        let end = end.clone();
        // Linux keeps 15 bytes of a name.
        thread::Builder::new().name(format!("fanfare-loop-{worker}")).spawn(move || {
            // Where a panic does not abort the process, it is told here that nobody serves these connections any more.
            let outcome = catch_unwind(AssertUnwindSafe(|| server.run()));
            // Nobody listens any more where another worker failed before.
            let _ = end.send((worker, outcome.unwrap_or_else(|_| Err(io::Error::other("it panicked")))));
        })?;
    }
    drop(end);
    let mut connections_left = 0;
    for (worker, outcome) in ends {
        connections_left +=
            outcome.map_err(|error| io::Error::new(error.kind(), format!("worker {worker}: {error}")))?;
    }
    Ok(connections_left)
}
