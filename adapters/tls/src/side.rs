//! What the two sides of a connection have in common, which rustls has as two types.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error};
use std::fmt;
use std::ops::Deref;

/// The longest plaintext of a record (RFC 8446 §5.1).
pub(crate) const FRAGMENT_BYTES: usize = 16 * 1024;
/// A whole record, encrypted, and the news of a key that may go before it.
const RECORD_BYTES: usize = FRAGMENT_BYTES + 512;

/// One side of a connection.
pub(crate) enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What came of ciphertext.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// So many bytes from the front are done with. The rest is the beginning of a record.
    pub(crate) consumed: usize,
    /// The peer has said that it sends no more.
    pub(crate) is_closed: bool,
    pub(crate) error: Option<Error>,
}

/// What is to be said once all that came has been taken.
enum Say<'a> {
    Nothing,
    /// Of one record at most, encrypted into what stands behind it. Then how long that is.
    Data(&'a [u8], &'a mut [u8], &'a mut Option<usize>),
    CloseNotify,
}

enum Step {
    Again,
    Closed,
    Done,
    Failed(Error),
}

impl Deref for Side {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Server(_) => "Server",
            Side::Client(_) => "Client",
        })
    }
}

impl Side {
    /// Takes all whole records of `incoming`. What they hold goes behind `plaintext`, what is to be said to them behind `outgoing`.
    pub(crate) fn take(&mut self, incoming: &mut [u8], plaintext: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Taken {
        let taken = self.advance(incoming, plaintext, outgoing, Say::Nothing);
        // What tells the peer of an error has yet to be fetched, and nothing else may be asked any more.
        while taken.error.is_some() && self.wants_write() {
            self.step(&mut incoming[taken.consumed..], plaintext, outgoing, &mut Say::Nothing);
        }
        taken
    }

    /// Encrypts `plaintext`, of one record at most, into `record`, which is made large enough. Returns how long it is, or `None` if
    /// nothing can be said any more. `held` is the beginning of a record that has come.
    pub(crate) fn encrypt(
        &mut self,
        plaintext: &[u8],
        record: &mut Vec<u8>,
        held: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Option<usize> {
        debug_assert!(plaintext.len() <= FRAGMENT_BYTES);
        if record.len() < RECORD_BYTES {
            record.resize(RECORD_BYTES, 0);
        }
        let mut written = None;
        let taken = self.advance(held, &mut Vec::new(), outgoing, Say::Data(plaintext, record, &mut written));
        debug_assert_eq!(taken.consumed, 0, "whole records have been taken when they came");
        written
    }

    /// Says that nothing more is said.
    pub(crate) fn close_notify(&mut self, held: &mut [u8], outgoing: &mut Vec<u8>) {
        self.advance(held, &mut Vec::new(), outgoing, Say::CloseNotify);
    }

    /// `incoming` must be all that has come and has not been consumed, because rustls remembers where in it messages stand.
    fn advance(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
        mut say: Say<'_>,
    ) -> Taken {
        let mut taken = Taken::default();
        loop {
            let (discard, step) = self.step(&mut incoming[taken.consumed..], plaintext, outgoing, &mut say);
            taken.consumed += discard;
            match step {
                Step::Again => {}
                Step::Closed => taken.is_closed = true,
                Step::Done => return taken,
                Step::Failed(error) => {
                    taken.error = Some(error);
                    return taken;
                }
            }
        }
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
        say: &mut Say<'_>,
    ) -> (usize, Step) {
        match self {
            Side::Server(connection) => carry_out(connection.process_tls_records(incoming), plaintext, outgoing, say),
            Side::Client(connection) => carry_out(connection.process_tls_records(incoming), plaintext, outgoing, say),
        }
    }
}

fn carry_out<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plaintext: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    say: &mut Say<'_>,
) -> (usize, Step) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut step = Step::Again;
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        plaintext.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    Err(error) => step = Step::Failed(error),
                }
            }
            step
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(outgoing, |buffer| match data.encode(buffer) {
                Err(EncodeError::InsufficientSize(error)) => Err(error.required_size),
                written => Ok(written.unwrap_or(0)),
            });
            Step::Again
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::Again
        }
        Ok(ConnectionState::PeerClosed) => Step::Closed,
        Ok(ConnectionState::WriteTraffic(traffic)) => {
            self::say(traffic, outgoing, say);
            Step::Done
        }
        // Blocked in the handshake, or closed by both. No early data is accepted.
        Ok(_) => Step::Done,
        Err(error) => Step::Failed(error),
    };
    (discard, step)
}

fn say<Data>(mut traffic: WriteTraffic<'_, Data>, outgoing: &mut Vec<u8>, say: &mut Say<'_>) {
    match say {
        Say::Nothing => {}
        Say::Data(plaintext, record, written) => **written = traffic.encrypt(plaintext, record).ok(),
        Say::CloseNotify => encode(outgoing, |buffer| match traffic.queue_close_notify(buffer) {
            Err(EncryptError::InsufficientSize(error)) => Err(error.required_size),
            written => Ok(written.unwrap_or(0)),
        }),
    }
}

/// Has something encoded behind `outgoing` by a function that tells how much room it needs.
fn encode(outgoing: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let start = outgoing.len();
    let mut written = encode(&mut []);
    if let Err(required) = written {
        outgoing.resize(start + required, 0);
        written = encode(&mut outgoing[start..]);
    }
    outgoing.truncate(start + written.unwrap_or(0));
}
