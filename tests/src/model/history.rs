//! What a history is made of: the steps that happen, and the core's bounds that it is run with.

use fanfare_core::Limits;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client connects and upgrades.
    Connect,
    /// One that gets what it is sent compressed, with a window of so many bits.
    ConnectCompressed(u8),
    /// One that speaks the classic dialect: it gets no replies, and messages bare.
    ConnectClassic,
    /// One that is in the first room from the start, and speaks the broadcast dialect.
    ConnectBroadcast,
    /// One that reads the first rooms by an event stream, as many as this.
    ConnectEvents(usize),
    /// One whose upgrade someone else answered: it sends messages, and takes whole ones.
    ConnectByMessage {
        /// It speaks the broadcast dialect, in the first room.
        broadcasts: bool,
    },
    /// The client with this number sends a SUBSCRIBE for this room.
    Subscribe(usize, usize),
    /// An UNSUBSCRIBE.
    Unsubscribe(usize, usize),
    /// A SEND_MESSAGE; `false`: without echo.
    Send(usize, usize, bool),
    /// What is no command.
    Nonsense(usize),
    /// A frame that breaks the protocol.
    Violate(usize),
    /// The client closes in order.
    Close(usize),
    /// The client's end is reached.
    Vanish(usize),
    /// The client's socket fails at the next write.
    Break(usize),
    /// The client's socket takes this many bytes more, and then no more until the next such step.
    Take(usize, usize),
    /// The broker answers this many asks.
    Answer(usize),
    /// The broker refuses the next ask, if that is a subscription.
    Refuse,
    /// The broker begins to refuse for a while what it is asked, or does so no more.
    RefuseForAWhile(bool),
    /// The broker goes away.
    Down,
    /// The broker loses the subscriptions of one of its partitions.
    Lose(u16),
    /// The broker is back.
    Up,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The adapter carries out so many of this turn's actions, of the next one so many targets, and drops the rest.
    Drop(usize, usize),
    /// The server is told to let everybody go.
    Drain,
    /// The server is told to stop.
    Shutdown,
}

/// The core's bounds that the model is run with.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Who is too slow.
    pub outbox_bytes_max: usize,
    /// The same for all clients together.
    pub outbox_total_bytes_max: usize,
    /// How much of what rooms have to say is said in a turn.
    pub members_per_turn_max: usize,
    /// And how much of a room at once.
    pub group_members_max: u16,
}

impl Default for Bounds {
    fn default() -> Bounds {
        let Limits { outbox_bytes_max, outbox_total_bytes_max, members_per_turn_max, group_members_max, .. } =
            Limits::default();
        Bounds { outbox_bytes_max, outbox_total_bytes_max, members_per_turn_max, group_members_max }
    }
}
