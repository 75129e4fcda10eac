//! Presence in a Cluster: which node is asked, and what its answers and its coming and going mean for what is kept there.

use super::super::link_id::Role;
use super::super::presence::{Heard, Outcome, PresenceAsked};
use super::{Cluster, Layout};
use crate::broker::{Ask, Partitions};
use std::time::Duration;

impl Cluster {
    /// What is asked of presence.
    pub(super) fn ask_presence(&mut self, ask: &Ask<'_>) {
        let Cluster { keeper, events, .. } = self;
        match (ask, keeper) {
            (Ask::Present { id, .. } | Ask::Roster { id, .. }, None) => events.presence_failed(*id, false),
            (Ask::Present { room, user, info, connections, id }, Some(keeper)) => {
                keeper.present((room, user, info), *connections, *id, events);
            }
            (Ask::Roster { room, from, id }, Some(keeper)) => keeper.roster(room, *from, *id, events),
            _ => {}
        }
        self.serve_keeper();
    }

    /// Gives the lease back.
    pub(in super::super) fn give_back(&mut self, after: Duration) {
        if let Some(keeper) = &mut self.keeper {
            keeper.give_back(after);
        }
        self.serve_keeper();
    }

    /// The keeper hears of a node's connection.
    pub(super) fn hear_of_presence(&mut self, place: usize, heard: Vec<Heard>) {
        for heard in heard {
            match heard {
                Heard::Up => {
                    let Cluster { keeper, routes, now, .. } = self;
                    if let Some(keeper) = keeper {
                        keeper.came_up(
                            routes.partitions().filter(|partition| routes.node(*partition) == Some(place)),
                            *now,
                        );
                    }
                }
                // What was asked there is answered one by one.
                Heard::Down => {}
                Heard::Answer(asked, outcome) => self.presence_answered(asked, outcome),
            }
        }
    }

    /// The keeper hears what became of a command.
    pub(super) fn presence_answered(&mut self, asked: PresenceAsked, outcome: Outcome) {
        let Cluster { keeper, events, now, .. } = self;
        if let Some(keeper) = keeper {
            keeper.hear((asked, outcome), false, *now, events);
        }
    }

    /// Partitions are at other nodes now: what was told there may be lost.
    pub(super) fn presence_has_moved(&mut self, changed: &Partitions) {
        if let Some(keeper) = &mut self.keeper {
            keeper.came_up(changed.iter(), self.now);
        }
    }

    /// Sends what the keeper has to say.
    pub(super) fn serve_keeper(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        while let Some((asked, command)) = keeper.poll(self.now, &mut self.events) {
            let place =
                self.place_to_publish(asked.partition, Role::Publisher).filter(|_| self.layout == Layout::Agreed);
            let sent = match place.and_then(|place| self.node_mut(place)) {
                Some(node) => node.session.keep(asked, &command),
                None => Err(Outcome::Failed { passes: true }),
            };
            if let Err(outcome) = sent {
                keeper.hear((asked, outcome), false, self.now, &mut self.events);
            }
        }
        self.keeper = Some(keeper);
    }
}
