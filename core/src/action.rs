//! What comes out of the core: actions. No behaviour.

use crate::broker::Ask;
use crate::fanout::delivery::Delivery;
use crate::id::ConnId;
use crate::identity::Authenticate;
use crate::proposal::Proposal;

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
    /// Ask the broker: hand this to [`MemoryBroker::ask`](crate::broker::memory::MemoryBroker::ask),
    /// [`RedisBroker::ask`](crate::broker::redis::RedisBroker::ask), or a broker of one's own.
    Ask(Ask<'a>),
    /// Find out whether a credential is good. It comes only if [`Config::auth`](crate::Config::auth) is there.
    Authenticate(Authenticate<'a>),
    /// Find out whether a message may be published. It comes only if a rule has
    /// [`Rule::before_publish`](crate::rules::Rule::before_publish), and is to be answered once, by
    /// [`Event::Decided`](crate::Event::Decided): the core waits for as long as that takes.
    Propose(Proposal<'a>),
}
