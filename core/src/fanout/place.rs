//! Where a member stands in its room, and its room in its connection's list.

/// The most members of a group: a millisecond's work. More are several groups, each with a run of its own, so that others get their
/// turn between them. What the room says meanwhile goes out with what was said before. Also the most that a vector of members grows
/// to.
pub(crate) const GROUP_MEMBERS_MAX: usize = 256;
/// A member's place in its connection's room list, and whether its SUBSCRIBE still waits for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(u16);

const WAITING: u16 = 1 << 15;
/// A connection's list of rooms has so many places.
pub(crate) const MEMBERSHIPS_MAX: usize = WAITING as usize - 1;

impl Seat {
    pub fn new(list_position: usize, waiting: bool) -> Seat {
        debug_assert!(list_position < usize::from(WAITING));
        Seat(list_position as u16 | if waiting { WAITING } else { 0 })
    }

    pub fn list_position(self) -> usize {
        usize::from(self.0 & !WAITING)
    }

    pub fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }
}

/// Where a member stands in its room: in which group, and at which place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    pub fn new(group: usize, index: u32) -> Place {
        debug_assert!(index < GROUP_MEMBERS_MAX as u32);
        Place(group as u32 * GROUP_MEMBERS_MAX as u32 + index)
    }

    /// The group's index in the room.
    pub fn group(self) -> usize {
        (self.0 / GROUP_MEMBERS_MAX as u32) as usize
    }

    /// The member's index in the group.
    pub fn index(self) -> u32 {
        self.0 % GROUP_MEMBERS_MAX as u32
    }
}
