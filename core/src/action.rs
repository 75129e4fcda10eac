//! What comes out of the core: actions. No behaviour.

use crate::broker::PublishId;
use crate::fanout::delivery::Delivery;
use crate::id::ConnId;

/// What the adapter has to do.
///
/// Not `#[non_exhaustive]`: an adapter that passes over an action that it does not know is wrong, and so is told when it is
/// compiled. A new kind of action is a new major version.
#[derive(Debug)]
pub enum Action<'a> {
    /// Write the same bytes to each of one or many connections.
    Send(Delivery<'a>),
    /// The server sends no more on this connection: half-close the socket (send a FIN), and go on reading.
    Shutdown {
        /// Whose socket.
        conn: ConnId,
    },
    /// Close the socket, or the framework's WebSocket. The id is void from here on.
    Close {
        /// Whose socket.
        conn: ConnId,
    },
    /// Publish to a room. If there is an id, exactly one `Published` or `PublishFailed` with it must come back.
    Publish {
        /// The room.
        room: &'a str,
        /// What to publish, to the letter.
        payload: &'a [u8],
        /// Set where somebody waits for the outcome.
        id: Option<PublishId>,
    },
    /// Subscribe to a room.
    Subscribe {
        /// The room.
        room: &'a str,
    },
    /// Unsubscribe from a room.
    Unsubscribe {
        /// The room.
        room: &'a str,
    },
}
