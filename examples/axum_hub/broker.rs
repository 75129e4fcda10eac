//! Who carries messages between instances: Redis, whose session the core speaks and whose two sockets are tokio's, or nobody.

use crate::Input;
use fanfare_adapter::config::RedisTarget;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::redis::{Address, ConnectionRequest, LinkId, RedisBroker, RedisConfig, Topology};
use fanfare_core::broker::{Ask, BrokerEvent};
use fanfare_core::time::Time;
use std::error::Error;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

pub enum Broker {
    Memory(Box<MemoryBroker>),
    Redis(Box<Redis>),
}

const NO_TLS: &str = "this example speaks no TLS to Redis: fanfare does";
const TCP_ONLY: &str = "this example connects to Redis by TCP only";

/// The session, and its connections by the index of their link.
pub struct Redis {
    session: RedisBroker,
    links: Vec<Link>,
    /// How many connections there have been: whatever is told of another than the last of its link is old.
    opened: u64,
    hub: Sender<Input>,
}

/// A connection. Its tasks end with it, and then its socket is closed.
#[derive(Default)]
struct Link {
    number: u64,
    stream: Option<Arc<TcpStream>>,
    /// The socket took less than it was given, and has not said since that it takes more.
    blocked: bool,
    tasks: JoinSet<()>,
}

/// What a connection's tasks tell of it.
pub struct News {
    link: LinkId,
    number: u64,
    what: What,
}

enum What {
    Connected(TcpStream),
    Read(Vec<u8>),
    Writable,
    Ended(String),
}

impl Broker {
    /// The embedded broker, or this Redis.
    pub fn new(redis: Option<RedisTarget>, hub: Sender<Input>) -> Result<Broker, Box<dyn Error>> {
        let Some(target) = redis else { return Ok(Broker::Memory(Box::default())) };
        if target.tls {
            return Err(NO_TLS.into());
        }
        let mut config = RedisConfig::default();
        config.topology = target.topology;
        config.username = target.username;
        config.password = target.password.map(|password| password.expose().to_owned());
        config.database = target.database;
        config.seed = getrandom::u64()?;
        if let Topology::Single(Address::Unix { .. }) = config.topology {
            return Err(TCP_ONLY.into());
        }
        Ok(Broker::Redis(Box::new(Redis { session: RedisBroker::new(config), links: Vec::new(), opened: 0, hub })))
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: Ask<'_>) {
        match self {
            Broker::Memory(broker) => broker.ask(ask),
            Broker::Redis(redis) => redis.session.ask(ask),
        }
    }

    /// When to have a turn at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        match self {
            Broker::Memory(broker) => broker.has_events().then_some(Time::ZERO),
            Broker::Redis(redis) if redis.session.has_events() => Some(Time::ZERO),
            Broker::Redis(redis) => redis.session.next_timeout(),
        }
    }

    /// Takes what a connection's task tells.
    pub fn hear(&mut self, news: News, now: Time, report: impl FnMut(BrokerEvent<'_>)) {
        let Broker::Redis(redis) = self else { return };
        let (id, link) = (news.link, &mut redis.links[news.link.index()]);
        if news.number != link.number {
            return;
        }
        match news.what {
            What::Connected(stream) => {
                let stream = Arc::new(stream);
                link.tasks.spawn(read(id, link.number, Arc::clone(&stream), redis.hub.clone()));
                link.stream = Some(stream);
                redis.session.connected(id, now);
            }
            What::Read(bytes) => redis.session.input(id, &bytes, now, report),
            What::Writable => link.blocked = false,
            What::Ended(reason) => {
                *link = Link::default();
                redis.session.disconnected(id, &reason, now);
            }
        }
    }

    /// After everything heard: looks at the clock, and reports the rest.
    pub fn poll_events(&mut self, now: Time, report: impl FnMut(BrokerEvent<'_>)) {
        match self {
            Broker::Memory(broker) => broker.poll_events(report),
            Broker::Redis(redis) => {
                redis.session.timeout(now);
                redis.session.poll_events(report);
            }
        }
    }

    /// After the hub's turn: opens and drops connections, and writes what was asked in it.
    pub fn drive(&mut self, now: Time) {
        let Broker::Redis(redis) = self else { return };
        while let Some((id, request)) = redis.session.poll_connection(now) {
            if redis.links.len() <= id.index() {
                redis.links.resize_with(id.index() + 1, Link::default);
            }
            let link = &mut redis.links[id.index()];
            *link = Link::default();
            if let ConnectionRequest::Open { address } = request {
                redis.opened += 1;
                link.number = redis.opened;
                link.tasks.spawn(connect(id, link.number, address, redis.hub.clone()));
            }
        }
        for id in redis.session.links() {
            let Some(link) = redis.links.get_mut(id.index()) else { continue };
            let Some(stream) = link.stream.clone().filter(|_| !link.blocked) else { continue };
            loop {
                let output = redis.session.output(id);
                if output.is_empty() {
                    break;
                }
                match stream.try_write(output) {
                    Ok(written) => redis.session.written(id, written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        link.blocked = true;
                        // Those that have ended are forgotten only here.
                        while link.tasks.try_join_next().is_some() {}
                        link.tasks.spawn(wait_for_room(id, link.number, stream, redis.hub.clone()));
                        break;
                    }
                    // The task that reads notices as well.
                    Err(_) => break,
                }
            }
        }
    }
}

async fn tell(link: LinkId, number: u64, what: What, hub: &Sender<Input>) -> bool {
    hub.send(Input::Redis(News { link, number, what })).await.is_ok()
}

async fn connect(link: LinkId, number: u64, address: Address, hub: Sender<Input>) {
    let connected = match address {
        Address::Tcp { host, port } => TcpStream::connect((host, port)).await,
        Address::Unix { .. } => Err(io::Error::other(TCP_ONLY)),
    };
    let what = match connected {
        Ok(stream) => What::Connected(stream),
        Err(error) => What::Ended(error.to_string()),
    };
    tell(link, number, what, &hub).await;
}

async fn read(link: LinkId, number: u64, stream: Arc<TcpStream>, hub: Sender<Input>) {
    let mut buffer = vec![0; 64 * 1024];
    let reason = loop {
        if let Err(error) = stream.readable().await {
            break error.to_string();
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => break "Redis closed the connection".to_owned(),
            Ok(taken) if tell(link, number, What::Read(buffer[..taken].to_vec()), &hub).await => {}
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break error.to_string(),
        }
    };
    tell(link, number, What::Ended(reason), &hub).await;
}

async fn wait_for_room(link: LinkId, number: u64, stream: Arc<TcpStream>, hub: Sender<Input>) {
    // If it fails instead, the next write does, too.
    let _ = stream.writable().await;
    tell(link, number, What::Writable, &hub).await;
}
