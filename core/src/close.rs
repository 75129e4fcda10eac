//! Why a WebSocket ends, and how: one table for all causes.

use crate::error::Violation;
use crate::fanout::Rest;
use crate::identity::Denied;
use crate::limits::meter::Limit;
use crate::metrics::Metrics;

/// RFC 6455's registry: the service restarts.
const SERVICE_RESTART: u16 = 1012;
/// RFC 6455's registry: the client may come back later.
const TRY_AGAIN_LATER: u16 = 1013;
// Codes from 4000 to 4499 mean "reconnect with backoff", those from 4500 on "do not reconnect".
const NO_SIGN_OF_LIFE: u16 = 4000;
const EXPIRED: u16 = 4001;
const TOO_SLOW: u16 = 4008;
/// The rooms of a client have said what it has missed, which its dialect cannot tell it.
const MISSED: u16 = 4010;
const TOO_FAST: u16 = 4029;
const UNAUTHORISED: u16 = 4501;
const FORBIDDEN: u16 = 4503;
const TOO_MANY_ERRORS: u16 = 4509;

/// Why a WebSocket ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CloseReason<'a> {
    /// The client has broken a rule of RFC 6455.
    Violation(Violation),
    /// The client has sent a close frame, with a code or without.
    Client(Option<u16>),
    /// It sends more than a limit allows.
    TooFast(Limit),
    /// It keeps sending what is no command.
    TooManyErrors,
    /// What it wants cannot be had for now, and its dialect has no other word for that.
    TryAgainLater(&'a str),
    /// It has missed messages of a room with history, and its dialect has no word for that: it may come back for what there is.
    Missed,
    /// This core has been told to stop.
    Restart,
    /// This core has been told to let some go.
    Shed,
    /// It has given no sign of life.
    Silent,
    /// It does not read what it is sent.
    TooSlow,
    /// It does not end a message that it has begun.
    Unfinished(&'static str),
    /// It has no credential that is good, and needs one.
    Unauthorised(&'static str),
    /// It may not be here, or not do what it does, and its dialect has no other word for that.
    Forbidden(&'static str),
    /// Its credential is good no more: it may come back with another.
    Expired(&'static str),
    /// The program that the core is a part of wants it, with this code, and for this reason.
    Program(u16, &'a str),
}

/// What follows the close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The client's close frame is waited for, so that it hears of what it sent before.
    AwaitClient,
    /// Nothing that it sends matters: FIN, and what comes is discarded until the client's FIN.
    HalfClose,
    /// Nothing more can come: the socket is closed when all is written.
    Close,
}

impl CloseReason<'static> {
    /// How a connection ends whose credential is not good, or is good no more.
    pub fn denied(denied: Denied) -> CloseReason<'static> {
        match denied {
            Denied::Unauthorised => CloseReason::Unauthorised("the credential is not good"),
            Denied::Forbidden => CloseReason::Forbidden("this user may not be here"),
            Denied::Expired => CloseReason::Expired("the credential has expired"),
            Denied::Unavailable => CloseReason::TryAgainLater("the credential cannot be verified at the moment"),
        }
    }
}

impl<'a> CloseReason<'a> {
    /// The code of the close frame.
    pub fn code(self) -> Option<u16> {
        Some(match self {
            CloseReason::Violation(violation) => violation.close_code(),
            CloseReason::Client(code) => return code,
            CloseReason::TooFast(_) => TOO_FAST,
            CloseReason::TooManyErrors => TOO_MANY_ERRORS,
            CloseReason::TryAgainLater(_) => TRY_AGAIN_LATER,
            CloseReason::Missed => MISSED,
            CloseReason::Restart | CloseReason::Shed => SERVICE_RESTART,
            CloseReason::Silent => NO_SIGN_OF_LIFE,
            CloseReason::TooSlow | CloseReason::Unfinished(_) => TOO_SLOW,
            CloseReason::Unauthorised(_) => UNAUTHORISED,
            CloseReason::Forbidden(_) => FORBIDDEN,
            CloseReason::Expired(_) => EXPIRED,
            CloseReason::Program(code, _) => code,
        })
    }

    /// The reason, for the log.
    pub fn text(self) -> &'a str {
        match self {
            CloseReason::Violation(violation) => violation.reason(),
            CloseReason::Client(_) => "the client closed",
            CloseReason::TooFast(limit) => limit.reason(),
            CloseReason::TooManyErrors => "too many malformed commands",
            CloseReason::TryAgainLater(reason) | CloseReason::Program(_, reason) => reason,
            CloseReason::Missed => "messages have been missed",
            CloseReason::Restart => "the server restarts",
            CloseReason::Shed => "the server makes room",
            CloseReason::Silent => "no sign of life",
            CloseReason::TooSlow => "too slow",
            CloseReason::Unfinished(reason)
            | CloseReason::Unauthorised(reason)
            | CloseReason::Forbidden(reason)
            | CloseReason::Expired(reason) => reason,
        }
    }

    /// The reason in the close frame. The client's own frame is answered by its code alone.
    pub fn told(self) -> &'a str {
        match self {
            CloseReason::Client(_) => "",
            reason => reason.text(),
        }
    }

    /// What it still gets of what its rooms have said. Nothing if the client is the cause, because that may be megabytes, and any
    /// number of clients may close at once.
    pub fn rest(self) -> Rest {
        match self {
            CloseReason::TryAgainLater(_) | CloseReason::Program(..) | CloseReason::Restart | CloseReason::Shed => {
                Rest::All
            }
            _ => Rest::Nothing,
        }
    }

    /// What follows the close frame.
    pub fn then(self) -> Then {
        match self {
            CloseReason::TooManyErrors
            | CloseReason::TryAgainLater(_)
            | CloseReason::Missed
            | CloseReason::Restart
            | CloseReason::Shed
            | CloseReason::TooSlow
            | CloseReason::Unauthorised(_)
            | CloseReason::Forbidden(_)
            | CloseReason::Expired(_)
            | CloseReason::Program(..) => Then::AwaitClient,
            // In the midst of a message or of a breach no close frame can be looked for, nor in a flood.
            CloseReason::Violation(_) | CloseReason::TooFast(_) | CloseReason::Unfinished(_) => Then::HalfClose,
            // RFC 6455 §7.1.1: the server closes first, and there is nothing left to read.
            CloseReason::Client(_) | CloseReason::Silent => Then::Close,
        }
    }

    /// Counts it, where there is a figure for it.
    pub fn count(self, metrics: &mut Metrics) {
        let counter = match self {
            CloseReason::Violation(_) => &mut metrics.protocol_closes,
            CloseReason::TooFast(_) => &mut metrics.rate_closes,
            CloseReason::Silent => &mut metrics.heartbeat_closes,
            CloseReason::TooSlow => &mut metrics.slow_closes,
            CloseReason::Unfinished(_) => &mut metrics.unfinished_closes,
            CloseReason::Unauthorised(_) | CloseReason::Forbidden(_) | CloseReason::Expired(_) => {
                &mut metrics.auth_closes
            }
            CloseReason::Program(..) => &mut metrics.program_closes,
            CloseReason::Client(_)
            | CloseReason::TooManyErrors
            | CloseReason::TryAgainLater(_)
            | CloseReason::Missed
            | CloseReason::Restart
            | CloseReason::Shed => return,
        };
        *counter += 1;
    }
}
