//! The thread that writes what is asked on a connection, all that waits at once, until too much is unanswered.

use super::answers::Answers;
use super::ask::{Ask, Probe};
use super::awaited::Awaited;
use super::socket::Socket;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use fanfare_core::broker::PublishError;
use fanfare_core::broker::redis::RedisConfig;
use fanfare_core::broker::redis::history::Script;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Commands of one write.
const BATCH_MAX: usize = 512;

/// The end that writes.
pub(super) struct Writer {
    pub(super) socket: Arc<Socket>,
    pub(super) asks: Receiver<Ask>,
    pub(super) awaited: Arc<Awaited>,
    pub(super) config: Arc<RedisConfig>,
    pub(super) answers: Answers,
    /// When what was refused for a while is asked again.
    pub(super) again_at: Option<Instant>,
    /// When a sign of life is asked for: of who tells its role, which may change meanwhile, whatever else is asked.
    pub(super) probe_at: Instant,
    /// Redis has to know scripts on this connection.
    pub(super) loads: bool,
    /// What is stored on it may wait for replicas.
    pub(super) waits_for_replicas: bool,
}

impl Writer {
    /// Writes what is asked until nobody can ask any more. What is asked after the connection's end is refused.
    pub(super) fn run(mut self) {
        while let Some(mut batch) = self.next_batch() {
            batch.extend(self.next_wait(&batch));
            let mut bytes = Vec::new();
            batch.iter().for_each(|ask| ask.encode(&self.config.prefix, &mut bytes));
            // Noted before it is written: the replies may come sooner than this thread goes on.
            let first = match self.awaited.ask(batch, &self.config.prefix) {
                Ok(first) => first,
                Err(batch) => {
                    for ask in batch {
                        if self.answers.fail(ask, PublishError::Unavailable).is_err() {
                            return;
                        }
                    }
                    continue;
                }
            };
            let mut socket = &*self.socket;
            if socket.write_all(&first).and_then(|()| socket.write_all(&bytes)).is_err() {
                // Whoever reads has to know, and answers for what was written.
                self.socket.shutdown();
            }
        }
        self.socket.shutdown();
    }

    /// What waits, or what is due.
    fn next_batch(&mut self) -> Option<Vec<Ask>> {
        loop {
            let now = Instant::now();
            if self.again_at.is_some_and(|again_at| again_at <= now) {
                self.again_at = None;
                let mut batch = self.awaited.take_refused();
                batch.extend(self.probe(true));
                return Some(batch);
            }
            if let Some(heard_at) = self.awaited.canary_heard_at()
                && heard_at + self.config.probe_interval > self.probe_at
            {
                self.probe_at = heard_at + self.config.probe_interval;
            }
            if self.probe_at <= now {
                self.probe_at = now + self.config.probe_interval;
                let is_probing = self.awaited.replication().probe();
                if is_probing || !self.awaited.is_probed() {
                    return Some(self.probe(false));
                }
            }
            let until = self.again_at.map_or(self.probe_at, |again_at| again_at.min(self.probe_at));
            let first = match self.asks.recv_timeout(until.saturating_duration_since(now)) {
                Ok(first) => first,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => continue,
            };
            let waiting: Vec<Ask> = [first].into_iter().chain(self.asks.try_iter().take(BATCH_MAX - 1)).collect();
            let goes_on = waiting.iter().any(|ask| matches!(ask, Ask::Repeat | Ask::WaitAgain));
            let batch: Vec<Ask> = waiting.into_iter().filter(|ask| !self.is_for_itself(ask)).collect();
            if goes_on || !batch.is_empty() {
                // Whether there are replicas again is found out by a probe, however much is said meanwhile.
                if !self.awaited.asks_role.load(Relaxed) && !self.waits_for_replicas {
                    self.probe_at = Instant::now() + self.config.probe_interval;
                }
                return Some(batch);
            }
        }
    }

    /// What has to stand behind these, so that what they store is known to be replicated.
    fn next_wait(&self, batch: &[Ask]) -> Option<Ask> {
        if !self.waits_for_replicas {
            return None;
        }
        let mut replication = self.awaited.replication();
        batch.iter().for_each(|ask| replication.wrote(ask.replicas_min()));
        replication.next_wait(self.config.replicas_timeout).map(Ask::Wait)
    }

    /// What asks for a sign of life. Scripts that could not be loaded are tried again.
    fn probe(&self, again: bool) -> Vec<Ask> {
        let probe = if self.awaited.asks_role.load(Relaxed) { Probe::Role } else { Probe::Ping };
        let loads = self.loads && !self.answers.counts.has_scripts.load(Relaxed);
        let scripts = Script::ALL.into_iter().filter(|_| loads).map(Ask::Load);
        scripts.chain([Ask::Probe { probe, again }]).collect()
    }

    /// Does what is not to be asked of Redis.
    fn is_for_itself(&mut self, ask: &Ask) -> bool {
        match ask {
            // Written in front of whatever is next.
            Ask::Repeat | Ask::WaitAgain => {}
            Ask::Again(pause) => self.again_at = Some(Instant::now() + *pause),
            Ask::GiveUp(reason) => {
                self.awaited.give_up(reason.clone());
                // Whoever reads notices.
                self.socket.shutdown();
            }
            _ => return false,
        }
        true
    }
}
