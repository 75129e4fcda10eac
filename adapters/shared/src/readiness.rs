//! Whether the server is ready, which it is when all its workers are: told to the operations port, to the workers' own
//! `/readyz`, and to the log.

use crate::ops::Board;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The readiness of all workers. It is written, under a lock, only when one of them changes.
#[derive(Debug)]
pub struct Readiness {
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
    has_redis: bool,
    /// A line has said why Redis is away; it is the only one of this outage.
    outage_logged: bool,
}

impl Readiness {
    /// Nobody has said anything. With Redis, its coming and going is logged.
    pub fn new(workers: usize, has_redis: bool, board: Option<Arc<Board>>) -> Readiness {
        let workers = vec![None; workers].into();
        Readiness {
            state: Mutex::new(State { workers, whole: None, board, has_redis, outage_logged: false }),
            version: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// A worker begins to stop, so that what becomes of Redis is worth no line any more. Returns whether it is the first.
    pub fn stop(&self) -> bool {
        !self.stopping.swap(true, Ordering::Relaxed)
    }

    /// This worker's readiness has changed.
    pub fn tell(&self, worker: usize, readiness: Result<(), String>) {
        let mut state = self.lock();
        state.workers[worker] = Some(readiness);
        self.version.fetch_add(1, Ordering::Release);
        state.tell_whole(self.stopping.load(Ordering::Relaxed));
    }

    /// Whether the other workers are ready, if anybody's readiness has changed since the version that was `seen`.
    pub fn of_others(&self, worker: usize, seen: &mut Option<u64>) -> Option<Result<(), String>> {
        let version = self.version.load(Ordering::Acquire);
        if seen.replace(version) == Some(version) {
            return None;
        }
        let state = self.lock();
        let others = state.workers.iter().enumerate().filter(|(other, _)| *other != worker);
        let unready = others.map(|(_, readiness)| readiness).find(|readiness| **readiness != Some(Ok(())));
        Some(unready.map_or(Ok(()), |unready| unready.clone().unwrap_or_else(|| Err("starting".to_owned()))))
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
        if self.has_redis && !stopping {
            self.outage_logged = log_redis(self.whole.as_ref(), &whole, self.outage_logged);
        }
        if let Some(board) = &self.board {
            match &whole {
                Ok(()) => board.set_ready(),
                Err(reason) => board.set_unready(reason),
            }
        }
        self.whole = Some(whole);
    }
}

/// Redis came, went, or could not be reached from the start; the reason of an outage that goes on may change, which is
/// worth no line. Takes and returns whether there has been a line of this outage.
fn log_redis(before: Option<&Result<(), String>>, now: &Result<(), String>, logged: bool) -> bool {
    match (before, now) {
        (_, Ok(())) => {
            tracing::info!("redis connected");
            false
        }
        (None, Err(_)) => {
            tracing::info!("redis connecting");
            false
        }
        (Some(Ok(())), Err(reason)) => {
            tracing::warn!(%reason, "redis lost");
            true
        }
        (Some(Err(_)), Err(reason)) if !logged => {
            tracing::warn!(%reason, "redis not reached yet, trying again");
            true
        }
        (Some(Err(_)), Err(reason)) => {
            tracing::debug!(%reason, "redis still away");
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
        let readiness = Readiness::new(2, false, Some(Arc::clone(&board)));
        let away = || Err("away".to_owned());
        let mut seen = [None; 2];
        let mut others = |worker: usize| readiness.of_others(worker, &mut seen[worker]);
        assert_eq!(others(0), Some(Err("starting".to_owned())));
        readiness.tell(1, Ok(()));
        assert_eq!((others(0), others(0)), (Some(Ok(())), None));
        assert_eq!(others(1), Some(Err("starting".to_owned())));
        assert_eq!(board.readiness(), Err("starting".to_owned()));
        readiness.tell(0, Ok(()));
        assert_eq!((others(1), board.readiness()), (Some(Ok(())), Ok(())));
        readiness.tell(1, away());
        assert_eq!((others(0), others(1), board.readiness()), (Some(away()), Some(Ok(())), away()));
        readiness.tell(0, away());
        readiness.tell(1, Ok(()));
        assert_eq!((others(0), others(1), board.readiness()), (Some(Ok(())), Some(away()), away()));
    }

    #[test]
    fn only_the_first_to_stop_is_the_first() {
        let readiness = Readiness::new(3, false, None);
        assert_eq!([(); 3].map(|()| readiness.stop()), [true, false, false]);
    }
}
