//! Rooms with history: no message of theirs is lost, or said twice, or out of its place, without a word to the members.
//!
//! Every stored message comes with its position. While they come one after the other, each is said as it comes. Where one is missing, and
//! after every subscription, the broker is asked once for what came after the last that was said, and what comes meanwhile is held
//! ([`learning`]). Whoever comes back is given what it has missed out of its room's tail in memory, or where that does not reach back so
//! far from pages that are read for all who need them ([`resuming`]). Until then it is *behind*: a member that the fan-out passes over.

mod asking;
mod histories;
mod keeper;
mod learning;
mod places;
mod reads;
mod resuming;
mod tail;

pub(super) use histories::Histories;
