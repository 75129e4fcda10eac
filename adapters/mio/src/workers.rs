//! The event loops of a process. One runs where it is started; several run on a thread each, with the connections, the rooms and
//! the figures of one server.

use crate::admission::Counts;
use crate::event_loop::Server;
use crate::exchange::Exchange;
use crate::worker::WorkerContext;
use fanfare_adapter::authentication::Authenticator;
use fanfare_adapter::config::Config;
use fanfare_adapter::descriptors;
use fanfare_adapter::hooks::Hooks;
use fanfare_adapter::listen::{listen, listen_together};
use fanfare_adapter::page::page;
use fanfare_adapter::program::{self, StartError, Surroundings};
use fanfare_adapter::readiness::{Readiness, RedisName};
use fanfare_adapter::settings::Drawn;
use fanfare_adapter::signals;
use fanfare_adapter::tls::Tls;
use fanfare_core::broker::memory::{Logs, Rosters};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

/// All event loops, ready to run.
#[derive(Debug)]
pub struct Workers {
    servers: Vec<Server>,
    address: SocketAddr,
}

impl Workers {
    /// Opens everything.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn start(config: &Config, surroundings: Surroundings) -> Result<Workers, StartError> {
        let Surroundings { board, tls, link, instance } = surroundings;
        let workers = config.workers;
        let places = descriptors::places(config, workers, descriptors::raise_limit()).map_err(StartError)?;
        board.iter().for_each(|board| board.set_limits(config, places));
        let listeners = match workers {
            1 => vec![listen(config.listen)?],
            several => listen_together(config.listen, several)?,
        };
        let address = listeners[0].local_addr().map_err(StartError::of("cannot read the listener's address"))?;
        let signals = signals::install(workers).map_err(StartError::of("cannot handle signals"))?;

        let has_redis = config.redis.target.is_some();
        let counts = Arc::new(Counts::new(workers, places.connections_max));
        let readiness = Readiness::of_workers(workers, RedisName::of(&config.redis), board.clone());
        let page = page(&config.core.limits);
        let authenticator = Authenticator::start(config)?;
        let hooks = Hooks::start(config, &instance)?;
        let exchange = match workers > 1 && !has_redis {
            true => {
                let seed = Drawn::new().map_err(StartError::of("cannot draw random numbers"))?.seed;
                let histories = Logs::new(config.core.history.memory_bytes_max, seed);
                Some(Arc::new(Exchange::new(workers, histories, Rosters::new(config.core.presence.users_max, seed))))
            }
            false => None,
        };
        let mut servers = Vec::with_capacity(workers);
        for (worker, ((listener, signals), readiness)) in listeners.into_iter().zip(signals).zip(readiness).enumerate()
        {
            let context = WorkerContext {
                worker,
                places,
                page,
                counts: Arc::clone(&counts),
                board: board.clone(),
                readiness,
                authenticator: authenticator.clone(),
                hooks: hooks.clone(),
                tls: tls.as_ref().map(Tls::of_worker),
                exchange: exchange.clone(),
                link: link.clone(),
            };
            servers.push(Server::start(config, listener, signals, context)?);
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
            [alone] => or_abort(|| alone.run()),
            _ => run_together(self.servers.into_iter().map(|mut server| move || server.run())),
        }
    }
}

/// Returns how many connections were left in all, or what befell the first of them that failed.
fn run_together<R: FnOnce() -> io::Result<usize> + Send + 'static>(
    workers: impl IntoIterator<Item = R>,
) -> io::Result<usize> {
    let (end, ends) = channel();
    for (worker, run) in workers.into_iter().enumerate() {
        let end = end.clone();
        // Linux keeps 15 bytes of a name.
        thread::Builder::new().name(format!("fanfare-loop-{worker}")).spawn(move || {
            // Nobody listens any more where another worker failed before.
            let _ = end.send((worker, or_abort(run)));
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

/// A worker that panics leaves its connections without anybody to serve them, so the process ends. In the release profile panics do
/// that by themselves (`panic = "abort"`), and nothing is ever caught here; where they unwind it ends in the same way.
fn or_abort<T>(run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| process::abort())
}

/// A loop fails only if its poll does, for which the kernel has no reason but a bug: nothing from outside brings it about. So it is
/// other work that fails here.
#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    /// The same number on every Linux.
    const SIGABRT: i32 = 6;

    type Work = Box<dyn FnOnce() -> io::Result<usize> + Send>;

    /// Longer than any of these tests takes, unless it fails.
    fn for_long() -> Work {
        Box::new(|| {
            thread::sleep(Duration::from_secs(10));
            Ok(0)
        })
    }

    #[test]
    fn what_all_of_them_left_is_summed_up() {
        let work = [1, 20, 300].map(|left| move || Ok(left));
        assert_eq!(run_together(work).unwrap(), 321);
    }

    #[test]
    fn the_failure_of_one_is_told_while_others_still_run() {
        let work: [Work; 3] = [for_long(), Box::new(|| Err(io::ErrorKind::OutOfMemory.into())), for_long()];
        let error = run_together(work).unwrap_err();
        assert_eq!((error.kind(), &error.to_string()[..]), (io::ErrorKind::OutOfMemory, "worker 1: out of memory"));
    }

    /// Runs this test again in a process of its own, to see how it ends.
    #[test]
    fn a_panic_of_one_ends_the_process() {
        const WORKERS: &str = "FANFARE_TEST_PANIC_AMONG";
        let panic: Work = Box::new(|| panic!("a bug"));
        match env::var(WORKERS).as_deref() {
            Ok("one") => return or_abort(panic).map(drop).unwrap(),
            Ok(_) => return run_together([for_long(), panic]).map(drop).unwrap(),
            Err(_) => {}
        }
        for workers in ["one", "two"] {
            let name = "workers::tests::a_panic_of_one_ends_the_process";
            let again = Command::new(env::current_exe().unwrap())
                .args([name, "--exact", "--nocapture"])
                .env(WORKERS, workers)
                .output()
                .unwrap();
            assert_eq!(again.status.signal(), Some(SIGABRT), "{workers}: {again:?}");
            assert!(String::from_utf8_lossy(&again.stderr).contains("a bug"), "{workers}: {again:?}");
        }
    }
}
