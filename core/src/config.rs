//! The core's configuration: every bound it keeps, with its default and unit.

use crate::dialect::{Dialect, Subprotocols};
use crate::limits::origin::Origins;
use crate::limits::proxy::Proxies;
use crate::limits::rate::Rate;
use crate::rules::Rules;
use crate::ws::deflate::Compression;
use std::time::Duration;

/// Everything a [`Core`](crate::Core) needs to know before its first event. Each bound has a default; none is infinite. Later
/// versions may have more of them: take the default, and assign what shall be otherwise.
///
/// ```
/// use fanfare_core::{Config, Core, Rate};
///
/// let mut config = Config::default();
/// config.admission.connections_max = 50_000;
/// config.limits.messages = Rate { per_second: 20, burst: 100 };
/// let core = Core::new(config);
/// # assert_eq!(core.connections(), 0);
/// ```
///
/// # Defaults
///
/// Those of the server, but for what identifies an instance: `seed` and `node` are 0, and should be drawn at random.
///
/// ```
/// # use fanfare_core::{Config, Dialect, Origins, PublishFormat, Rate, Subprotocols};
/// # use std::time::Duration;
/// let config = Config::default();
/// assert_eq!((config.admission.connections_max, config.admission.surplus_connections_max), (10_000, 128));
/// assert_eq!((config.limits.message_bytes_max, config.limits.frames_per_message_max), (64 * 1024, 1_024));
/// assert_eq!((config.limits.rooms_per_connection_max, config.limits.room_name_bytes_max), (128, 128));
/// assert_eq!((config.limits.request_head_bytes_max, config.limits.request_headers_max), (8 * 1024, 100));
/// assert_eq!(config.admission.pending_upgrades_max, 16_384);
/// assert_eq!((config.limits.outbox_bytes_max, config.limits.outbox_total_bytes_max), (1024 * 1024, 256 * 1024 * 1024));
/// assert_eq!((config.limits.members_per_turn_max, config.limits.group_members_max), (1_024, 64));
/// assert_eq!(config.limits.messages, Rate { per_second: 1_000, burst: 2_000 });
/// assert_eq!(config.limits.bytes, Rate { per_second: 1024 * 1024, burst: 2 * 1024 * 1024 });
/// assert_eq!(config.limits.deliveries, Rate { per_second: 50_000, burst: 100_000 });
/// assert_eq!(config.limits.surplus, Rate { per_second: 16 * 1024 * 1024, burst: 4 * 1024 * 1024 });
/// assert_eq!(config.limits.unfinished_total_bytes_max, 64 * 1024 * 1024);
/// assert_eq!(config.limits.pings, Rate { per_second: 10, burst: 100 });
/// assert_eq!((config.limits.deferred_bytes_max, config.limits.deferred_total_bytes_max), (256 * 1024, 16 * 1024 * 1024));
/// assert_eq!((config.limits.errors_max, config.limits.errors_per_minute), (100, 60));
/// // No limit of addresses, nor of users; the pages that may connect are those of the same host; no proxy is trusted.
/// assert_eq!((config.admission.connections_per_address_max, config.admission.connects_per_address.is_limited()), (0, false));
/// assert_eq!((config.admission.connections_per_user_max, config.limits.rooms_per_user_max), (0, 0));
/// assert_eq!(config.limits.user_messages, Rate { per_second: 0, burst: 2_000 });
/// assert!(config.admission.origins == Origins::SameHost && config.admission.proxies.trusted.is_empty());
/// assert_eq!((config.timeouts.handshake, config.timeouts.close), (Duration::from_secs(10), Duration::from_secs(5)));
/// assert_eq!((config.timeouts.ping_interval, config.timeouts.pong_timeout), (Duration::from_secs(25), Duration::from_secs(10)));
/// assert_eq!((config.timeouts.message, config.timeouts.drain), (Duration::from_secs(30), Duration::from_millis(2_500)));
/// assert_eq!(config.timeouts.room_linger, Duration::from_secs(2));
/// assert_eq!((config.drain.delay, config.drain.spread), (Duration::ZERO, Duration::from_secs(5)));
/// // No room has a rule, so none has a history.
/// assert!(config.rules.as_slice().is_empty());
/// assert_eq!(config.auth, None);
/// assert_eq!((config.history.memory_bytes_max, config.history.reads_in_flight_max), (64 * 1024 * 1024, 64));
/// assert_eq!(config.history.page_messages_max, 1_000);
/// assert_eq!(config.history.key_age_max, Duration::from_secs(600));
/// assert_eq!((config.presence.linger, config.presence.users_max), (Duration::from_secs(5), 10_000));
/// assert_eq!(config.presence.connections_per_user_max, 0);
/// assert!(config.compression.is_some_and(|settings| (settings.threshold_bytes, settings.level) == (256, 1)));
/// assert_eq!((config.default_dialect, config.subprotocols), (Dialect::Fanfare, Subprotocols::Own));
/// assert_eq!((config.echo, config.journal, config.notices), (false, false, false));
/// assert_eq!(config.publish_format, PublishFormat::Fanfare);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Seeds the hash functions. The adapter draws it from the operating system; a simulation chooses it.
    pub seed: u64,
    /// This instance among all that share a broker; drawn at random by the adapter.
    pub node: u64,
    /// What clients may use.
    pub limits: Limits,
    /// Who may connect, and how many.
    pub admission: Admission,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How the server lets connections go.
    pub drain: Drain,
    /// What holds for which rooms.
    pub rules: Rules,
    /// How clients are asked who they are; `None`: they are not, and everything is open that rules do not close to everybody.
    pub auth: Option<Auth>,
    /// Bounds on the histories of all rooms that have one.
    pub history: History,
    /// Bounds on what is kept of who is in which room.
    pub presence: Presence,
    /// How messages are compressed for clients that offer permessage-deflate (RFC 7692); `None` declines it.
    pub compression: Option<Compression>,
    /// What `/` and `/ws` speak.
    pub default_dialect: Dialect,
    /// Which subprotocols are selected in [`Dialect::Fanfare`].
    pub subprotocols: Subprotocols,
    /// Whether [`Dialect::Echo`] is served at `/echo`.
    pub echo: bool,
    /// Whether what becomes of connections is kept for [`Core::journal`](crate::Core::journal), for a log.
    pub journal: bool,
    /// Whether who connects and disconnects is kept for [`Core::notices`](crate::Core::notices).
    pub notices: bool,
    /// The form of what is published.
    pub publish_format: PublishFormat,
    /// The body of the response to `GET /`: an HTML page.
    pub page: &'static [u8],
}

/// Bounds on what clients may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one message from a client, all its fragments together (else close 1009).
    pub message_bytes_max: usize,
    /// Frames of one message from a client (else close 1008). Each counts against `messages`, whose burst is worth having at
    /// least as large.
    pub frames_per_message_max: u32,
    /// Rooms one connection may be in: 1 to 32,767. With 0, a client that broadcasts has no room to speak in. The user's own room, which
    /// [`Auth::own_rooms`] makes connections join, does not count.
    pub rooms_per_connection_max: u16,
    /// Rooms in which one user's connections to this core may be, all of them together; 0 means that there is no limit. A room counts once,
    /// and the user's own room does not count. One more is refused with `too_many_rooms`; a connection that could be in no other room is
    /// closed with 1013. What a connection was in before it was the user's stays.
    pub rooms_per_user_max: u32,
    /// Bytes of a room's name in UTF-8.
    pub room_name_bytes_max: usize,
    /// Bytes of an HTTP request head (else 431).
    pub request_head_bytes_max: usize,
    /// Header fields of an HTTP request head (else 431). Up to 100 are read without an allocation.
    pub request_headers_max: usize,
    /// Bytes that one connection's socket has not taken yet (else close 4008).
    pub outbox_bytes_max: usize,
    /// Bytes of frames kept for all lagging connections together; over it the slowest are closed with 4008.
    pub outbox_total_bytes_max: usize,
    /// How many members of small rooms one turn writes to; members of large rooms get a sixteenth of that on top. A turn always
    /// serves at least one whole small room and one group of a large one.
    pub members_per_turn_max: usize,
    /// Members of a room that are written to in one go, before other rooms have their turn: 1 to 256.
    pub group_members_max: u16,
    /// Bytes of one connection's messages that wait until the broker has confirmed its SUBSCRIBE for their room, and 64 more for
    /// each message. Beyond it, a message is refused with `broker_busy`; a connection whose dialect has no replies is closed with
    /// 1013. One message may always wait. The same holds for messages that wait for a decision ([`Action::Propose`](crate::Action::Propose)),
    /// by themselves, with 512 more for each, and `hook_busy`.
    pub deferred_bytes_max: usize,
    /// The same of all connections together.
    pub deferred_total_bytes_max: usize,
    /// Malformed commands before a connection is closed with 4509. Every good one forgives one, and so does time.
    pub errors_max: u16,
    /// Malformed commands of one connection that a minute forgives, evenly; 0 means that time forgives none.
    pub errors_per_minute: u32,
    /// Text and binary messages of one connection. A message counts once for each of its frames. One more is refused with
    /// `too_fast`. It closes the connection with 4029 if the dialect has no replies, or if the message is not whole yet.
    pub messages: Rate,
    /// Messages of one user's connections to this core together, counted as `messages` are, and refused in the same way. What a user owes
    /// stays when its last connection ends.
    pub user_messages: Rate,
    /// Bytes of work that one connection makes (else close 4029). What is read of it counts, and what is said in reply at once. So
    /// does what a message inflates to, or grows to when it is published, beyond what was read. The burst must be at least what the
    /// adapter reads at once. It is best no more than `outbox_bytes_max` and what a socket takes, because a larger burst of one
    /// sender can be too much for a member that keeps up.
    pub bytes: Rate,
    /// Pings and pongs of one connection (else close 4029).
    pub pings: Rate,
    /// Deliveries that one connection's messages make on this instance: one for each member and started KiB. A message beyond them
    /// is refused with `too_fast`; a connection whose dialect has no replies is closed with 4029. One message may always be sent
    /// after a pause, however many members there are.
    pub deliveries: Rate,
    /// Work of all connections together beyond the bytes that are read, counted as for `bytes`. Beyond it, connections that make much
    /// work wait.
    pub surplus: Rate,
    /// Bytes held of unfinished messages, of all connections together. Over it, the connections whose messages have been unfinished
    /// for longest are closed with 4008.
    pub unfinished_total_bytes_max: usize,
}

/// Who may connect, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admission {
    /// Open WebSockets. An upgrade beyond it is answered with 503.
    pub connections_max: usize,
    /// Connections beyond `connections_max` that are still taken, so that they can be told 503 or asked for their health.
    pub surplus_connections_max: usize,
    /// Connections that are not a WebSocket: their request head is coming in, or their client has been answered and has not hung
    /// up. Beyond it, or when they take more than half of `surplus_connections_max`, the oldest answered one is closed; if none is
    /// answered, the oldest. Minimum 1.
    pub pending_upgrades_max: usize,
    /// Connections from one address at the same time (else 429); 0 means that there is no limit. An IPv6 network of 64 bits
    /// counts as one address.
    pub connections_per_address_max: usize,
    /// WebSockets of one user on this core (else 429, or `too_many_connections` to an `AUTH`); 0 means that there is no limit.
    pub connections_per_user_max: u32,
    /// New connections from one address (else 429).
    pub connects_per_address: Rate,
    /// The pages that may open a WebSocket (else 403). A request without an `Origin` is no page's.
    pub origins: Origins,
    /// Whom to believe about a client's address.
    pub proxies: Proxies,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the connection's opening to the end of its request head (else 408).
    pub handshake: Duration,
    /// Silence after which a ping is sent.
    pub ping_interval: Duration,
    /// Silence after a ping, after which the connection is given up with 4000.
    pub pong_timeout: Duration,
    /// From a close frame sent, or a final response, to the end of the connection.
    pub close: Duration,
    /// From a message's first byte to its last (else close 4008).
    pub message: Duration,
    /// From [`Event::Shutdown`](crate::Event::Shutdown), or when a connection's time to go has come, to its close if it still waits for an
    /// answer, or the broker does not answer.
    pub drain: Duration,
    /// How long a room without members stays subscribed, so that a page's reload causes no churn at the broker.
    pub room_linger: Duration,
}

/// How the server lets connections go: all of them after [`Event::Drain`](crate::Event::Drain), a share after
/// [`Event::Shed`](crate::Event::Shed).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drain {
    /// How long newcomers are still taken after `Event::Drain`, while `/readyz` says 503 already: the time that load balancers need to
    /// notice.
    pub delay: Duration,
    /// The time over which connections go, at equal distances and by lot, so that they do not come back all at once.
    pub spread: Duration,
}

/// How clients are asked who they are. A credential is looked for in the order of these fields; the first that is there counts. Whether
/// it is good is asked by [`Action::Authenticate`](crate::Action::Authenticate).
///
/// Where clients are asked, the rule for users' [own rooms](crate::rules::OWN_ROOMS) has to be among the rules:
/// [`Rules::with_own_rooms`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth {
    /// Whether `Authorization: Bearer` counts.
    pub header: bool,
    /// The field of the query that counts.
    pub query: Option<Box<str>>,
    /// Whether an entry `fanfare.token.…` of `Sec-WebSocket-Protocol` counts.
    pub subprotocol: bool,
    /// The name of the cookie that counts. It does only in a request whose `Origin` is there and passed.
    pub cookie: Option<Box<str>>,
    /// Whether it is asked about requests without a credential as well.
    pub requests: bool,
    /// Whether the command `AUTH` counts.
    pub command: bool,
    /// Whether the whole request head is handed out with a credential.
    pub forwards_head: bool,
    /// Whether everybody has to be a user. Else a connection without a credential may do what rules leave to anyone.
    pub required: bool,
    /// Whether a refusal is told by the close codes 4501 and 4503 after an upgrade, because a browser cannot read a status. Else by 401 and
    /// 403.
    pub refuses_by_close: bool,
    /// From an upgrade without a credential to a successful `AUTH`, where one is required (else close 4501).
    pub timeout: Duration,
    /// How long before a credential expires its connection is told `token_expiring`.
    pub expiry_notice: Duration,
    /// How often it is asked again whether a credential is good, where the identity wants that. It is up to an eighth sooner, because
    /// connections that came together would else be asked about together.
    pub recheck: Duration,
    /// About how many credentials that is asked at once; at least 1. The others wait, and their connections stay meanwhile.
    pub rechecks_at_once_max: usize,
    /// Whether a user's connections join the user's [own room](crate::rules::OWN_ROOMS).
    pub own_rooms: bool,
    /// Whether the core is not ready before [`Event::Bans`](crate::Event::Bans) has told who is banned, because nobody can be let in before.
    pub awaits_bans: bool,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            header: true,
            query: Some("token".into()),
            subprotocol: true,
            cookie: None,
            requests: false,
            command: true,
            forwards_head: false,
            required: true,
            refuses_by_close: false,
            timeout: Duration::from_secs(10),
            expiry_notice: Duration::from_secs(60),
            recheck: Duration::from_secs(300),
            rechecks_at_once_max: 32,
            own_rooms: true,
            awaits_bans: false,
        }
    }
}

/// Bounds on the histories of all rooms that have one by their [`rules`](crate::rules). How much each keeps stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// Bytes of messages of rooms with history that an instance keeps in memory, all rooms together.
    pub memory_bytes_max: usize,
    /// Reads of histories that may wait for the broker's answer.
    pub reads_in_flight_max: usize,
    /// Messages that one of them asks for, of 512 KiB together; at least 1.
    pub page_messages_max: u32,
    /// How long the key is kept that a client has given to a message, so that the same message sent again is stored once.
    pub key_age_max: Duration,
}

/// Bounds on what is kept of who is in which room, where a room's [`rule`](crate::rules::Rule::presence) wants that, and of who is here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// How long a user is there after its last connection has gone: whoever comes back meanwhile has neither left nor joined.
    pub linger: Duration,
    /// Of rooms with more users than these it is only told how many there are, because each of their instances would have to know them all.
    pub users_max: u32,
    /// How many connections a user may have on all instances; 0: as many as come. One more is ended when the broker has said so.
    pub connections_per_user_max: u32,
}

/// What a publish looks like at the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishFormat {
    /// One header line and the final text of the `MESSAGE`: forwarded unparsed by every other instance.
    #[default]
    Fanfare,
    /// `{"type":"SEND_MESSAGE","roomId":…,"message":…}`, which Node servers on the same broker understand.
    Classic,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 0,
            node: 0,
            limits: Limits::default(),
            admission: Admission::default(),
            timeouts: Timeouts::default(),
            drain: Drain::default(),
            rules: Rules::default(),
            auth: None,
            history: History::default(),
            presence: Presence::default(),
            compression: Some(Compression::default()),
            default_dialect: Dialect::Fanfare,
            subprotocols: Subprotocols::Own,
            echo: false,
            journal: false,
            notices: false,
            publish_format: PublishFormat::Fanfare,
            page: b"<!doctype html><title>Fanfare</title><p>A WebSocket server.",
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: 64 * 1024,
            frames_per_message_max: 1_024,
            rooms_per_connection_max: 128,
            rooms_per_user_max: 0,
            room_name_bytes_max: 128,
            request_head_bytes_max: 8 * 1024,
            request_headers_max: 100,
            outbox_bytes_max: 1024 * 1024,
            outbox_total_bytes_max: 256 * 1024 * 1024,
            members_per_turn_max: 1_024,
            group_members_max: 64,
            // More than a message of the largest size, and a burst of small ones.
            deferred_bytes_max: 256 * 1024,
            // As much as may wait for Redis's answer, which is where it goes next.
            deferred_total_bytes_max: 16 * 1024 * 1024,
            errors_max: 100,
            errors_per_minute: 60,
            messages: Rate { per_second: 1_000, burst: 2_000 },
            user_messages: Rate { per_second: 0, burst: 2_000 },
            bytes: Rate { per_second: 1024 * 1024, burst: 2 * 1024 * 1024 },
            pings: Rate { per_second: 10, burst: 100 },
            deliveries: Rate { per_second: 50_000, burst: 100_000 },
            // Inflated, read as JSON and compressed anew in four forms, a third of a processor's work here and at each instance that
            // has members.
            surplus: Rate { per_second: 16 * 1024 * 1024, burst: 4 * 1024 * 1024 },
            unfinished_total_bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl Default for Admission {
    fn default() -> Admission {
        Admission {
            connections_max: 10_000,
            surplus_connections_max: 128,
            pending_upgrades_max: 16_384,
            connections_per_address_max: 0,
            connections_per_user_max: 0,
            connects_per_address: Rate { per_second: 0, burst: 100 },
            origins: Origins::SameHost,
            proxies: Proxies::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close: Duration::from_secs(5),
            message: Duration::from_secs(30),
            drain: Duration::from_millis(2_500),
            room_linger: Duration::from_secs(2),
        }
    }
}

impl Default for Drain {
    fn default() -> Drain {
        // Half of what `docker stop` leaves a process.
        Drain { delay: Duration::ZERO, spread: Duration::from_secs(5) }
    }
}

impl Default for Presence {
    fn default() -> Presence {
        Presence { linger: Duration::from_secs(5), users_max: 10_000, connections_per_user_max: 0 }
    }
}

impl Default for History {
    fn default() -> History {
        History {
            memory_bytes_max: 64 * 1024 * 1024,
            reads_in_flight_max: 64,
            page_messages_max: 1_000,
            // Longer than a client tries again.
            key_age_max: Duration::from_secs(600),
        }
    }
}
