//! A session, as the keeper of presence uses it.

use super::super::link_id::Role;
use super::super::presence::{Heard, Keeper, Outcome, PresenceAsked};
use super::super::queue::EventQueue;
use super::RedisSession;
use crate::time::Time;

impl RedisSession {
    /// What the keeper has to hear of the connection that publishes, and of what it was asked there.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        self.publisher.take_heard()
    }

    /// Sends a command of the keeper's. The error is what becomes of it where it cannot be sent.
    pub fn keep(&mut self, asked: PresenceAsked, command: &[u8]) -> Result<(), Outcome> {
        // As with reads, nobody would be told of its end.
        let is_told = !self.is_up_untold;
        let (publisher, link, ..) = self.publishing(Role::Publisher);
        if !link.is_up() || !is_told {
            return Err(Outcome::Failed { passes: true });
        }
        publisher.keep(asked, command, &mut link.outbox)
    }

    /// The time, and where to put what the hub has to hear.
    pub fn now_and_events(&mut self) -> (Time, &mut EventQueue) {
        (self.now, &mut self.events)
    }

    /// Has the keeper hear what there is, and sends what it has to say: it knows of no other connection.
    pub fn serve(&mut self, keeper: &mut Keeper) {
        let heard = self.take_heard();
        let down = heard.iter().rposition(|heard| *heard == Heard::Down);
        let (now, events) = self.now_and_events();
        for (place, heard) in heard.into_iter().enumerate() {
            match heard {
                Heard::Up => keeper.came_up(std::iter::once(0), now),
                Heard::Down => {}
                Heard::Answer(asked, outcome) => {
                    keeper.hear((asked, outcome), down.is_some_and(|down| place < down), now, events);
                }
            }
        }
        while let Some((asked, command)) = keeper.poll(now, &mut self.events) {
            if let Err(outcome) = self.keep(asked, &command) {
                keeper.hear((asked, outcome), false, now, &mut self.events);
            }
        }
    }
}
