//! The ones who must not notice, in a thread of their own: pairs that talk at their own pace, whatever happens, clients that
//! are only there and answer pings, and newcomers. They live from their start on; a phase is what is written down of it.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_bench::connection::{Connection, End, Heard};
use fanfare_bench::{Context, Error, Result};
use fanfare_wire as wire;
use mio::{Events, Poll, Token};
use serde_json::Value;

use super::phase::{Incidents, Ledger, Phase};

/// What has not arrived by then, after the end of a phase, is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long they wait for bytes before they look for orders again.
const LOOK: Duration = Duration::from_millis(10);
/// A newcomer comes that often.
const NEWCOMER_EVERY: Duration = Duration::from_millis(100);
/// A newcomer that is not in its room by then gives up.
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(3);
/// Rooms of newcomers, who are in them one after the other.
const NEWCOMER_ROOMS: u64 = 100;
/// Whoever has lost its connection comes back after that much time.
const RETRY: Duration = Duration::from_millis(50);
/// How long all may take to come in.
const JOIN_WITHIN: Duration = Duration::from_secs(30);

/// Who they are.
#[derive(Clone, Debug)]
pub struct Population {
    /// Of senders and receivers: each has a room of its own, that only the receiver is in. In every other one the sender is at the
    /// first server and the receiver at the second; everybody else is at the first.
    pub pairs: usize,
    /// Messages a second of each pair.
    pub rate: u32,
    /// Clients that only answer pings.
    pub idlers: usize,
    /// The room in which these are.
    pub room: Option<&'static str>,
    /// Whether there are newcomers.
    pub newcomers: bool,
}

/// Those who must not notice. Dropping them resets their connections.
pub struct Honest {
    orders: Sender<Order>,
    reports: Receiver<Result<Phase>>,
}

enum Order {
    Begin,
    End,
    /// Tell what has happened to connections, and begin nothing.
    Look,
}

impl Honest {
    /// Has them all connect and join, and talk from then on.
    pub fn join(population: Population, addresses: [SocketAddr; 2]) -> Result<Honest> {
        let (orders, their_orders) = mpsc::channel();
        let (their_reports, reports) = mpsc::channel();
        thread::spawn(move || {
            let lived = Life::new(population, addresses).and_then(|mut life| life.live(&their_orders, &their_reports));
            if let Err(error) = lived {
                // If nobody listens, it is over anyway.
                let _ = their_reports.send(Err(error));
            }
        });
        let honest = Honest { orders, reports };
        honest.report()?;
        Ok(honest)
    }

    /// Begins a phase.
    pub fn begin(&self) {
        // If they are gone, the report says why.
        let _ = self.orders.send(Order::Begin);
    }

    /// Ends a phase, waits for the last of its messages, and tells what became of them.
    pub fn end(&self) -> Result<Phase> {
        let _ = self.orders.send(Order::End);
        self.report()
    }

    /// What has happened to connections since the end of the last phase, and is not told again.
    pub fn look(&self) -> Result<Incidents> {
        let _ = self.orders.send(Order::Look);
        Ok(self.report()?.incidents)
    }

    fn report(&self) -> Result<Phase> {
        self.reports.recv_timeout(JOIN_WITHIN + PATIENCE).context("those who keep the rules are silent")?
    }
}

struct Life {
    population: Population,
    addresses: [SocketAddr; 2],
    poll: Poll,
    buffer: Vec<u8>,
    clients: Vec<Client>,
    newcomers: Vec<Option<Client>>,
    /// Newcomers so far.
    came: u64,
    /// Moments are counted from here.
    epoch: Instant,
    /// When all were in, so that the first message was due.
    began: Instant,
    /// The number of the next message.
    next: u64,
    /// The number of the last message that each receiver got.
    heard: Vec<Option<u64>>,
    ledger: Option<Ledger>,
    ends_by: Option<Instant>,
    incidents: Incidents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Sender(usize),
    Receiver(usize),
    Idler,
    Newcomer(u64),
}

struct Client {
    role: Role,
    connection: Option<Connection>,
    /// It is where it wanted to be.
    is_in: bool,
    since: Instant,
}

impl Life {
    fn new(population: Population, addresses: [SocketAddr; 2]) -> Result<Life> {
        let now = Instant::now();
        let roles = (0..population.pairs).flat_map(|pair| [Role::Sender(pair), Role::Receiver(pair)]);
        let roles = roles.chain((0..population.idlers).map(|_| Role::Idler));
        Ok(Life {
            clients: roles.map(|role| Client { role, connection: None, is_in: false, since: now }).collect(),
            newcomers: Vec::new(),
            came: 0,
            poll: Poll::new().context("cannot make an epoll")?,
            buffer: vec![0; 64 * 1024],
            epoch: now,
            began: now,
            next: 0,
            heard: vec![None; population.pairs],
            ledger: None,
            ends_by: None,
            incidents: Incidents::default(),
            population,
            addresses,
        })
    }

    fn live(&mut self, orders: &Receiver<Order>, reports: &Sender<Result<Phase>>) -> Result<()> {
        let tell = |phase: Phase| reports.send(Ok(phase)).context("nobody listens");
        let mut events = Events::with_capacity(1_024);
        for index in 0..self.clients.len() {
            self.open(index)?;
            // A few at a time: none is to be dropped by a full backlog.
            if index % 64 == 63 {
                self.turn(&mut events, Duration::from_millis(1))?;
            }
        }
        while !self.clients.iter().all(|client| client.is_in) {
            self.turn(&mut events, LOOK)?;
            if self.epoch.elapsed() > JOIN_WITHIN {
                let within = self.clients.iter().filter(|client| client.is_in).count();
                return Err(Error::new(format!("{within} of {} honest clients got in", self.clients.len())));
            }
        }
        self.began = Instant::now();
        self.incidents = Incidents::default();
        tell(Phase::default())?;
        loop {
            match orders.try_recv() {
                Ok(Order::Begin) => self.ledger = Some(Ledger::new(self.population.pairs)),
                Ok(Order::End) => self.ends_by = Some(Instant::now() + PATIENCE),
                Ok(Order::Look) => {
                    tell(Phase { incidents: std::mem::take(&mut self.incidents), ..Phase::default() })?;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let due = self.speak()?;
            self.welcome()?;
            self.turn(&mut events, due.min(LOOK))?;
            let settled = self.ledger.as_ref().is_none_or(Ledger::is_settled);
            if self.ends_by.is_some_and(|end| settled || Instant::now() > end) {
                self.ends_by = None;
                let ledger = self.ledger.take().unwrap_or_else(|| Ledger::new(self.population.pairs));
                tell(ledger.close(std::mem::take(&mut self.incidents)))?;
            }
        }
    }

    /// Sends the messages that are due, each pair's in turn, and tells when the next one will be.
    fn speak(&mut self) -> Result<Duration> {
        let rate = self.population.pairs as f64 * f64::from(self.population.rate);
        if rate == 0.0 {
            return Ok(LOOK);
        }
        let mut frame = Vec::new();
        loop {
            let due = self.began + Duration::from_secs_f64(self.next as f64 / rate);
            let now = Instant::now();
            if due > now {
                return Ok(due - now);
            }
            let (number, pair) = (self.next, self.next as usize % self.population.pairs);
            self.next += 1;
            let client = &mut self.clients[2 * pair];
            let Some(connection) = client.connection.as_mut().filter(|_| client.is_in) else { continue };
            frame.clear();
            let text = format!("{number} {}", now.duration_since(self.epoch).as_nanos());
            wire::write_send_with_id(&room_of(pair), &text, number, &mut frame);
            connection.unsent().extend_from_slice(&frame);
            if let Some(ledger) = self.ledger.as_mut().filter(|_| self.ends_by.is_none()) {
                ledger.sent(number, (now - due).as_nanos() as u64);
            }
            if let Err(end) = connection.flush() {
                self.lose(2 * pair, end);
            }
        }
    }

    /// Lets newcomers come in their time, and go when theirs is over; whoever was thrown out comes back.
    fn welcome(&mut self) -> Result<()> {
        for index in 0..self.clients.len() {
            if self.clients[index].connection.is_none() && self.clients[index].since.elapsed() > RETRY {
                self.open(index)?;
            }
        }
        for place in &mut self.newcomers {
            if place.as_ref().is_some_and(|newcomer| newcomer.since.elapsed() > NEWCOMER_PATIENCE) {
                *place = None;
                *self.incidents.refused.entry("gave up".to_owned()).or_default() += 1;
            }
        }
        if self.population.newcomers && self.began.elapsed() > NEWCOMER_EVERY * self.came as u32 {
            let now = Instant::now();
            let newcomer = Client { role: Role::Newcomer(self.came), connection: None, is_in: false, since: now };
            self.came += 1;
            let free = self.newcomers.iter().position(Option::is_none).unwrap_or_else(|| {
                self.newcomers.push(None);
                self.newcomers.len() - 1
            });
            self.newcomers[free] = Some(newcomer);
            self.open(self.clients.len() + free)?;
        }
        Ok(())
    }

    fn client(&mut self, index: usize) -> Option<&mut Client> {
        match index.checked_sub(self.clients.len()) {
            None => self.clients.get_mut(index),
            Some(place) => self.newcomers.get_mut(place)?.as_mut(),
        }
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let [first, second] = self.addresses;
        let idlers_room = self.population.room;
        let Some(client) = self.client(index) else { return Ok(()) };
        let (role, since) = (client.role, Instant::now());
        let address = if matches!(role, Role::Receiver(pair) if pair % 2 == 1) { second } else { first };
        let mut request = wire::upgrade_request("/", "").into_bytes();
        if let Some(room) = room(role, idlers_room) {
            wire::write_subscribe(&room, &mut request);
        }
        let mut connection =
            Connection::open(address, self.poll.registry(), Token(index)).context("cannot open a connection")?;
        connection.unsent().extend(request);
        if let Some(client) = self.client(index) {
            (client.connection, client.is_in, client.since) = (Some(connection), false, since);
        }
        Ok(())
    }

    /// Waits for bytes, at most `time`, and takes all that have come.
    fn turn(&mut self, events: &mut Events, time: Duration) -> Result<()> {
        self.poll.poll(events, Some(time)).context("cannot wait for events")?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut texts = Vec::new();
        for event in &*events {
            let index = event.token().0;
            let idlers_room = self.population.room;
            let Some(client) = self.client(index) else { continue };
            let Some(connection) = &mut client.connection else { continue };
            // What goes through a room of attackers is only counted.
            let skips = client.role == Role::Idler && client.is_in;
            let heard = connection.read(&mut buffer, |heard, _| {
                if let Heard::Text(frame) = heard
                    && !skips
                {
                    texts.push(frame.payload.to_vec());
                }
                Ok(())
            });
            let end = heard.and_then(|()| connection.flush()).err();
            client.is_in |= connection.is_upgraded() && room(client.role, idlers_room).is_none();
            let role = client.role;
            for text in texts.drain(..) {
                self.hear(index, role, &text)?;
            }
            if let Some(end) = end {
                self.lose(index, end);
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn hear(&mut self, index: usize, role: Role, text: &[u8]) -> Result<()> {
        if role == Role::Idler && text.starts_with(wire::MESSAGE_PREFIX) {
            return Ok(());
        }
        let text: Value = serde_json::from_slice(text).context("a text of the server")?;
        match (role, text["type"].as_str().unwrap_or_default()) {
            (Role::Newcomer(_), "SUBSCRIBED") => {
                if let Some(newcomer) = self.client(index) {
                    let took = newcomer.since.elapsed();
                    self.incidents.entered.push(took.as_nanos() as u64);
                }
                let place = index - self.clients.len();
                self.newcomers[place] = None;
            }
            (_, "SUBSCRIBED") => {
                if let Some(client) = self.client(index) {
                    client.is_in = true;
                }
            }
            (Role::Sender(_), "ACK") => {
                if let (Some(ledger), Some(id)) = (&mut self.ledger, text["id"].as_u64()) {
                    ledger.acknowledged(id);
                }
            }
            (Role::Sender(_), "ERROR") => {
                if let (Some(ledger), Some(id)) = (&mut self.ledger, text["id"].as_u64()) {
                    ledger.refused(id, text["code"].as_str().unwrap_or_default());
                }
            }
            (Role::Receiver(pair), "MESSAGE") => {
                let (number, sent_at) = parse(text["message"].as_str().unwrap_or_default())?;
                let took = self.epoch.elapsed().saturating_sub(sent_at);
                if self.heard[pair].is_some_and(|last| last >= number) {
                    return Err(Error::new(format!("message {number} came behind {:?}", self.heard[pair])));
                }
                self.heard[pair] = Some(number);
                if let Some(ledger) = &mut self.ledger {
                    ledger.received(number, took.as_nanos() as u64);
                }
            }
            (role, _) => return Err(Error::new(format!("{role:?} was told {text}"))),
        }
        Ok(())
    }

    /// The server has ended a connection.
    fn lose(&mut self, index: usize, end: End) {
        let idlers_room = self.population.room;
        let Some(client) = self.client(index) else { return };
        let (role, was_in) = (client.role, client.is_in);
        (client.connection, client.is_in, client.since) = (None, false, Instant::now());
        let who = match role {
            Role::Sender(_) => "sender",
            Role::Receiver(_) => "receiver",
            Role::Idler if idlers_room.is_some() => "bystander",
            Role::Idler => "idle",
            Role::Newcomer(_) => "newcomer",
        };
        let how = match end {
            End::Refused(head) => End::status(&head).to_string(),
            End::Closed(code, _) => code.to_string(),
            _ => "gone".to_owned(),
        };
        if was_in {
            *self.incidents.closed.entry(format!("{who} {how}")).or_default() += 1;
        } else {
            *self.incidents.refused.entry(how).or_default() += 1;
        }
        if let Some(place) = index.checked_sub(self.clients.len()) {
            self.newcomers[place] = None;
        }
    }
}

fn room_of(pair: usize) -> String {
    format!("pair {pair}")
}

/// The room that somebody wants to be in.
fn room(role: Role, idlers: Option<&str>) -> Option<String> {
    match role {
        Role::Sender(_) => None,
        Role::Receiver(pair) => Some(room_of(pair)),
        Role::Idler => idlers.map(str::to_owned),
        Role::Newcomer(number) => Some(format!("newcomer {}", number % NEWCOMER_ROOMS)),
    }
}

/// The number of a message, and when it was sent.
fn parse(message: &str) -> Result<(u64, Duration)> {
    let figures = || {
        let (number, sent_at) = message.split_once(' ')?;
        Some((number.parse().ok()?, Duration::from_nanos(sent_at.parse().ok()?)))
    };
    figures().ok_or_else(|| Error::new(format!("not a message of a pair: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_number_and_moment() {
        assert_eq!(parse("7 1500").unwrap(), (7, Duration::from_nanos(1_500)));
        assert!(parse("x").is_err());
    }
}
