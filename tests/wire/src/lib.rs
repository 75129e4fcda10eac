//! What a client of Fanfare writes and reads, as bytes: WebSocket frames (RFC 6455), the forbidden ones too, the upgrade,
//! compressed messages (RFC 7692), and the commands. Pure functions: no sockets, no clock, and nothing of the server's code.

mod commands;
mod deflate;
mod error;
mod frame;
mod read;
mod upgrade;

pub use commands::{
    ERROR_PREFIX, MESSAGE_PREFIX, SUBSCRIBED_PREFIX, text_frame_of, write_message, write_send_json, write_send_message,
    write_send_with_id, write_subscribe, write_subscribed, write_unsubscribe,
};
pub use deflate::{deflated, deflated_at, inflate, inflated, write_deflated};
pub use error::{Error, Result};
pub use frame::{COMPRESSED, FIN, Frame, Length, MASK, code, head, mask, opcode, write_frame, write_masked};
pub use read::{FrameRef, first_frame};
pub use upgrade::{
    COMPRESSION_OFFER, SAMPLE_ACCEPT, SAMPLE_KEY, head_bytes, path_joining, upgrade_request, upgrade_request_to,
    upgraded, write_upgraded,
};
