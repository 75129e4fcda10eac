//! Messages that have not reached everybody: whom each still has to reach, and which place it has in the order of its
//! room. No sockets and no clock.

use std::collections::VecDeque;

use super::message::{Due, Header};

/// The messages of all streams. Those of one room have one order, promised to all its members: here it is the one in
/// which they first came to anybody, and whoever gets them otherwise disagrees.
#[derive(Clone, Debug)]
pub struct InFlight {
    lanes: usize,
    streams: Vec<Stream>,
    /// How many messages of each room have a place in its order.
    ranked: Vec<u32>,
}

/// A message behind one that never comes is kept until the end of the run: 32 bytes each.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// The number of the first message here.
    first: u32,
    messages: VecDeque<Message>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    due: Due,
    due_ns: u64,
    /// How many members it has not reached.
    left: u32,
    /// Its place in the order of its room, from 1; 0 before it has come to anybody.
    rank: u32,
}

/// What the arrival of a message at a member means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it was to be sent, in ns since the run began.
    pub due_ns: u64,
    /// It has reached everybody.
    pub completed: bool,
    /// It came behind the same messages as at the others.
    pub agrees: bool,
}

impl InFlight {
    /// None in so many rooms, with so many streams to each.
    pub fn new(rooms: usize, lanes: usize) -> InFlight {
        InFlight { lanes, streams: vec![Stream::default(); rooms * lanes], ranked: vec![0; rooms] }
    }

    /// The next message of `stream` is on its way to so many members.
    pub fn sent(&mut self, stream: usize, due_ns: u64, members: u32) {
        let message = Message { due: Due::of(due_ns), due_ns, left: members, rank: 0 };
        self.streams[stream].messages.push_back(message);
    }

    /// A member has the message of `header` for the first time. `latest` is that member's own: the last place in the order
    /// of the room that it has come to, 0 at first. With one stream in a room nobody disagrees, for the numbers tell its
    /// order. None of a message that is not as it was sent.
    #[inline]
    pub fn arrived(&mut self, room: usize, header: Header, latest: &mut u32) -> Option<Arrival> {
        let in_flight = &mut self.streams[header.stream as usize];
        let index = header.sequence.wrapping_sub(in_flight.first) as usize;
        let message =
            in_flight.messages.get_mut(index).filter(|message| message.due == header.due && message.left > 0)?;
        if message.rank == 0 {
            self.ranked[room] += 1;
            message.rank = self.ranked[room];
        }
        let agrees = message.rank > *latest || self.lanes == 1;
        *latest = message.rank.max(*latest);
        message.left -= 1;
        let arrival = Arrival { due_ns: message.due_ns, completed: message.left == 0, agrees };
        if arrival.completed {
            while in_flight.messages.front().is_some_and(|message| message.left == 0) {
                in_flight.messages.pop_front();
                in_flight.first += 1;
            }
        }
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often members disagree with those before them, to whom these messages (stream, number) of one room come,
    /// member by member and one each in turn.
    fn disagreements(of_members: &[&[(usize, u32)]]) -> [usize; 2] {
        let messages = of_members[0].len();
        let one_by_one: Vec<_> = (0..of_members.len()).flat_map(|m| (0..messages).map(move |at| (m, at))).collect();
        let in_turn: Vec<_> = (0..messages).flat_map(|at| (0..of_members.len()).map(move |m| (m, at))).collect();
        [one_by_one, in_turn].map(|schedule| {
            let mut in_flight = InFlight::new(1, 2);
            for &(stream, _) in of_members[0] {
                in_flight.sent(stream, 7, of_members.len() as u32);
            }
            let mut latest = vec![0; of_members.len()];
            let mut disagree = 0;
            for (member, at) in schedule {
                let (stream, sequence) = of_members[member][at];
                let header = Header { stream: stream as u32, sequence, due: Due::of(7) };
                let agrees = in_flight.arrived(0, header, &mut latest[member]).unwrap().agrees;
                disagree += usize::from(!agrees);
            }
            assert!(in_flight.streams.iter().all(|stream| stream.messages.is_empty()));
            disagree
        })
    }

    #[test]
    fn members_agree_only_on_one_order_of_the_messages_of_all_publishers() {
        let order: &[_] = &[(0, 0), (1, 0), (0, 1), (1, 1)];
        assert_eq!(disagreements(&[order, order, order]), [0, 0]);
        // Each publisher's own messages are in order everywhere.
        assert_eq!(disagreements(&[order, &[(1, 0), (0, 0), (0, 1), (1, 1)]]), [1, 1]);
        assert_eq!(disagreements(&[order, &[(0, 0), (0, 1), (1, 0), (1, 1)], order]), [1, 1]);
    }

    #[test]
    fn a_message_is_complete_when_it_has_reached_everybody_whatever_became_of_those_before() {
        let mut in_flight = InFlight::new(1, 1);
        (0..2).for_each(|_| in_flight.sent(0, 7, 2));
        let mut latest = [0; 2];
        let mut completes = |sequence, due_ns, member: usize| {
            let header = Header { stream: 0, sequence, due: Due::of(due_ns) };
            in_flight.arrived(0, header, &mut latest[member]).map(|arrival| arrival.completed)
        };
        assert_eq!([completes(1, 7, 0), completes(1, 7, 1)], [Some(false), Some(true)]);
        assert_eq!([completes(0, 7, 1), completes(0, 8, 0), completes(0, 7, 0)], [Some(false), None, Some(true)]);
    }
}
