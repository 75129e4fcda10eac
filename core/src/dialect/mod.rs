//! The languages that clients speak. Members of all dialects meet in the same rooms. Here stands in which form each of them gets a
//! message. What texts mean in each stands in `session`.

mod subprotocol;

pub use subprotocol::Subprotocols;

use crate::form::Shape;

/// The room of a broadcast connection whose path names none.
const BROADCAST_ROOM: &str = "global_chat";

/// A language that clients speak over WebSocket, chosen by the path of the upgrade. `/` and `/ws` are for
/// [`Config::default_dialect`](crate::Config::default_dialect).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Commands and replies in JSON: the server's own, at `/fanfare`. `?room=` joins at once.
    #[default]
    Fanfare,
    /// The Node room servers' commands, without replies; messages come bare. At `/classic`. `?room=` joins at once.
    Classic,
    /// No commands: whatever is sent goes to the one room of the connection; messages come bare. At `/broadcast/` and the room's
    /// name, and at `/broadcast`, which means `global_chat`.
    Broadcast,
    /// Whatever is sent comes back. For conformance tests, at `/echo` where [`Config::echo`](crate::Config::echo) says so.
    Echo,
}

impl Dialect {
    pub(crate) fn shape(self) -> Shape {
        match self {
            Dialect::Fanfare | Dialect::Echo => Shape::Message,
            Dialect::Classic | Dialect::Broadcast => Shape::Bare,
        }
    }

    /// The rooms of a connection that names none.
    pub(crate) fn own_rooms(self) -> &'static [&'static str] {
        match self {
            Dialect::Broadcast => &[BROADCAST_ROOM],
            Dialect::Fanfare | Dialect::Classic | Dialect::Echo => &[],
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Dialect::Fanfare => "fanfare",
            Dialect::Classic => "classic",
            Dialect::Broadcast => "broadcast",
            Dialect::Echo => "echo",
        }
    }

    /// Whether commands are answered.
    pub(crate) fn has_replies(self) -> bool {
        self == Dialect::Fanfare
    }
}
