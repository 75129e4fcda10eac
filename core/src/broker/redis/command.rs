//! Commands as Redis reads them: an array of bulk strings, appended to an output buffer. No state.

use super::names::Names;
use super::replication::Wait;
use crate::broker::envelope::hex_digits;
use crate::history::millis;

const PUBLISH: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n";
const SPUBLISH: &[u8] = b"*3\r\n$8\r\nSPUBLISH\r\n";

/// Digits of the longest number.
const DIGITS_MAX: usize = 20;

/// The most bytes the framing of one bulk string adds: `$`, the digits, two line ends.
pub(super) const BULK_FRAMING_BYTES_MAX: usize = DIGITS_MAX + 5;

/// Begins a command with this number of arguments, its name included.
pub(super) fn begin(out: &mut Vec<u8>, arguments: usize) {
    header(out, b'*', arguments);
}

/// Appends one argument.
pub(super) fn argument(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number as one argument.
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; DIGITS_MAX];
    argument(out, decimal(number, &mut digits));
}

/// Appends a number as one argument of 16 hexadecimal digits.
pub(super) fn hex(out: &mut Vec<u8>, number: u64) {
    argument(out, &hex_digits(number));
}

/// Appends the name of a key that a room has in Redis, as one argument.
pub(super) fn key(out: &mut Vec<u8>, names: &Names<'_>, kind: &str, room: &str) {
    let mut len = 0;
    names.write_key(kind, room, &mut |part| len += part.len());
    header(out, b'$', len);
    names.write_key(kind, room, &mut |part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Appends the channel of a room as one argument.
pub(super) fn channel(out: &mut Vec<u8>, names: &Names<'_>, room: &str) {
    let mut len = 0;
    names.write_channel(room, &mut |part| len += part.len());
    header(out, b'$', len);
    names.write_channel(room, &mut |part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command.
pub(super) fn command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    begin(out, arguments.len());
    for bytes in arguments {
        argument(out, bytes);
    }
}

/// Appends a `WAIT`.
pub(super) fn wait(out: &mut Vec<u8>, wait: Wait) {
    begin(out, 3);
    argument(out, b"WAIT");
    number(out, wait.replicas.into());
    number(out, millis(wait.timeout));
}

/// Appends a `PUBLISH`, or `SPUBLISH` where channels belong to slots.
pub(super) fn publish(out: &mut Vec<u8>, names: &Names<'_>, room: &str, payload: &[u8]) {
    out.extend_from_slice(if names.is_sharded() { SPUBLISH } else { PUBLISH });
    channel(out, names, room);
    argument(out, payload);
}

/// No command of [`publish`] for these is longer.
pub(super) fn publish_bytes_max(names: &Names<'_>, room: &str, payload: &[u8]) -> usize {
    SPUBLISH.len() + names.more_bytes_max() + room.len() + payload.len() + 2 * BULK_FRAMING_BYTES_MAX
}

fn header(out: &mut Vec<u8>, kind: u8, number: usize) {
    let mut digits = [0; DIGITS_MAX];
    out.push(kind);
    out.extend_from_slice(decimal(number as u64, &mut digits));
    out.extend_from_slice(b"\r\n");
}

fn decimal(number: u64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        // A remainder of ten fits a byte.
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        command(&mut out, &[b"CLIENT", b"SETNAME", b""]);
        assert_eq!(out, b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$0\r\n\r\n");
    }

    #[test]
    fn a_publish_joins_prefix_and_room() {
        let mut out = Vec::new();
        publish(&mut out, &Names::plain("p:"), "r", b"a\r\nb");
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$3\r\np:r\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn no_publish_is_longer_than_is_reckoned_with_and_none_much_shorter() {
        for bytes in [[0, 1, 0], [100, 1, 0], [0, 200, 70_000], [50, 100, 9]] {
            let [prefix, room, payload] = bytes.map(|length| "x".repeat(length));
            let mut out = Vec::new();
            let names = Names::plain(&prefix);
            publish(&mut out, &names, &room, payload.as_bytes());
            let bound = publish_bytes_max(&names, &room, payload.as_bytes());
            assert!((out.len()..=out.len() + 2 * BULK_FRAMING_BYTES_MAX).contains(&bound), "{bound} for {}", out.len());
        }
    }

    #[test]
    fn numbers_of_every_length_are_written() {
        for number in [0, 9, 10, 512, 65_536, usize::MAX] {
            let mut out = Vec::new();
            begin(&mut out, number);
            assert_eq!(out, format!("*{number}\r\n").into_bytes());
        }
    }
}
