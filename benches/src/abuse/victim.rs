//! The ones who must not notice: a publisher that sends at its own pace, whatever happens, and the members of a small
//! room. Every message carries its number and the moment at which it was sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::latency::histogram;
use crate::swarm::Swarm;
use crate::{Context, Error, Result, wire};

/// The room.
const ROOM: &str = "the small room";

/// What has not arrived by then, after the last was sent, is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the swarm waits for bytes before it looks at the clock again.
const LOOK: Duration = Duration::from_millis(50);

/// The publisher and the members. Dropping them resets their connections.
pub struct Victim {
    members: Swarm,
    count: usize,
    publisher: TcpStream,
    /// Moments are counted from here.
    epoch: Instant,
    /// Messages sent so far.
    sent: u64,
}

/// What the members got of the messages of one phase.
#[derive(Clone, Debug)]
pub struct Phase {
    /// From sending to receiving, each member's reception by itself, in ns.
    pub latency: Histogram<u64>,
    /// How late the publisher's own thread was at its work, in ns: the scheduler's doing, and not part of `latency`.
    pub lateness: Histogram<u64>,
    /// Receptions that did not happen.
    pub lost: u64,
}

impl Victim {
    /// Connects the publisher and `count` members to the server at `address`.
    pub fn join(address: SocketAddr, count: usize) -> Result<Victim> {
        let mut members = Swarm::new()?;
        members.join(address, count, |_| vec![ROOM.to_owned()])?;
        let mut publisher = TcpStream::connect(address).context("the publisher cannot connect")?;
        publisher.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        rustix::net::sockopt::set_socket_linger(&publisher, Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
        publisher.write_all(wire::UPGRADE_REQUEST).context("the publisher cannot upgrade")?;
        let mut head = Vec::new();
        while wire::upgraded(&head)?.is_none() {
            let mut buffer = [0; 1_024];
            let count = publisher.read(&mut buffer).context("the publisher cannot upgrade")?;
            head.extend_from_slice(&buffer[..count]);
        }
        Ok(Victim { members, count, publisher, epoch: Instant::now(), sent: 0 })
    }

    /// Sends `rate` messages a second for `time`, waits for the last of them, and tells how long each took.
    pub fn talk(&mut self, time: Duration, rate: u32) -> Result<Phase> {
        let messages = u64::from(rate) * time.as_millis() as u64 / 1_000;
        let numbers = self.sent..self.sent + messages;
        self.sent = numbers.end;
        let (epoch, publisher) = (self.epoch, &self.publisher);
        let mut latency = histogram()?;
        let (mut next, mut received) = (vec![numbers.start; self.count], 0);
        let expected = messages * self.count as u64;
        let lateness = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| publish(publisher, epoch, numbers.clone(), Duration::from_secs(1) / rate));
            let deadline = Instant::now() + time + PATIENCE;
            while received < expected && Instant::now() < deadline {
                self.members.listen(LOOK, &mut |member, text| {
                    let (number, sent_at) = parse(text)?;
                    let took = epoch.elapsed().saturating_sub(sent_at);
                    if number < numbers.start {
                        // Of an earlier phase, which has counted it as lost.
                        return Ok(());
                    }
                    if number < next[member] {
                        return Err(Error::new(format!("message {number} came behind {}", next[member] - 1)));
                    }
                    next[member] = number + 1;
                    received += 1;
                    latency.saturating_record(took.as_nanos() as u64);
                    Ok(())
                })?;
            }
            publishing.join().map_err(|_| Error::new("the publisher panicked"))?
        })?;
        Ok(Phase { latency, lateness, lost: expected - received })
    }
}

/// Sends these messages, one every `period`, never waiting for anything but the clock.
fn publish(
    mut stream: &TcpStream,
    epoch: Instant,
    numbers: std::ops::Range<u64>,
    period: Duration,
) -> Result<Histogram<u64>> {
    let mut lateness = histogram()?;
    let (mut due, mut frame) = (Instant::now(), Vec::new());
    for number in numbers {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        lateness.saturating_record(due.elapsed().as_nanos() as u64);
        due += period;
        frame.clear();
        wire::write_send_message(ROOM, &format!("{number} {}", epoch.elapsed().as_nanos()), &mut frame);
        stream.write_all(&frame).context("the publisher cannot send")?;
    }
    Ok(lateness)
}

/// The number of a message, and when it was sent.
fn parse(text: &[u8]) -> Result<(u64, Duration)> {
    let text = std::str::from_utf8(text).context("a message")?;
    let figures = || {
        let message = text.rsplit_once(r#""message":""#)?.1.strip_suffix(r#""}"#)?;
        let (number, sent_at) = message.split_once(' ')?;
        Some((number.parse().ok()?, Duration::from_nanos(sent_at.parse().ok()?)))
    };
    figures().ok_or_else(|| Error::new(format!("not a message of the publisher: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_number_and_moment() {
        let text = br#"{"type":"MESSAGE","room":"the small room","message":"7 1500"}"#;
        assert_eq!(parse(text).unwrap(), (7, Duration::from_nanos(1_500)));
        assert!(parse(br#"{"type":"MESSAGE","room":"r","message":"x"}"#).is_err());
    }
}
