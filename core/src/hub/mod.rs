//! Rooms, their members, and the frames on their way to them: what commands and the broker's events do, and what slow
//! consumers cost. Nothing here knows a WebSocket frame's bits or a broker's protocol.

pub(crate) mod asks;
mod commands;
pub(crate) mod joins;
pub(crate) mod rooms;
pub(crate) mod subscriptions;
