//! The session's sockets on the loop's poll: connecting (names are resolved and passwords read elsewhere), reading, writing.

use crate::resolve::{Found, Question, Resolver};
use fanfare_adapter::journal;
use fanfare_adapter::redis_tls::{self, Dialer, RedisTls, Session};
use fanfare_adapter::sign_in::SignIns;
use fanfare_core::broker::BrokerEvent;
use fanfare_core::broker::redis::{Address, ConnectionRequest, LinkId, LinkState, RedisBroker, RedisConfig};
use fanfare_core::time::Time;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token, Waker};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is read of one connection in one turn: about as many messages as a turn should fan out before it is the clients'
/// turn again.
const BYTES_PER_TURN: usize = 256 * 1024;
/// For how long a connection is read in one turn. The bytes of one read can be much work: messages may have to be compressed for
/// members of several forms.
const TIME_PER_TURN: Duration = Duration::from_micros(500);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    /// Of TLS, where it is spoken: from the end of the TCP handshake on.
    tls: Option<Box<Session>>,
    /// What is written to it reaches Redis: behind the handshake of TLS, where that is spoken.
    established: bool,
    /// There has been an edge since the last read had nothing.
    readable: bool,
    writable: bool,
}

/// Where a socket leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Default)]
struct Link {
    connection: Option<Connection>,
    /// Places not tried yet in this attempt.
    candidates: VecDeque<Place>,
    /// Begins the sessions of TLS in this attempt.
    dialer: Option<Dialer>,
    /// What this attempt waits for the resolver to answer.
    unresolved: Option<Question>,
    /// The resolver has this question of the link's. There is never a second one: a resolver slower than the attempts would
    /// be asked more and more, and answer only attempts that are over.
    asked: Option<Question>,
    /// Attempts since the last that came up. Each begins with another address, since the one tried first may take all
    /// the time there is and never answer.
    attempts: usize,
}

/// By their index.
#[derive(Debug, Default)]
struct Links(Vec<Link>);

impl Links {
    fn at(&mut self, id: LinkId) -> &mut Link {
        if self.0.len() <= id.index() {
            self.0.resize_with(id.index() + 1, Link::default);
        }
        &mut self.0[id.index()]
    }
}

/// Redis on the poll.
#[derive(Debug)]
pub struct RedisLinks {
    session: RedisBroker,
    links: Links,
    /// Of the first link.
    token: Token,
    resolver: Resolver<LinkId>,
    sign_ins: SignIns,
    speaks_tls: bool,
    /// Of TLS: what was in the last bytes that were read, and the record that is being written.
    plaintext: Vec<u8>,
    record: Vec<u8>,
}

impl RedisLinks {
    /// Nothing is connected yet: [`RedisLinks::drive`] begins. The first link has this token, each further one the next below.
    ///
    /// # Errors
    /// If the resolver's thread cannot be made.
    pub fn new(
        config: RedisConfig,
        sign_ins: SignIns,
        tls: Option<RedisTls>,
        token: Token,
        waker: Arc<Waker>,
    ) -> io::Result<RedisLinks> {
        Ok(RedisLinks {
            speaks_tls: tls.is_some(),
            plaintext: Vec::new(),
            record: Vec::new(),
            session: RedisBroker::new(config),
            links: Links::default(),
            token,
            resolver: Resolver::start(tls, waker)?,
            sign_ins,
        })
    }

    /// The session, for asking and for its figures.
    pub fn session(&mut self) -> &mut RedisBroker {
        &mut self.session
    }

    /// Whether a turn would have something to do without waiting for the poll.
    pub fn is_ready(&self) -> bool {
        let readable = |link: &Link| {
            link.connection.as_ref().is_some_and(|connection| connection.is_connected() && connection.readable)
        };
        self.session.has_events() || self.links.0.iter().any(readable)
    }

    /// Notes a readiness event.
    pub fn event(&mut self, token: Token, event: &mio::event::Event) {
        let link = self.token.0.checked_sub(token.0).and_then(|index| self.links.0.get_mut(index));
        if let Some(connection) = link.and_then(|link| link.connection.as_mut()) {
            connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            connection.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
    }

    /// Reads what is there, does what is due, and reports everything that the hub has to hear; while the hub is `congested`, no
    /// messages.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        registry: &Registry,
        now: Time,
        congested: bool,
        mut report: impl FnMut(BrokerEvent<'_>),
    ) {
        while let Some((link, answer)) = self.resolver.poll() {
            self.resolved(link, answer, registry, now);
        }
        for link in self.session.links() {
            self.establish(link, registry, now);
            if !congested || !self.session.receives(link) {
                self.read_link(link, buffer, registry, now, &mut report);
            }
        }
        self.session.leave_unread(congested);
        if self.session.next_timeout().is_some_and(|deadline| deadline <= now) {
            self.session.timeout(now);
        }
        journal::redis(&mut self.session);
        for link in self.session.links() {
            if matches!(self.session.state(link), LinkState::Up | LinkState::Refusing) {
                self.links.at(link).attempts = 0;
            }
        }
        self.session.poll_events(report);
    }

    fn read_link(
        &mut self,
        id: LinkId,
        buffer: &mut [u8],
        registry: &Registry,
        now: Time,
        report: &mut impl FnMut(BrokerEvent<'_>),
    ) {
        let (mut taken, began) = (0, Instant::now());
        while let Some(connection) = self.links.at(id).connection.as_mut() {
            if !connection.is_connected()
                || !connection.readable
                || taken >= BYTES_PER_TURN
                || taken > 0 && began.elapsed() >= TIME_PER_TURN
            {
                return;
            }
            match connection.stream.read(buffer) {
                Ok(0) => return self.lost(id, "it closed the connection", registry, now),
                // Once more, even where that was all there was: under load the next messages have come meanwhile, and leave
                // together with these.
                Ok(bytes) => {
                    taken += bytes;
                    if connection.tls.is_some() {
                        if let Err(reason) = self.decrypt(id, &mut buffer[..bytes], now, &mut *report) {
                            return self.lost(id, &reason, registry, now);
                        }
                    } else {
                        self.session.input(id, &buffer[..bytes], now, &mut *report);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable = false,
                Err(error) => return self.lost(id, &error.to_string(), registry, now),
            }
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
        let Some(Connection { stream, tls: Some(tls), established, .. }) = &mut self.links.at(id).connection else {
            return Ok(());
        };
        self.plaintext.clear();
        let progress = tls.read(ciphertext, &mut self.plaintext);
        // What it has to say by itself. A socket that takes nothing now is written to when it does.
        tls.flush(|bytes| stream.write(bytes)).map_err(|error| error.to_string())?;
        if !*established && !tls.is_handshaking() && !tls.is_closed() {
            *established = true;
            self.session.connected(id, now);
        }
        if !self.plaintext.is_empty() {
            self.session.input(id, &self.plaintext, now, &mut *report);
        }
        redis_tls::outcome(progress)
    }

    /// Opens and drops connections as the session wants it, and writes what it has to say.
    pub fn drive(&mut self, registry: &Registry, now: Time) {
        while let Some((link, request)) = self.session.poll_connection(now) {
            match request {
                ConnectionRequest::Drop => self.forget(link, registry),
                ConnectionRequest::Open { address } => self.open(link, &address, registry, now),
            }
        }
        for link in self.session.links() {
            self.write_link(link, registry, now);
        }
    }

    fn write_link(&mut self, id: LinkId, registry: &Registry, now: Time) {
        while let Some(connection) = self.links.at(id).connection.as_mut() {
            if !connection.is_connected() || !connection.writable {
                return;
            }
            let output = if connection.established { self.session.output(id) } else { &[] };
            let Connection { stream, tls, .. } = connection;
            match redis_tls::write(tls.as_deref_mut(), output, &mut self.record, |bytes| stream.write(bytes)) {
                Ok(None) => return,
                Ok(Some(bytes)) => self.session.written(id, bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.writable = false,
                Err(error) => return self.lost(id, &error.to_string(), registry, now),
            }
        }
    }

    fn open(&mut self, id: LinkId, address: &Address, registry: &Registry, now: Time) {
        let (place, host) = match address {
            Address::Unix { path } => (Some(Place::Unix(path.clone())), None),
            Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => (Some(Place::Tcp(SocketAddr::new(ip, *port))), None),
                Err(_) => (None, Some((host.clone(), *port))),
            },
        };
        let sign_in = self.sign_ins.to_read(&self.session, id);
        let tls = self.speaks_tls.then(|| address.clone());
        let is_known = host.is_none() && sign_in.is_none() && tls.is_none();
        let link = self.links.at(id);
        link.candidates = place.into_iter().collect();
        if is_known {
            self.try_next(id, "there is no address", registry, now);
        } else {
            link.unresolved = Some(Question { host, sign_in, tls });
            self.resolve(id);
        }
    }

    /// Asks what this attempt waits for, unless an answer is still to come.
    fn resolve(&mut self, id: LinkId) {
        let link = self.links.at(id);
        if let Some(question) = &link.unresolved
            && link.asked.is_none()
        {
            self.resolver.ask(id, question.clone());
            link.asked = link.unresolved.clone();
        }
    }

    fn resolved(&mut self, id: LinkId, found: Found, registry: &Registry, now: Time) {
        let link = self.links.at(id);
        let asked = link.asked.take();
        if asked.is_none() || link.unresolved != asked {
            // It answers an attempt that is over, which was to lead elsewhere.
            return self.resolve(id);
        }
        link.unresolved = None;
        let (password, dialer) = match (found.password, found.dialer) {
            (Ok(password), Ok(dialer)) => (password, dialer),
            (Err(reason), _) | (_, Err(reason)) => {
                link.candidates.clear();
                return self.session.disconnected(id, &reason, now);
            }
        };
        link.dialer = dialer;
        if let Some(password) = password {
            self.sign_ins.tell(&mut self.session, id, &password);
        }
        match found.addresses {
            Ok(mut addresses) => {
                let first = link.attempts % addresses.len().max(1);
                addresses.rotate_left(first);
                link.candidates.extend(addresses.into_iter().map(Place::Tcp));
                link.attempts = link.attempts.wrapping_add(1);
                self.try_next(id, "the host has no address", registry, now);
            }
            Err(error) => self.session.disconnected(id, &format!("cannot resolve its host: {error}"), now),
        }
    }

    /// Begins a connection to the next address; if there is none left, the attempt has failed for this reason.
    fn try_next(&mut self, id: LinkId, reason: &str, registry: &Registry, now: Time) {
        let mut reason = reason.to_owned();
        while let Some(place) = self.links.at(id).candidates.pop_front() {
            let stream = match place {
                Place::Tcp(address) => TcpStream::connect(address).map(Stream::Tcp),
                Place::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            };
            match stream.and_then(|stream| self.adopt(id, stream, registry)) {
                Ok(()) => return,
                Err(error) => reason = cannot_connect(&error),
            }
        }
        self.session.disconnected(id, &reason, now);
    }

    fn adopt(&mut self, id: LinkId, mut stream: Stream, registry: &Registry) -> io::Result<()> {
        let token = Token(self.token.0 - id.index());
        registry.register(stream.source(), token, Interest::READABLE | Interest::WRITABLE)?;
        self.links.at(id).connection =
            Some(Connection { stream, tls: None, established: false, readable: false, writable: false });
        Ok(())
    }

    /// Finishes a connection in progress, once the socket is writable.
    fn establish(&mut self, id: LinkId, registry: &Registry, now: Time) {
        let link = self.links.at(id);
        let Some(connection) = link.connection.as_mut() else { return };
        if connection.is_connected() || !connection.writable {
            return;
        }
        match connection.stream.outcome() {
            Ok(true) => match link.dialer.as_ref().map(Dialer::session) {
                None => {
                    connection.established = true;
                    self.session.connected(id, now);
                }
                // Its first words leave with what is written next.
                Some(Ok(session)) => connection.tls = Some(Box::new(session)),
                Some(Err(reason)) => self.lost(id, &reason, registry, now),
            },
            Ok(false) => connection.writable = false,
            Err(error) => {
                self.forget_connection(id, registry);
                self.try_next(id, &cannot_connect(&error), registry, now);
            }
        }
    }

    fn lost(&mut self, id: LinkId, reason: &str, registry: &Registry, now: Time) {
        self.forget(id, registry);
        self.session.disconnected(id, reason, now);
    }

    fn forget(&mut self, id: LinkId, registry: &Registry) {
        self.forget_connection(id, registry);
        let link = self.links.at(id);
        (link.unresolved, link.dialer) = (None, None);
        link.candidates.clear();
    }

    fn forget_connection(&mut self, id: LinkId, registry: &Registry) {
        if let Some(mut connection) = self.links.at(id).connection.take() {
            // Closing takes it off the poll as well; this only makes it plain.
            let _ = registry.deregister(connection.stream.source());
        }
    }
}

/// Without the address: `/readyz` is for everyone.
fn cannot_connect(error: &io::Error) -> String {
    format!("cannot connect: {error}")
}

impl Connection {
    /// Whether bytes can come and go, be they only of TLS.
    fn is_connected(&self) -> bool {
        self.established || self.tls.is_some()
    }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    /// Whether the connection is established; an error is why it could not be.
    fn outcome(&mut self) -> io::Result<bool> {
        let peer = match self {
            Stream::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                let _ = stream.set_nodelay(true);
                let peer = stream.peer_addr();
                if let Ok(peer) = &peer
                    && stream.local_addr()? == *peer
                {
                    // TCP lets a socket meet itself where nobody listens on a port that the kernel may give to a client:
                    // it would echo every command. Reset, since TIME_WAIT would keep Redis from its port.
                    let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                peer.map(|_| ())
            }
            Stream::Unix(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                stream.peer_addr().map(|_| ())
            }
        };
        match peer {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::broker::redis::Topology;
    use mio::Poll;
    use std::net::TcpListener;

    fn links(poll: &Poll) -> RedisLinks {
        let waker = Arc::new(Waker::new(poll.registry(), Token(2)).unwrap());
        let mut config = RedisConfig::default();
        config.connect_timeout = Duration::from_millis(100);
        (config.backoff_min, config.backoff_max) = (Duration::from_millis(1), Duration::from_millis(1));
        // What the resolver says of this name is never asked for here.
        config.topology = Topology::Single(Address::Tcp { host: "redis.invalid".to_owned(), port: 6379 });
        RedisLinks::new(config, SignIns::default(), None, Token(1), waker).unwrap()
    }

    fn found(addresses: &[SocketAddr]) -> Found {
        Found { addresses: Ok(addresses.to_vec()), password: Ok(None), dialer: Ok(None) }
    }

    /// Lets an attempt that is under way run out of time, and the next one begin.
    fn expire(links: &mut RedisLinks, registry: &Registry, now: &mut Time) {
        for step in [Duration::from_millis(100), Duration::from_millis(1)] {
            *now = *now + step;
            links.session.timeout(*now);
            links.drive(registry, *now);
        }
    }

    #[test]
    fn an_answer_slower_than_an_attempt_serves_the_next_one() {
        let (poll, listener) = (Poll::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (mut links, mut now) = (links(&poll), Time::ZERO);
        let link = links.session.links().next().unwrap();
        links.drive(poll.registry(), now);
        expire(&mut links, poll.registry(), &mut now);
        links.resolved(link, found(&[listener.local_addr().unwrap()]), poll.registry(), now);
        assert!(links.links.at(link).connection.is_some());
    }

    #[test]
    fn an_answer_for_one_host_serves_no_attempt_to_reach_another() {
        let (poll, listener) = (Poll::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (mut links, now) = (links(&poll), Time::ZERO);
        let link = links.session.links().next().unwrap();
        links.drive(poll.registry(), now);
        links.forget(link, poll.registry());
        let other = Address::Tcp { host: "other.invalid".to_owned(), port: 6379 };
        links.open(link, &other, poll.registry(), now);
        for is_connecting in [false, true] {
            links.resolved(link, found(&[listener.local_addr().unwrap()]), poll.registry(), now);
            assert_eq!(links.links.at(link).connection.is_some(), is_connecting);
        }
    }

    #[test]
    fn while_messages_are_left_unread_nothing_is_late_there_and_all_else_is_in_time() {
        let poll = Poll::new().unwrap();
        let mut links = links(&poll);
        links.drive(poll.registry(), Time::ZERO);
        let ids: Vec<LinkId> = links.session.links().collect();
        for (congested, left) in [(true, [true, false]), (false, [false, false])] {
            links.read(&mut [0], poll.registry(), Time::from_millis(100), congested, |_| ());
            let is_left = |id: &LinkId| links.session.state(*id) == LinkState::Connecting;
            assert_eq!(ids.iter().map(is_left).collect::<Vec<_>>(), left, "of the subscriber and the publisher");
        }
    }

    #[test]
    fn an_address_that_never_answers_is_not_the_first_for_ever() {
        let poll = Poll::new().unwrap();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [silent, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let (mut links, mut now) = (links(&poll), Time::ZERO);
        let link = links.session.links().next().unwrap();
        links.drive(poll.registry(), now);
        for left in [other, silent, other] {
            links.resolved(link, found(&[silent, other]), poll.registry(), now);
            assert_eq!(links.links.at(link).candidates, [Place::Tcp(left)], "the other one is being tried");
            expire(&mut links, poll.registry(), &mut now);
        }
    }
}
