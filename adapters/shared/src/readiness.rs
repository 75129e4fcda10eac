//! Whether the server is ready, which it is when all its workers are. The operations port, the workers' own `/readyz` and the log
//! are told.

use crate::config;
use crate::ops::Board;
use fanfare_core::broker::redis::Topology;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which Redis it is, for those who run several: for log and operations port. Strangers are not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisName {
    /// Where it is.
    pub topology: Topology,
    /// What stands in front of rooms' names there.
    pub prefix: String,
}

impl RedisName {
    /// Of the Redis that is configured, if one is.
    pub fn of(redis: &config::Redis) -> Option<RedisName> {
        let topology = redis.topology(redis.target.as_ref()?);
        Some(RedisName { topology, prefix: redis.session.prefix.clone() })
    }
}

impl fmt::Display for RedisName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, prefix {:?}", self.topology, self.prefix)
    }
}

/// What one worker says of its own readiness, and hears of the others'.
#[derive(Debug)]
pub struct Readiness {
    all: Arc<All>,
    worker: usize,
    /// What it said last.
    told: Option<Result<(), String>>,
    /// The version that it heard of last.
    seen: Option<u64>,
}

/// Written, under a lock, only when a worker changes.
#[derive(Debug)]
struct All {
    state: Mutex<State>,
    /// Counts changes.
    version: AtomicU64,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// `None`: it has not said anything yet.
    workers: Box<[Option<Result<(), String>>]>,
    /// What board and log were told last.
    whole: Option<Result<(), String>>,
    board: Option<Arc<Board>>,
    redis: Option<RedisName>,
    /// A line has said why Redis is away; it is the only one of this outage.
    outage_logged: bool,
}

impl Readiness {
    /// Of the only worker. It has not said anything. With Redis, its coming and going is logged.
    pub fn alone(redis: Option<RedisName>, board: Option<Arc<Board>>) -> Readiness {
        Readiness::of(All::new(1, redis, board), 0)
    }

    /// One for each worker, as [`Readiness::alone`].
    pub fn of_workers(workers: usize, redis: Option<RedisName>, board: Option<Arc<Board>>) -> Vec<Readiness> {
        let all = All::new(workers, redis, board);
        (0..workers).map(|worker| Readiness::of(Arc::clone(&all), worker)).collect()
    }

    fn of(all: Arc<All>, worker: usize) -> Readiness {
        Readiness { all, worker, told: None, seen: None }
    }

    /// This worker begins to stop, so that what becomes of Redis is worth no line any more. Returns whether it is the first.
    pub fn stop(&self) -> bool {
        !self.all.stopping.swap(true, Ordering::Relaxed)
    }

    /// How this worker is. What it has said before is not told again.
    pub fn tell(&mut self, readiness: Result<(), &str>) {
        let told = self.told.as_ref().map(|told| told.as_ref().copied().map_err(String::as_str));
        if told == Some(readiness) {
            return;
        }
        let readiness = readiness.map_err(str::to_owned);
        let mut state = self.all.lock();
        state.workers[self.worker] = Some(readiness.clone());
        self.all.version.fetch_add(1, Ordering::Release);
        state.tell_whole(self.all.stopping.load(Ordering::Relaxed));
        drop(state);
        self.told = Some(readiness);
    }

    /// Whether the other workers are ready, if anybody has changed since this was last asked.
    pub fn of_others(&mut self) -> Option<Result<(), String>> {
        let version = self.all.version.load(Ordering::Acquire);
        if self.seen.replace(version) == Some(version) {
            return None;
        }
        let state = self.all.lock();
        let others = state.workers.iter().enumerate().filter(|(other, _)| *other != self.worker);
        let unready = others.map(|(_, readiness)| readiness).find(|readiness| **readiness != Some(Ok(())));
        Some(unready.map_or(Ok(()), |unready| unready.clone().unwrap_or_else(|| Err("starting".to_owned()))))
    }
}

impl All {
    fn new(workers: usize, redis: Option<RedisName>, board: Option<Arc<Board>>) -> Arc<All> {
        let workers = vec![None; workers].into();
        Arc::new(All {
            state: Mutex::new(State { workers, whole: None, board, redis, outage_logged: false }),
            version: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// A state is whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_whole(&mut self, stopping: bool) {
        let unready = self.workers.iter().flatten().find(|readiness| readiness.is_err());
        let whole = match unready {
            Some(unready) => unready.clone(),
            // The first word of those who have not said anything is worth waiting for.
            None if self.workers.contains(&None) => return,
            None => Ok(()),
        };
        if self.whole.as_ref() == Some(&whole) {
            return;
        }
        if let Some(redis) = self.redis.as_ref().filter(|_| !stopping) {
            self.outage_logged = log_redis(redis, self.whole.as_ref(), &whole, self.outage_logged);
        }
        if let Some(board) = &self.board {
            match &whole {
                Ok(()) => board.set_ready(),
                Err(reason) => match &self.redis {
                    Some(redis) if !stopping => board.set_unready(&format!("{reason} ({redis})")),
                    _ => board.set_unready(reason),
                },
            }
        }
        self.whole = Some(whole);
    }
}

/// Redis came, went, or could not be reached from the start; the reason of an outage that goes on may change, which is
/// worth no line. Takes and returns whether there has been a line of this outage.
fn log_redis(name: &RedisName, before: Option<&Result<(), String>>, now: &Result<(), String>, logged: bool) -> bool {
    let RedisName { topology, prefix } = name;
    match (before, now) {
        (_, Ok(())) => {
            tracing::info!(address = %topology, prefix, "redis connected");
            false
        }
        (None, Err(_)) => {
            tracing::info!(address = %topology, prefix, "redis connecting");
            false
        }
        (Some(Ok(())), Err(reason)) => {
            tracing::warn!(%reason, address = %topology, prefix, "redis lost");
            true
        }
        (Some(Err(_)), Err(reason)) if !logged => {
            tracing::warn!(%reason, address = %topology, prefix, "redis not reached yet, trying again");
            true
        }
        (Some(Err(_)), Err(reason)) => {
            tracing::debug!(%reason, address = %topology, prefix, "redis still away");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_ready_when_all_workers_are() {
        let board = Arc::new(Board::new(2));
        let mut workers = Readiness::of_workers(2, None, Some(Arc::clone(&board)));
        let [first, second] = &mut workers[..] else { unreachable!("as many as asked for") };
        let away = || Err("away".to_owned());
        assert_eq!(first.of_others(), Some(Err("starting".to_owned())));
        second.tell(Ok(()));
        assert_eq!((first.of_others(), first.of_others()), (Some(Ok(())), None));
        assert_eq!(second.of_others(), Some(Err("starting".to_owned())));
        assert_eq!(board.readiness(), Err("starting".to_owned()));
        first.tell(Ok(()));
        assert_eq!((second.of_others(), board.readiness()), (Some(Ok(())), Ok(())));
        second.tell(Err("away"));
        assert_eq!((first.of_others(), second.of_others(), board.readiness()), (Some(away()), Some(Ok(())), away()));
        first.tell(Err("away"));
        second.tell(Ok(()));
        assert_eq!((first.of_others(), second.of_others(), board.readiness()), (Some(Ok(())), Some(away()), away()));
    }

    #[test]
    fn what_a_worker_repeats_is_no_news() {
        let mut workers = Readiness::of_workers(2, None, None);
        let [first, second] = &mut workers[..] else { unreachable!("as many as asked for") };
        for readiness in [Err("away"), Err("far away"), Ok(())] {
            first.tell(readiness);
            assert_eq!(second.of_others(), Some(readiness.map_err(str::to_owned)));
            first.tell(readiness);
            assert_eq!(second.of_others(), None);
        }
    }

    #[test]
    fn only_the_first_to_stop_is_the_first() {
        let workers = Readiness::of_workers(3, None, None);
        assert_eq!(workers.iter().map(Readiness::stop).collect::<Vec<_>>(), [true, false, false]);
    }
}
