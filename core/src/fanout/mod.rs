//! Who hears what, and bytes on their way to many: groups of members, runs of frames, streams to one connection, what is written
//! together, and what slow sockets have not taken.

pub(crate) mod delivery;
pub(crate) mod group;
pub(crate) mod joint;
pub(crate) mod outbox;
pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod stream;
