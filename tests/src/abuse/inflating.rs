//! Messages of 64 KiB that are some 150 bytes on the wire, and those who send and get them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{COMPRESSED, DEADLINE, Frame, RawClient, Server, deflated, upgrade_request};

/// What a message inflates to, just below the default of `limits.message_bytes_max`.
pub const INFLATED_BYTES: usize = 65_400;

/// How many of them fit into one read of a server.
pub const INFLATING_PER_READ: usize = 55;

/// A hog sends a wave that often.
const WAVE_EVERY: Duration = Duration::from_secs(1);

/// How long threads wait before they look whether they are to end.
const LOOK: Duration = Duration::from_millis(20);

/// A text message as a client of permessage-deflate sends it.
pub fn compressed(text: &str) -> Vec<u8> {
    Frame::text(deflated(text)).with_rsv(COMPRESSED).masked()
}

/// A `PING` of many keys that mean nothing, for each of these numbers: it is the `id`.
pub fn inflating_pings(ids: Range<usize>) -> Vec<u8> {
    let key = r#""a":1,"#;
    let tail = format!(r#"{}"a":1}}"#, key.repeat((INFLATED_BYTES - 100) / key.len()));
    each_in_front(ids, |id| format!(r#"{{"type":"PING","id":{id},"#), &tail)
}

/// A `SEND_MESSAGE` to `room` for each of these numbers: it is the `id`, and stands at the beginning of the text, before `unit` over
/// and over, which stands in a JSON string.
pub fn inflating_messages(room: &str, ids: Range<usize>, unit: &str) -> Vec<u8> {
    let tail = format!(r#"{}"}}"#, unit.repeat((INFLATED_BYTES - 200) / unit.len()));
    let head = |id| format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","id":{id},"message":"{id} "#);
    each_in_front(ids, head, &tail)
}

/// The compressed messages that begin each in their own way and end in the same. Only that end is compressed, once.
fn each_in_front(ids: Range<usize>, head: impl Fn(usize) -> String, tail: &str) -> Vec<u8> {
    let tail = deflated(tail);
    let message = |id| {
        let head = head(id);
        let length = u16::try_from(head.len()).expect("a short beginning");
        // A block as it is, and not the last (RFC 1951 §3.2.4); it ends on a boundary.
        let block = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), head.as_bytes()].concat();
        Frame::text([block, tail.clone()].concat()).with_rsv(COMPRESSED).masked()
    };
    ids.flat_map(message).collect()
}

/// The request of a client that offers compression with this window of the server's.
pub fn compressing_request(path: &str, window_bits: u8) -> String {
    let offer = format!("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={window_bits}\r\n");
    upgrade_request(path, &offer)
}

/// A client that may compress.
///
/// # Panics
///
/// If the upgrade is not accepted.
pub fn compressing(address: SocketAddr, path: &str, window_bits: u8) -> RawClient {
    let mut client = RawClient::connect(address);
    client.write(compressing_request(path, window_bits));
    let response = client.read_response();
    assert_eq!(response.status, 101, "{}", response.head);
    assert!(response.field("sec-websocket-extensions").is_some(), "no compression: {}", response.head);
    client
}

/// A member of `room` in each of the four forms in which its messages are compressed, two dialects and two windows. They read all
/// that they are sent, and look at none of it.
///
/// # Panics
///
/// If they do not get in.
pub fn members_in_four_forms(server: &Server, room: &str) -> Readers {
    let members = [("/fanfare", 15), ("/fanfare", 9), ("/classic", 15), ("/classic", 9)].map(|(path, window_bits)| {
        let mut member = compressing(server.address(), path, window_bits);
        member.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        // The one dialect has no reply to that, and the other has one to this, too.
        member.send_text(r#"{"type":"PING"}"#);
        if path == "/fanfare" {
            let mut replies = [member.recv_text(), member.recv_text()];
            replies.sort_unstable();
            assert!(replies[1].contains("SUBSCRIBED"), "{replies:?}");
        }
        member
    });
    Readers::of(members.into())
}

/// Clients that read in a thread of their own, until this is dropped.
pub struct Readers {
    _background: Background,
}

impl Readers {
    /// These.
    pub fn of(clients: Vec<RawClient>) -> Readers {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = thread::spawn(move || {
            let mut streams: Vec<TcpStream> =
                clients.iter().map(|client| client.stream().try_clone().expect("descriptors enough")).collect();
            streams.iter().for_each(|stream| stream.set_nonblocking(true).expect("an open socket takes options"));
            let mut buffer = vec![0; 256 << 10];
            while !until.load(Ordering::Acquire) && !streams.is_empty() {
                let mut polled: Vec<PollFd<'_>> =
                    streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
                let look = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
                poll(&mut polled, Some(&look)).expect("open sockets can be polled");
                // Whoever is thrown out has read enough.
                streams.retain_mut(|stream| match stream.read(&mut buffer) {
                    Ok(0) => false,
                    Ok(_) => true,
                    Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
                });
            }
        });
        Readers { _background: Background { over, threads: vec![thread] } }
    }
}

/// Connections with compression that each send the same bytes once a second, and come back when they are thrown out. Dropping
/// this ends them.
pub struct Hogs {
    _background: Background,
    waves: Arc<AtomicU64>,
}

impl Hogs {
    /// So many, each a thread. A wave is `first`, whatever is answered to that, and `then`; if `first` is empty, nothing is waited
    /// for.
    pub fn start(address: SocketAddr, count: usize, first: &[u8], then: &[u8]) -> Hogs {
        let (over, waves) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let wave: Arc<[Vec<u8>; 2]> = Arc::new([first.to_vec(), then.to_vec()]);
        let threads = (0..count).map(|index| {
            let (over, waves, wave) = (over.clone(), waves.clone(), wave.clone());
            thread::spawn(move || {
                // One after the other, so that they are a stream and no pulse.
                let mut due = Instant::now() + WAVE_EVERY * index as u32 / count as u32;
                while !over.load(Ordering::Acquire) {
                    if let Some(stream) = enter(address) {
                        send_waves(stream, &wave, &mut due, &over, &waves);
                    } else {
                        thread::sleep(LOOK);
                    }
                }
            })
        });
        let threads = threads.collect();
        Hogs { _background: Background { over, threads }, waves }
    }

    /// Waves that were begun, by all together.
    pub fn waves(&self) -> u64 {
        self.waves.load(Ordering::Acquire)
    }
}

/// Sends until the connection is over, or all is.
fn send_waves(mut stream: TcpStream, wave: &[Vec<u8>; 2], due: &mut Instant, over: &AtomicBool, waves: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while !over.load(Ordering::Acquire) {
        let (mut here, is_due) = (true, Instant::now() >= *due);
        if is_due {
            *due += WAVE_EVERY;
            waves.fetch_add(1, Ordering::AcqRel);
            let [first, then] = wave;
            here = first.is_empty() || (stream.write_all(first).is_ok() && reads(&mut stream, &mut buffer, over));
            here = here && stream.write_all(then).is_ok();
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            _ if !here => return,
            _ => {}
        }
    }
}

/// Waits for bytes; `false` at the end of the connection, or of everything.
fn reads(stream: &mut TcpStream, buffer: &mut [u8], over: &AtomicBool) -> bool {
    while !over.load(Ordering::Acquire) {
        match stream.read(buffer) {
            Ok(count) => return count > 0,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return false,
        }
    }
    false
}

/// An upgraded connection, unless it is refused.
fn enter(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_write_timeout(Some(WAVE_EVERY)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(compressing_request("/fanfare", 15).as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    stream.set_read_timeout(Some(LOOK)).ok()?;
    head.starts_with(b"HTTP/1.1 101 ").then_some(stream)
}

/// Threads that end when this is dropped.
struct Background {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // Its own message says what went wrong.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MASK, inflated};

    #[test]
    fn what_inflates_is_small() {
        for bytes in [inflating_pings(7..8), inflating_messages("r", 7..8, "x"), inflating_messages("r", 7..8, r#"\""#)]
        {
            assert!(bytes.len() <= 260, "{}", bytes.len());
            // Behind a header of eight bytes: the length takes two of them.
            let payload: Vec<u8> = bytes[8..].iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            let text = inflated(Frame::text(payload).with_rsv(COMPRESSED)).payload;
            assert!((INFLATED_BYTES - 300..=INFLATED_BYTES).contains(&text.len()), "{}", text.len());
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).expect("JSON")["id"], 7);
        }
    }
}
