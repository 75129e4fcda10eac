//! A core with its embedded broker: commands of clients in, what each was sent out. Sockets take everything, but for those that are slow.

use crate::lone_core::{Does, LoneCore, Said, carry_out, text_to};
use crate::{Frame, upgrade_request};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::{Config, ConnId, Event, Turn};
use std::collections::BTreeSet;

/// Both of them, and what was said.
#[derive(Debug)]
pub struct Embedded {
    /// The core.
    pub lone: LoneCore,
    broker: MemoryBroker,
    /// Whose sockets take nothing.
    pub slow: BTreeSet<ConnId>,
    /// What was said.
    pub said: Vec<Said>,
    /// The bytes that were said in each turn.
    pub bytes: Vec<usize>,
}

impl Embedded {
    /// Without a client.
    pub fn new(config: Config) -> Embedded {
        let broker = MemoryBroker::new(&config);
        Embedded::with_broker(config, broker)
    }

    /// The same, with a broker that has settings of its own.
    pub fn with_broker(config: Config, broker: MemoryBroker) -> Embedded {
        let lone = LoneCore::new(config);
        let mut embedded = Embedded { lone, broker, slow: BTreeSet::new(), said: Vec::new(), bytes: Vec::new() };
        embedded.turn(|_| {});
        embedded
    }

    /// A turn, and all that follow from it.
    pub fn turn(&mut self, feed: impl FnOnce(&mut Turn<'_>)) {
        let Embedded { lone, broker, slow, said, bytes } = self;
        let mut feed = Some(feed);
        loop {
            let mut turn = lone.core.turn(lone.now);
            match feed.take() {
                Some(feed) => feed(&mut turn),
                None => broker.poll_events(|event| turn.feed(Event::Broker(event))),
            }
            turn.feed(Event::Timeout);
            let mut of_this_turn = 0;
            carry_out(
                turn,
                |conn, _| slow.contains(&conn).then_some(0),
                |does| match does {
                    Does::Send(conn, bytes) => {
                        of_this_turn += bytes.len();
                        said.push(Said::Sent(conn, bytes.to_vec()));
                    }
                    Does::Close(conn) => said.push(Said::Close(conn)),
                    Does::Shutdown(_) => {}
                    Does::Ask(ask) => broker.ask(ask),
                    Does::Propose(proposal) => said.push(Said::proposed(proposal)),
                    Does::Authenticate(asked) => {
                        said.push(Said::Authenticate(asked.conn, asked.source, asked.credential.to_vec()));
                    }
                },
            );
            bytes.push(of_this_turn);
            lone.core.check_invariants();
            let is_due = lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now);
            if !broker.has_events() && !is_due {
                return;
            }
        }
    }

    /// A WebSocket that was opened at this path.
    pub fn client(&mut self, path: &str) -> ConnId {
        self.request(&upgrade_request(path, ""))
    }

    /// A connection that sends this request.
    pub fn request(&mut self, head: &str) -> ConnId {
        let mut conn = None;
        self.turn(|turn| conn = turn.open().ok());
        let conn = conn.expect("there is a place");
        let mut head = head.as_bytes().to_vec();
        self.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut head }));
        conn
    }

    /// All that the client was sent.
    pub fn bytes_to(&self, conn: ConnId) -> Vec<u8> {
        let parts = self.said.iter().filter_map(|said| match said {
            Said::Sent(to, bytes) if *to == conn => Some(&bytes[..]),
            _ => None,
        });
        parts.collect::<Vec<_>>().concat()
    }

    /// A client says something.
    pub fn command(&mut self, conn: ConnId, text: &str) {
        let mut bytes = Frame::text(text).masked();
        self.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut bytes }));
    }

    /// A client publishes messages that begin with these numbers and have so many bytes more.
    pub fn publish(&mut self, sender: ConnId, room: &str, numbers: std::ops::Range<usize>, filler_bytes: usize) {
        let filler = "x".repeat(filler_bytes);
        for number in numbers {
            let message = format!("<{number}>{filler}");
            self.command(sender, &format!(r#"{{"type":"SEND_MESSAGE","room":"{room}","message":"{message}"}}"#));
        }
    }

    /// The sockets that were slow take everything again, all of them at once.
    pub fn recover(&mut self) {
        let recovered = std::mem::take(&mut self.slow);
        self.turn(|turn| recovered.into_iter().for_each(|conn| turn.feed(Event::Writable { conn })));
    }

    /// The numbers of the messages that the client was sent.
    pub fn numbers(&self, conn: ConnId) -> Vec<usize> {
        let text = text_to(&self.said, conn);
        text.split('<').skip(1).filter_map(|rest| rest.split_once('>')?.0.parse().ok()).collect()
    }
}
