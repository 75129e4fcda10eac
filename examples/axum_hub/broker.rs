//! Who carries messages between instances: Redis, whose session the core speaks and whose two sockets are tokio's, or nobody.

use crate::Input;
use fanfare_adapter::config::{RedisAddress, RedisTarget};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::redis::{ConnectionRequest, RedisConfig, RedisSession, Role};
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

/// The session, and its connections by role.
pub struct Redis {
    session: RedisSession,
    /// Host and port.
    address: (String, u16),
    links: [Link; Role::COUNT],
    /// How many connections there have been: whatever is told of another than the last of its role is old.
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
    role: Role,
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
        let RedisAddress::Tcp { host, port } = target.address else {
            return Err("this example connects to Redis by TCP only".into());
        };
        let mut config = RedisConfig::default();
        config.username = target.username;
        config.password = target.password.map(|password| password.expose().to_owned());
        config.database = target.database;
        config.seed = getrandom::u64()?;
        let (session, address, links) = (RedisSession::new(config), (host, port), Default::default());
        Ok(Broker::Redis(Box::new(Redis { session, address, links, opened: 0, hub })))
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
        let (role, link) = (news.role, &mut redis.links[news.role as usize]);
        if news.number != link.number {
            return;
        }
        match news.what {
            What::Connected(stream) => {
                let stream = Arc::new(stream);
                link.tasks.spawn(read(role, link.number, Arc::clone(&stream), redis.hub.clone()));
                link.stream = Some(stream);
                redis.session.connected(role, now);
            }
            What::Read(bytes) => redis.session.input(role, &bytes, now, report),
            What::Writable => link.blocked = false,
            What::Ended(reason) => {
                *link = Link::default();
                redis.session.disconnected(role, &reason, now);
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
        while let Some((role, request)) = redis.session.poll_connection(now) {
            let link = &mut redis.links[role as usize];
            *link = Link::default();
            if request == ConnectionRequest::Open {
                redis.opened += 1;
                link.number = redis.opened;
                link.tasks.spawn(connect(role, link.number, redis.address.clone(), redis.hub.clone()));
            }
        }
        for role in Role::ALL {
            let link = &mut redis.links[role as usize];
            let Some(stream) = link.stream.clone().filter(|_| !link.blocked) else { continue };
            loop {
                let output = redis.session.output(role);
                if output.is_empty() {
                    break;
                }
                match stream.try_write(output) {
                    Ok(written) => redis.session.written(role, written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        link.blocked = true;
                        // Those that have ended are forgotten only here.
                        while link.tasks.try_join_next().is_some() {}
                        link.tasks.spawn(wait_for_room(role, link.number, stream, redis.hub.clone()));
                        break;
                    }
                    // The task that reads notices as well.
                    Err(_) => break,
                }
            }
        }
    }
}

async fn tell(role: Role, number: u64, what: What, hub: &Sender<Input>) -> bool {
    hub.send(Input::Redis(News { role, number, what })).await.is_ok()
}

async fn connect(role: Role, number: u64, address: (String, u16), hub: Sender<Input>) {
    let what = match TcpStream::connect(address).await {
        Ok(stream) => What::Connected(stream),
        Err(error) => What::Ended(error.to_string()),
    };
    tell(role, number, what, &hub).await;
}

async fn read(role: Role, number: u64, stream: Arc<TcpStream>, hub: Sender<Input>) {
    let mut buffer = vec![0; 64 * 1024];
    let reason = loop {
        if let Err(error) = stream.readable().await {
            break error.to_string();
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => break "Redis closed the connection".to_owned(),
            Ok(taken) if tell(role, number, What::Read(buffer[..taken].to_vec()), &hub).await => {}
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break error.to_string(),
        }
    };
    tell(role, number, What::Ended(reason), &hub).await;
}

async fn wait_for_room(role: Role, number: u64, stream: Arc<TcpStream>, hub: Sender<Input>) {
    // If it fails instead, the next write does, too.
    let _ = stream.writable().await;
    tell(role, number, What::Writable, &hub).await;
}
