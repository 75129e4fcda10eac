//! A message, from its sending on, and what its sender has heard of it.

use crate::network::WireId;

/// What a client was told of a message, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing (yet).
    Nothing,
    /// It was published.
    Acked,
    /// It was not published.
    Refused,
    /// It may have been published.
    Unconfirmed,
}

/// A message that somebody has sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The room.
    pub room: usize,
    /// Its JSON text.
    pub json: String,
    /// The connection, and whether its sender wants it back.
    pub session: u64,
    /// Whether that connection gets it, if it is a member.
    pub echo: bool,
    /// Whether it is to be stored.
    pub stores: bool,
    /// What its sender was told.
    pub told: Told,
    /// Its place in the room's order.
    pub published: Option<usize>,
    /// Whether its sender can be told that it was refused.
    pub can_be_refused: bool,
    /// Somebody did not want it.
    pub is_refused: bool,
    /// The user who has sent it, where that is known.
    pub from: Option<&'static str>,
    /// Since when its sender has asked to be a member of the room, and has not been let go again.
    pub(super) joining_since: Option<u64>,
    pub(super) at: u64,
    /// The wire on which it was sent, and the place behind it there.
    pub behind: Option<(WireId, u64)>,
    /// The instance handed it on before it could know that its sender was a member, although no outage was known.
    pub(super) is_early: bool,
    /// When the instance handed it on.
    pub(super) handed_at: u64,
    /// Where nodes of a Cluster have refused it, and the places behind that.
    pub(super) put_off: Vec<(WireId, u64)>,
}

impl Sent {
    /// One that has just been sent. Who has asked to be a member of its room by then did so at `joining_since`.
    pub fn new(room: usize, json: String, (session, echo): (u64, bool), joining_since: Option<u64>, at: u64) -> Sent {
        let (told, published, stores) = (Told::Nothing, None, false);
        let (from, behind, is_early, handed_at, put_off) = (None, None, false, 0, Vec::new());
        let (can_be_refused, is_refused) = (false, false);
        Sent {
            room,
            json,
            session,
            echo,
            stores,
            told,
            published,
            can_be_refused,
            is_refused,
            from,
            joining_since,
            at,
            behind,
            is_early,
            handed_at,
            put_off,
        }
    }
}
