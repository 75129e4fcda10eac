//! Who is in which room, and who sends to it: arithmetic, no sockets and no state.

use crate::{Error, Result};

/// The shape of a load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections that listen.
    pub members: usize,
    /// Rooms in all.
    pub rooms: usize,
    /// Rooms that each member is in.
    pub rooms_each: usize,
    /// Connections that send, and are in no room.
    pub publishers: usize,
    /// How names of rooms begin; needs no escaping in JSON.
    pub room_prefix: String,
}

/// How far apart a member's rooms are: as far as can be, so that messages that follow each other go to different members.
fn stride(rooms: usize, rooms_each: usize) -> usize {
    rooms / rooms_each
}

/// One of the rooms of a member who is in `rooms_each` of `rooms`.
pub fn nth_room_of(member: usize, nth: usize, rooms: usize, rooms_each: usize) -> usize {
    (member % rooms + nth * stride(rooms, rooms_each)) % rooms
}

impl Plan {
    /// Checks that there is somebody in every room and something for everybody to do.
    pub fn check(&self) -> Result<()> {
        let Plan { members, rooms, rooms_each, .. } = *self;
        if rooms_each > rooms {
            return Err(Error::new(format!("no connection can be in {rooms_each} rooms when there are {rooms}")));
        }
        // Member i's first room is i; from the last of its rooms on, the members together must reach the end.
        if members + (rooms_each - 1) * self.stride() < rooms {
            return Err(Error::new(format!(
                "{members} connections in {rooms_each} rooms each leave some of {rooms} rooms empty"
            )));
        }
        Ok(())
    }

    fn stride(&self) -> usize {
        stride(self.rooms, self.rooms_each)
    }

    /// The first room of `member`; the others are a stride apart, and behind the last room comes the first.
    pub fn first_room_of(&self, member: usize) -> usize {
        member % self.rooms
    }

    /// The rooms of `member`.
    pub fn rooms_of(&self, member: usize) -> impl Iterator<Item = usize> {
        (0..self.rooms_each).map(move |nth| self.nth_room_of(member, nth))
    }

    /// One of the rooms of `member`.
    pub fn nth_room_of(&self, member: usize, nth: usize) -> usize {
        nth_room_of(member, nth, self.rooms, self.rooms_each)
    }

    /// Which of the rooms of the member whose first is `first_room` is `room`: at least `rooms_each` if none is.
    #[inline]
    pub fn nth_room(&self, first_room: usize, room: usize) -> usize {
        let behind = if room >= first_room { room - first_room } else { room + self.rooms - first_room };
        if self.rooms_each == 1 {
            return behind;
        }
        let stride = self.stride();
        if behind.is_multiple_of(stride) { behind / stride } else { self.rooms_each }
    }

    /// How many members `room` has.
    pub fn members_of(&self, room: usize) -> usize {
        let starting_at = |first: usize| self.members / self.rooms + usize::from(first < self.members % self.rooms);
        (0..self.rooms_each).map(|nth| starting_at((room + self.rooms - nth * self.stride()) % self.rooms)).sum()
    }

    /// The name of `room`; all are of one length, so that all messages are.
    pub fn name_of(&self, room: usize) -> String {
        let digits = (self.rooms - 1).to_string().len().max(4);
        format!("{}{room:0digits$}", self.room_prefix)
    }

    /// The most publishers that one room has. Order is promised to the messages of one connection in one room, so what
    /// is checked is each publisher's stream to a room.
    pub fn lanes(&self) -> usize {
        self.publishers.div_ceil(self.rooms)
    }

    /// How many publishers `room` has: where there are fewer of them than rooms, one serves several.
    pub fn lanes_of(&self, room: usize) -> usize {
        if self.publishers <= self.rooms { 1 } else { (self.publishers - room).div_ceil(self.rooms) }
    }

    /// The publisher of `room` on its `lane`.
    pub fn publisher(&self, room: usize, lane: usize) -> usize {
        if self.publishers <= self.rooms { room % self.publishers } else { room + lane * self.rooms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(members: usize, rooms: usize, rooms_each: usize, publishers: usize) -> Plan {
        Plan { members, rooms, rooms_each, publishers, room_prefix: "r".to_owned() }
    }

    #[test]
    fn rooms_have_the_members_that_are_in_them() {
        for (members, rooms, each) in [(10, 3, 1), (10, 3, 2), (7, 7, 7), (5, 9, 5), (10, 100, 10), (1, 1, 1)] {
            let plan = plan(members, rooms, each, 1);
            plan.check().unwrap();
            for room in 0..rooms {
                let there: Vec<usize> =
                    (0..members).filter(|&member| plan.rooms_of(member).any(|of| of == room)).collect();
                assert_eq!(plan.members_of(room), there.len(), "room {room} of {plan:?}");
                for member in 0..members {
                    let nth = plan.nth_room(plan.first_room_of(member), room);
                    assert_eq!(nth < each, there.contains(&member));
                    assert!(nth >= each || plan.rooms_of(member).nth(nth) == Some(room));
                }
            }
        }
        assert!(plan(2, 6, 2, 1).check().is_err() && plan(9, 2, 3, 1).check().is_err());
    }

    #[test]
    fn every_publisher_has_work_and_no_lane_two_publishers() {
        for (rooms, publishers) in [(1, 1), (1, 5), (3, 2), (3, 3), (3, 8)] {
            let plan = plan(10, rooms, 1, publishers);
            let mut busy: Vec<usize> = (0..rooms)
                .flat_map(|room| (0..plan.lanes_of(room)).map(move |lane| (room, lane)))
                .map(|(room, lane)| plan.publisher(room, lane))
                .collect();
            assert!((0..rooms).all(|room| plan.lanes_of(room) <= plan.lanes()));
            assert!(publishers <= rooms || busy.len() == publishers);
            busy.sort_unstable();
            busy.dedup();
            assert_eq!(busy, (0..publishers).collect::<Vec<_>>());
        }
    }

    #[test]
    fn names_are_of_one_length() {
        assert_eq!(plan(9, 1, 1, 1).name_of(0), "r0000");
        assert_eq!(plan(20_001, 20_001, 1, 1).name_of(7), "r00007");
    }
}
