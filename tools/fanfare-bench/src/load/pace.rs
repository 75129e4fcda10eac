//! When the next message is sent, and to which room: as many as a window holds, or as a rate tells. No sockets and no
//! clock: moments are arguments, in ns since the run began.

use std::collections::VecDeque;

/// How messages follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// So many messages are on their way, and the next is sent when one has reached everybody (a closed loop).
    InFlight(u32),
    /// So many are sent a second, whatever becomes of them (an open loop).
    Rate(u32),
}

/// Decides what is sent when.
#[derive(Debug)]
pub enum Pace {
    /// Of a closed loop.
    Window(Window),
    /// Of an open loop.
    Schedule(Schedule),
}

impl Pace {
    /// That of `load` for so many rooms. A schedule begins at `now`.
    pub fn new(load: Load, rooms: usize, now: u64) -> Pace {
        match load {
            Load::InFlight(messages) => Pace::Window(Window::new(messages as usize, rooms)),
            Load::Rate(per_second) => Pace::Schedule(Schedule { start_ns: now, per_second, sent: 0, rooms }),
        }
    }

    /// The room of the next message and the moment it is due, if that is not later than `now`.
    #[inline]
    pub fn next(&mut self, now: u64) -> Option<(usize, u64)> {
        match self {
            Pace::Window(window) => window.next().map(|room| (room, now)),
            Pace::Schedule(schedule) => schedule.next(now),
        }
    }

    /// When to ask again, if that is a matter of time.
    pub fn next_due(&self) -> Option<u64> {
        match self {
            Pace::Window(_) => None,
            Pace::Schedule(schedule) => Some(schedule.due()),
        }
    }

    /// A message has reached every member of `room`.
    #[inline]
    pub fn completed(&mut self, room: usize) {
        if let Pace::Window(window) = self {
            window.completed(room);
        }
    }
}

/// A number of places for messages. Rooms wait for one in a queue: whose message has arrived goes to its end.
#[derive(Debug)]
pub struct Window {
    places: usize,
    queue: VecDeque<usize>,
}

impl Window {
    fn new(places: usize, rooms: usize) -> Window {
        // Each room as often as it may have a message on its way, so that none has two more than another.
        let turns = places.div_ceil(rooms);
        Window { places, queue: (0..turns).flat_map(|_| 0..rooms).collect() }
    }

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.places == 0 {
            return None;
        }
        self.places -= 1;
        self.queue.pop_front()
    }

    fn completed(&mut self, room: usize) {
        self.places += 1;
        self.queue.push_back(room);
    }
}

/// Moments at equal distances, each for the next room.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_ns: u64,
    per_second: u32,
    sent: u64,
    rooms: usize,
}

impl Schedule {
    /// When the next message is due: counted from the start, so that no rounding adds up.
    fn due(&self) -> u64 {
        self.start_ns + (u128::from(self.sent) * 1_000_000_000 / u128::from(self.per_second)) as u64
    }

    fn next(&mut self, now: u64) -> Option<(usize, u64)> {
        let due = self.due();
        if due > now {
            return None;
        }
        let room = (self.sent % self.rooms as u64) as usize;
        self.sent += 1;
        Some((room, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pace: &mut Pace, now: u64) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| pace.next(now)).collect()
    }

    #[test]
    fn a_window_sends_again_only_when_everybody_has_one() {
        let mut pace = Pace::new(Load::InFlight(2), 1, 0);
        assert_eq!(all(&mut pace, 7), [(0, 7), (0, 7)]);
        assert_eq!(all(&mut pace, 8), []);
        for now in [9, 10] {
            pace.completed(0);
            assert_eq!(all(&mut pace, now), [(0, now)]);
        }
    }

    #[test]
    fn rooms_take_turns_where_a_window_is_smaller_than_their_number() {
        let mut pace = Pace::new(Load::InFlight(2), 3, 0);
        assert_eq!(all(&mut pace, 0), [(0, 0), (1, 0)]);
        let mut rooms = Vec::new();
        for room in [0, 1, 2, 0] {
            pace.completed(room);
            rooms.extend(all(&mut pace, 0).into_iter().map(|(room, _)| room));
        }
        assert_eq!(rooms, [2, 0, 1, 2]);
    }

    #[test]
    fn a_schedule_is_kept_to_the_nanosecond_and_nothing_is_left_out() {
        let mut pace = Pace::new(Load::Rate(3), 2, 100);
        assert_eq!(all(&mut pace, 99), []);
        assert_eq!(all(&mut pace, 100), [(0, 100)]);
        assert_eq!(pace.next_due(), Some(333_333_433));
        assert_eq!(all(&mut pace, 1_000_000_100), [(1, 333_333_433), (0, 666_666_766), (1, 1_000_000_100)]);
    }
}
