//! The core's Redis session on blocking threads. The thread that owns the core owns the session, too, and writes. Each link has a thread
//! that connects and reads (`reader.rs`), and tells what has come through a bounded queue.

mod reader;
mod stream;

use crossbeam_channel::Receiver;
use fanfare_adapter::journal;
use fanfare_adapter::redis_tls::{self, RedisTls, Session};
use fanfare_adapter::sign_in::{SignIn, SignIns};
use fanfare_core::broker::BrokerEvent;
use fanfare_core::broker::redis::{Address, ConnectionRequest, LinkId, LinkState, RedisBroker, RedisConfig};
use fanfare_core::time::Time;
use reader::{Attempt, Line, Opened, What, await_writable};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::Stream;

pub use reader::News;

/// What is taken of one link in one turn: about as many messages as a turn should fan out before it is the clients' turn again.
const NEWS_PER_TURN: usize = 16;
/// How long a turn takes what one link has, at least once: messages may have to be compressed for members of several forms.
const TIME_PER_TURN: Duration = Duration::from_micros(500);
/// How soon something that is due is looked at again where a link's thread has yet to tell what lies in its socket.
const UNTOLD_RECHECK: Duration = Duration::from_millis(1);

/// Redis as the thread sees it that owns the core.
#[derive(Debug)]
pub struct RedisLinks {
    session: RedisBroker,
    sign_ins: SignIns,
    /// By their index.
    links: Vec<Link>,
    connect_timeout: Duration,
    tls: Option<RedisTls>,
    /// Of TLS: what was in the last bytes that were read, and the record that is being written.
    plaintext: Vec<u8>,
    record: Vec<u8>,
    /// Something is due, and has to wait until then.
    put_off: Option<Time>,
}

#[derive(Debug, Default)]
struct Link {
    /// To and from its thread, which is begun with the first attempt.
    line: Option<Line>,
    /// Of the present attempt or connection. Whatever is told of another one is old.
    number: u64,
    connection: Option<Connection>,
    /// Its thread had something in this turn.
    has_told: bool,
    /// Attempts since the last that came up.
    attempts: usize,
}

#[derive(Debug)]
struct Connection {
    stream: Arc<Stream>,
    /// Of TLS, where it is spoken.
    tls: Option<Box<Session>>,
    /// The session may say something: TLS is established, where it is spoken.
    is_open: bool,
    /// It takes nothing more, and this thread is told when that changes.
    is_full: bool,
}

impl RedisLinks {
    /// Nothing is connected yet: [`RedisLinks::drive`] begins.
    pub fn new(config: RedisConfig, sign_ins: SignIns, tls: Option<RedisTls>) -> RedisLinks {
        RedisLinks {
            connect_timeout: config.connect_timeout,
            session: RedisBroker::new(config),
            sign_ins,
            links: Vec::new(),
            tls,
            plaintext: Vec::new(),
            record: Vec::new(),
            put_off: None,
        }
    }

    /// The session, for asking and for its figures.
    pub fn session(&mut self) -> &mut RedisBroker {
        &mut self.session
    }

    /// Whether there is something to report without waiting for anybody.
    pub fn is_ready(&self) -> bool {
        self.session.has_events()
    }

    /// When something is due, if nobody says anything before.
    pub fn next_timeout(&self) -> Option<Time> {
        self.put_off.or_else(|| self.session.next_timeout())
    }

    /// Where threads tell what this one has to take; while the hub is `congested`, without messages.
    pub fn queues(&self, congested: bool) -> impl Iterator<Item = &Receiver<News>> {
        let taken = self.session.links().filter(move |id| !congested || !self.session.receives(*id));
        taken.filter_map(|id| self.links.get(id.index())?.line.as_ref()).map(|line| &line.news)
    }

    /// Takes what threads have told, does what is due, and reports everything that the hub has to hear; while the hub is `congested`,
    /// no messages.
    pub fn read(&mut self, now: Time, congested: bool, mut report: impl FnMut(BrokerEvent<'_>)) {
        for id in self.session.links() {
            if !congested || !self.session.receives(id) {
                self.take(id, now, &mut report);
            }
        }
        self.put_off = None;
        self.session.leave_unread(congested);
        if self.session.next_timeout().is_some_and(|deadline| deadline <= now) {
            let is_read = |id: &LinkId| !congested || !self.session.receives(*id);
            let mut read = self.session.links().filter(is_read).filter_map(|id| self.links.get(id.index()));
            // Nor can be late who has said something that its thread has yet to tell.
            if read.any(Link::has_untold) {
                self.put_off = Some(now + UNTOLD_RECHECK);
            } else {
                self.session.timeout(now);
            }
        }
        journal::redis(&mut self.session);
        for id in self.session.links() {
            if let Some(link) = self.links.get_mut(id.index())
                && matches!(self.session.state(id), LinkState::Up | LinkState::Refusing)
            {
                link.attempts = 0;
            }
        }
        self.session.poll_events(report);
    }

    /// Takes what a link's thread has told, within bounds.
    fn take(&mut self, id: LinkId, now: Time, report: &mut impl FnMut(BrokerEvent<'_>)) {
        let began = Instant::now();
        for taken in 0..NEWS_PER_TURN {
            let Some(link) = self.links.get_mut(id.index()) else { return };
            let news = link.line.as_ref().and_then(|line| line.news.try_recv().ok());
            link.has_told = taken > 0 || news.is_some();
            let Some(news) = news else { return };
            self.hear(id, news, now, &mut *report);
            if began.elapsed() >= TIME_PER_TURN {
                return;
            }
        }
    }

    fn hear(&mut self, id: LinkId, News { number, what }: News, now: Time, report: &mut impl FnMut(BrokerEvent<'_>)) {
        let link = &mut self.links[id.index()];
        match what {
            What::Connected(Opened { stream, .. }) if number != link.number => stream.shutdown(),
            _ if number != link.number => {}
            What::Connected(Opened { stream, password, tls }) => {
                if let Some(password) = password {
                    self.sign_ins.tell(&mut self.session, id, &password);
                }
                let is_open = tls.is_none();
                link.connection = Some(Connection { stream, tls, is_open, is_full: false });
                if is_open {
                    self.session.connected(id, now);
                }
            }
            What::Read(mut bytes) => match &mut link.connection {
                Some(Connection { tls: Some(_), .. }) => {
                    if let Err(reason) = self.decrypt(id, &mut bytes, now, report) {
                        self.lost(id, &reason, now);
                    }
                }
                _ => self.session.input(id, &bytes, now, report),
            },
            What::Writable => link.connection.iter_mut().for_each(|connection| connection.is_full = false),
            What::Ended(reason) => self.lost(id, &reason, now),
        }
    }

    /// Takes what was read of a connection that speaks TLS. The error is why it has ended.
    fn decrypt(
        &mut self,
        id: LinkId,
        ciphertext: &mut [u8],
        now: Time,
        report: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<(), String> {
        let Some(Connection { stream, tls: Some(tls), is_open, .. }) = &mut self.links[id.index()].connection else {
            return Ok(());
        };
        self.plaintext.clear();
        let progress = tls.read(ciphertext, &mut self.plaintext);
        // What it has to say by itself, such as why it gives up. What a socket does not take now is written later, if it lasts.
        tls.flush(|bytes| stream.write(bytes)).map_err(|error| error.to_string())?;
        if !*is_open && !tls.is_handshaking() && !tls.is_closed() {
            *is_open = true;
            self.session.connected(id, now);
        }
        if !self.plaintext.is_empty() {
            self.session.input(id, &self.plaintext, now, report);
        }
        redis_tls::outcome(progress)
    }

    /// Opens and drops connections as the session wants it, and writes what it has to say.
    pub fn drive(&mut self, now: Time) {
        let mut has_dropped = false;
        while let Some((id, request)) = self.session.poll_connection(now) {
            has_dropped |= matches!(request, ConnectionRequest::Drop);
            if self.links.len() <= id.index() {
                self.links.resize_with(id.index() + 1, Link::default);
            }
            match request {
                ConnectionRequest::Drop => self.links[id.index()].give_up(),
                ConnectionRequest::Open { address } => {
                    let sign_in = self.sign_ins.to_read(&self.session, id);
                    let opened = self.links[id.index()].open(address, sign_in, self.connect_timeout, self.tls.as_ref());
                    if let Err(error) = opened {
                        self.session.disconnected(id, &format!("no thread to connect with: {error}"), now);
                    }
                }
            }
        }
        if has_dropped {
            self.end_threads();
        }
        for id in self.session.links() {
            if let Err(error) = self.write(id) {
                self.lost(id, &format!("no thread to wait with: {error}"), now);
            }
        }
    }

    /// Those of links that are no more, because nodes of a Cluster come and go. One with the same index later begins anew.
    fn end_threads(&mut self) {
        let mut are_gone = vec![true; self.links.len()];
        for id in self.session.links().filter(|id| id.index() < self.links.len()) {
            are_gone[id.index()] = false;
        }
        for (link, _) in self.links.iter_mut().zip(are_gone).filter(|(_, is_gone)| *is_gone) {
            *link = Link::default();
        }
    }

    /// Writes as much as the socket takes. Fails only where nobody would tell that it takes more.
    fn write(&mut self, id: LinkId) -> io::Result<()> {
        let RedisLinks { session, links, record, .. } = self;
        let Some(Link { line: Some(line), number, connection: Some(connection), .. }) = links.get_mut(id.index())
        else {
            return Ok(());
        };
        while !connection.is_full {
            let Connection { stream, tls, is_open, .. } = connection;
            let output = if *is_open { session.output(id) } else { &[] };
            match redis_tls::write(tls.as_deref_mut(), output, record, |bytes| stream.write(bytes)) {
                Ok(None) => return Ok(()),
                Ok(Some(written)) => session.written(id, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    await_writable(*number, Arc::clone(&connection.stream), line.teller.clone())?;
                    connection.is_full = true;
                }
                Err(_) => {
                    // Its thread tells, behind the last that Redis has said, which may be why.
                    connection.stream.shutdown();
                    connection.is_full = true;
                }
            }
        }
        Ok(())
    }

    fn lost(&mut self, id: LinkId, reason: &str, now: Time) {
        self.links[id.index()].forget();
        self.session.disconnected(id, reason, now);
    }
}

impl Link {
    /// Has its thread connect.
    fn open(
        &mut self,
        address: Address,
        sign_in: Option<SignIn>,
        time: Duration,
        tls: Option<&RedisTls>,
    ) -> io::Result<()> {
        let line = match self.line.take() {
            Some(line) => line,
            None => Line::open(tls.cloned())?,
        };
        self.number += 1;
        let deadline = Instant::now() + time;
        let attempt = Attempt { number: self.number, address, sign_in, first: self.attempts, deadline };
        self.attempts = self.attempts.wrapping_add(1);
        self.line.insert(line).attempts.send(attempt).expect("its thread lasts as long as the line");
        Ok(())
    }

    /// Whether its thread had nothing in this turn, and its socket has something.
    fn has_untold(&self) -> bool {
        !self.has_told && self.connection.as_ref().is_some_and(|connection| connection.stream.has_unread())
    }

    /// The same where nobody has told its end. Its thread may go on connecting to a host that does not answer, so the next attempt has another.
    fn give_up(&mut self) {
        if self.connection.is_none() {
            self.line = None;
        }
        self.forget();
    }

    /// Ends the attempt or the connection. What is still told of it is old.
    fn forget(&mut self) {
        self.number += 1;
        if let Some(connection) = self.connection.take() {
            connection.stream.shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;
    use fanfare_core::broker::redis::{ClusterPubSub, Topology};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// All links connect, as far as they know: there are no threads. Of the first, with the number of its attempt.
    fn connecting() -> (RedisLinks, LinkId, u64) {
        let mut links = RedisLinks::new(RedisConfig::default(), SignIns::default(), None);
        let mut attempted = Vec::new();
        for _ in links.session.links() {
            let ((attempts, wanted), (teller, news)) = (unbounded(), unbounded());
            links.links.push(Link { line: Some(Line { attempts, news, teller }), ..Link::default() });
            attempted.push(wanted);
        }
        links.drive(Time::ZERO);
        let id = links.session.links().next().unwrap();
        let number = attempted[id.index()].recv().unwrap().number;
        (links, id, number)
    }

    fn connected(stream: &Arc<Stream>) -> What {
        What::Connected(Opened { stream: Arc::clone(stream), password: None, tls: None })
    }

    fn hear(links: &mut RedisLinks, id: LinkId, number: u64, what: What) {
        links.hear(id, News { number, what }, Time::ZERO, &mut |event| panic!("{event:?}"));
    }

    /// A Cluster has one link as long as nothing is known of its nodes.
    #[test]
    fn threads_of_links_that_are_no_more_end() {
        let mut config = RedisConfig::default();
        let (partitions, pubsub) = (256, ClusterPubSub::default());
        config.topology = Topology::Cluster { nodes: vec![Address::default()], partitions, pubsub };
        let mut links = RedisLinks::new(config, SignIns::default(), None);
        let threads = [(); 4].map(|()| {
            let ((attempts, wanted), (teller, news)) = (unbounded(), unbounded());
            links.links.push(Link { line: Some(Line { attempts, news, teller }), ..Link::default() });
            wanted
        });
        links.end_threads();
        let have_ended = threads.map(|wanted| wanted.try_recv().is_err_and(|error| error.is_disconnected()));
        assert_eq!(have_ended, [false, true, true, true]);
    }

    #[test]
    fn what_is_told_late_of_an_old_connection_is_nothing_to_its_successor() {
        let (mut links, id, old) = connecting();
        let (stream, mut redis) = UnixStream::pair().unwrap();
        // Its thread would read it for as long as it lasts.
        let read = Arc::new(Stream::Unix(stream));
        links.links[id.index()].forget();
        for what in [connected(&read), What::Ended("it has ended".to_owned())] {
            hear(&mut links, id, old, what);
            assert!(links.links[id.index()].connection.is_none());
            assert_eq!(links.session.state(id), LinkState::Connecting);
        }
        assert!(redis.write(b"+PONG\r\n").is_err());
    }

    #[test]
    fn what_lies_unread_in_a_socket_is_a_sign_of_life() {
        let (mut links, id, number) = connecting();
        let (stream, mut redis) = UnixStream::pair().unwrap();
        let stream = Arc::new(Stream::Unix(stream));
        hear(&mut links, id, number, connected(&stream));
        redis.write_all(b"+").unwrap();
        let late = Time::ZERO + links.connect_timeout;
        links.read(late, false, |_| ());
        assert_eq!(
            (links.session.state(id), links.next_timeout()),
            (LinkState::SettingUp, Some(late + UNTOLD_RECHECK))
        );
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        links.read(late, false, |_| ());
        assert_eq!(links.session.state(id), LinkState::Waiting);
    }

    #[test]
    fn while_messages_are_left_unread_nothing_is_late_there_and_all_else_is_in_time() {
        let (mut links, ..) = connecting();
        let ids: Vec<LinkId> = links.session.links().collect();
        let late = Time::ZERO + links.connect_timeout;
        for (congested, left) in [(true, [true, false]), (false, [false, false])] {
            links.read(late, congested, |_| ());
            let is_left = |id: &LinkId| links.session.state(*id) == LinkState::Connecting;
            assert_eq!(ids.iter().map(is_left).collect::<Vec<_>>(), left, "of the subscriber and the publisher");
        }
    }

    #[test]
    fn an_attempt_that_is_given_up_holds_up_no_other() {
        let (mut links, id, _) = connecting();
        let deadline = Time::ZERO + links.connect_timeout;
        links.read(deadline, false, |_| ());
        links.drive(deadline);
        assert!(links.links[id.index()].line.is_none(), "its thread is left alone");
    }

    #[test]
    fn messages_wait_while_the_hub_is_congested_and_what_is_said_to_publishers_does_not() {
        let (mut links, ..) = connecting();
        let ids: Vec<LinkId> = links.session.links().collect();
        for id in &ids {
            let Link { line, number, .. } = &links.links[id.index()];
            let news = News { number: *number, what: What::Ended("it has ended".to_owned()) };
            line.as_ref().unwrap().teller.send(news).unwrap();
        }
        assert_eq!((links.queues(true).count(), links.queues(false).count()), (1, 2));
        for (congested, told) in [(true, [1, 0]), (false, [0, 0])] {
            links.read(Time::ZERO, congested, |_| ());
            assert_eq!(links.queues(false).map(Receiver::len).collect::<Vec<_>>(), told);
        }
    }
}
