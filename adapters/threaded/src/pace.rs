//! How many of the clients' events a turn takes, so that they never ask more of Redis than it answers. It knows no queue and no
//! clock.

use fanfare_core::time::Time;
use std::time::Duration;

/// Of clients' events in one turn: a message waits until the turn that reads it has ended.
const EVENTS_PER_TURN: usize = 64;
/// Subscriptions, and ends of them, that Redis may owe an answer to. Messages come in one row with the answers, so one that is
/// published now comes after all of these: some milliseconds.
const UNANSWERED_MAX: usize = 1_024;
/// How long clients wait at most for a Redis that owes more than that, and answers none of it: it may have stopped, and then they
/// are served slowly until that is noticed.
const PAUSE: Duration = Duration::from_millis(10);

/// The pace at which clients are heard.
#[derive(Debug, Default)]
pub struct Pace {
    /// What Redis owed before clients were heard last. Whoever adds nothing to it waits for nothing, however much it is: when a
    /// connection comes back, that is an answer for every room.
    owed: usize,
    heard_at: Time,
}

impl Pace {
    /// How many events may be taken now that Redis owes so many answers.
    pub fn events_max(&self, unanswered: usize, now: Time) -> usize {
        match () {
            () if unanswered <= self.owed.max(UNANSWERED_MAX) => EVENTS_PER_TURN,
            () if now >= self.heard_at + PAUSE => 1,
            () => 0,
        }
    }

    /// Clients are heard, while Redis owes so many answers.
    pub fn heard(&mut self, unanswered: usize, now: Time) {
        (self.owed, self.heard_at) = (unanswered, now);
    }

    /// How long clients have to wait if Redis goes on owing so many; `None` if they need not.
    pub fn wait(&self, unanswered: usize, now: Time) -> Option<Duration> {
        (self.events_max(unanswered, now) == 0).then(|| (self.heard_at + PAUSE).since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of a millisecond, in each of which Redis answers so many, and clients ask so many with every event. Returns how many
    /// events were taken, and how much was owed at most.
    fn run(pace: &mut Pace, owed: usize, answers: usize, asks_per_event: usize) -> (usize, usize) {
        let (mut unanswered, mut events, mut owed_max) = (owed, 0, owed);
        for millisecond in 1..=1_000 {
            let now = Time::from_micros(millisecond * 1_000);
            unanswered = unanswered.saturating_sub(answers);
            let taken = pace.events_max(unanswered, now);
            assert_eq!(pace.wait(unanswered, now).is_some(), taken == 0);
            if taken > 0 {
                pace.heard(unanswered, now);
            }
            unanswered += taken * asks_per_event;
            events += taken;
            owed_max = owed_max.max(unanswered);
        }
        (events, owed_max)
    }

    #[test]
    fn a_redis_that_keeps_up_holds_up_nobody() {
        let asks = EVENTS_PER_TURN * 10;
        assert_eq!(run(&mut Pace::default(), 0, asks, 10), (1_000 * EVENTS_PER_TURN, asks));
    }

    #[test]
    fn who_asks_for_more_than_redis_answers_waits_for_the_answers() {
        let (events, owed_max) = run(&mut Pace::default(), 0, 100, 10);
        // All that was answered, and what may be owed in the end.
        assert!((9_900..=10_200).contains(&events), "{events}");
        assert!(owed_max <= UNANSWERED_MAX + EVENTS_PER_TURN * 10, "{owed_max}");
    }

    #[test]
    fn who_asks_for_nothing_waits_for_nothing_while_a_connection_comes_back() {
        let (events, owed_max) = run(&mut Pace::default(), 100_000, 50, 0);
        assert!(events > 980 * EVENTS_PER_TURN, "{events}");
        assert_eq!(owed_max, 100_000);
    }

    #[test]
    fn while_redis_answers_nothing_clients_are_heard_slowly() {
        let (events, owed_max) = run(&mut Pace::default(), 2_000, 0, 10);
        assert_eq!((events, owed_max), (100, 3_000));
        // Nor for ever: one wait is as long as the other.
        let mut pace = Pace::default();
        let now = Time::from_micros(5_000);
        pace.heard(0, now);
        assert_eq!(pace.wait(2_000, now), Some(PAUSE));
        assert_eq!(pace.wait(2_000, now + PAUSE), None);
    }
}
