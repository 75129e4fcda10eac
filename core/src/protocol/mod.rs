//! What text frames mean: the JSON commands of a client and the replies of the server. Nothing here touches a connection
//! or a room.

pub mod command;
pub(crate) mod program;
pub mod reply;

use std::fmt;

/// Raw bytes of an id's JSON text that fit without an allocation: integers, UUIDs, most counters.
const INLINE_BYTES: usize = 46;

/// A client's correlation id, as the JSON text that it sent: an integer, or a string of at most 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandId(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<str>),
}

impl CommandId {
    /// The id with this JSON text; checking it is the parser's business.
    pub(crate) fn new(json: &str) -> CommandId {
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..json.len()) {
            Some(start) => {
                start.copy_from_slice(json.as_bytes());
                CommandId(Repr::Inline { len: json.len() as u8, bytes })
            }
            None => CommandId(Repr::Heap(json.into())),
        }
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        match &self.0 {
            Repr::Inline { len, bytes } => std::str::from_utf8(&bytes[..usize::from(*len)]).expect("made from a str"),
            Repr::Heap(json) => json,
        }
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

/// The stable `code` of an `ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The frame is not one JSON object.
    BadJson,
    /// `type` names no command.
    UnknownType,
    /// A field that the command needs is not there.
    MissingField,
    /// A field has the wrong kind, or two fields contradict each other.
    BadField,
    /// The room's name is empty, too long, or has control characters.
    RoomInvalid,
    /// The connection, or its user, is in as many rooms as allowed.
    TooManyRooms,
    /// The user has as many connections as allowed.
    TooManyConnections,
    /// The room has as many members as allowed.
    RoomFull,
    /// The command, or one of its fields, needs something that this server does not have.
    NotSupported,
    /// A binary message.
    BinaryNotSupported,
    /// More messages a second than the connection, or its user, may send.
    TooFast,
    /// The broker cannot be reached, or refuses for a while; the message was not published.
    BrokerUnavailable,
    /// Too many messages wait for the broker; this one was not published.
    BrokerBusy,
    /// The broker refused.
    BrokerRefused,
    /// The broker went away before it confirmed; the message may have been published.
    Unconfirmed,
    /// An earlier `SUBSCRIBE` for this room still waits for the broker.
    Pending,
    /// The backend has taken the connection out of the room.
    Removed,
    /// The `SUBSCRIBE` was undone by an `UNSUBSCRIBE` before the broker confirmed it.
    Cancelled,
    /// The room keeps no history, or its history cannot be read or written.
    HistoryUnavailable,
    /// The room's history has another epoch now.
    EpochUnknown,
    /// The room does not keep this message.
    MessageUnknown,
    /// Nobody keeps who is in this room, or that is out of reach.
    PresenceUnavailable,
    /// The idempotency key belongs to another message.
    KeyReused,
    /// The room keeps no history, and so knows no idempotency keys.
    KeyUnsupported,
    /// No credential has come, or none that is good.
    Unauthorised,
    /// The user may not do this.
    Forbidden,
    /// The credential has expired.
    TokenExpired,
    /// The credential will expire soon.
    TokenExpiring,
    /// Whether the credential is good could not be found out.
    AuthUnavailable,
    /// Whoever looks at messages before they are published does not want this one.
    Refused,
    /// Nobody could look at the message; it was not published.
    HookUnavailable,
    /// Too many messages wait to be looked at; this one was not published.
    HookBusy,
}

impl ErrorCode {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadJson => "bad_json",
            ErrorCode::UnknownType => "unknown_type",
            ErrorCode::MissingField => "missing_field",
            ErrorCode::BadField => "bad_field",
            ErrorCode::RoomInvalid => "room_invalid",
            ErrorCode::TooManyRooms => "too_many_rooms",
            ErrorCode::TooManyConnections => "too_many_connections",
            ErrorCode::RoomFull => "room_full",
            ErrorCode::NotSupported => "not_supported",
            ErrorCode::BinaryNotSupported => "binary_not_supported",
            ErrorCode::TooFast => "too_fast",
            ErrorCode::BrokerUnavailable => "broker_unavailable",
            ErrorCode::BrokerBusy => "broker_busy",
            ErrorCode::BrokerRefused => "broker_refused",
            ErrorCode::Unconfirmed => "unconfirmed",
            ErrorCode::Pending => "pending",
            ErrorCode::Removed => "removed",
            ErrorCode::Cancelled => "cancelled",
            ErrorCode::HistoryUnavailable => "history_unavailable",
            ErrorCode::EpochUnknown => "epoch_unknown",
            ErrorCode::MessageUnknown => "message_unknown",
            ErrorCode::PresenceUnavailable => "presence_unavailable",
            ErrorCode::KeyReused => "key_reused",
            ErrorCode::KeyUnsupported => "key_unsupported",
            ErrorCode::Unauthorised => "unauthorised",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::TokenExpired => "token_expired",
            ErrorCode::TokenExpiring => "token_expiring",
            ErrorCode::AuthUnavailable => "auth_unavailable",
            ErrorCode::Refused => "refused",
            ErrorCode::HookUnavailable => "hook_unavailable",
            ErrorCode::HookBusy => "hook_busy",
        }
    }

    /// Whether the client broke the protocol, which counts towards `errors_max`; else it met a limit or an outage.
    pub const fn is_malformed(self) -> bool {
        matches!(
            self,
            ErrorCode::BadJson
                | ErrorCode::UnknownType
                | ErrorCode::MissingField
                | ErrorCode::BadField
                | ErrorCode::RoomInvalid
                | ErrorCode::BinaryNotSupported
        )
    }
}
