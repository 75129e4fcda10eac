//! Only the hub: axum answers the upgrades and reads and writes the frames; the core sees messages, and has the rooms, the limits and
//! the session with Redis.
//!
//! ```text
//! cargo run -p fanfare-examples --example axum_hub [-- ADDRESS [redis://HOST:PORT]]
//! ```
//!
//! Clients connect to `/` or `/ws`. With Redis, any number of these, and of Fanfare's own servers, act as one; without it, this one
//! is alone.

mod broker;

use axum::Router;
use axum::extract::ws::{self, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use broker::{Broker, News};
use fanfare_adapter::config::RedisTarget;
use fanfare_core::broker::BrokerEvent;
use fanfare_core::time::Time;
use fanfare_core::ws::handshake::Offered;
use fanfare_core::{Action, Config, ConnId, Core, Dialect, Event, Message, Origins, Refused, Subprotocols, Turn};
use futures_util::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Inputs that wait for the hub: who reads faster than it thinks waits, too.
const INPUTS_MAX: usize = 256;
/// Messages that wait for one socket. What is more than that the core keeps, and limits.
const MESSAGES_MAX: usize = 4;
/// Longer than the core waits for a sign of life, by default 35 s: nobody is written to for ever whom it has long closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What the hub is told.
enum Input {
    Open(Newcomer),
    Message(ConnId, ws::Message),
    Writable(ConnId),
    Ended(ConnId),
    Redis(News),
}

/// A client that asks for a WebSocket.
struct Newcomer {
    rooms: Vec<String>,
    peer: IpAddr,
    socket: Sender<ws::Message>,
    answer: oneshot::Sender<Result<ConnId, Refused>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = serve().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:8080".to_owned());
    let redis = args.next().map(|url| url.parse::<RedisTarget>()).transpose();
    let redis = redis.map_err(|error| format!("that is no URL of a Redis: {error}"))?;
    let listener = TcpListener::bind(&address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", listener.local_addr()?);
    let (hub, inputs) = channel(INPUTS_MAX);
    let broker = Broker::new(redis, hub.clone())?;
    let mut config = Config::default();
    (config.seed, config.node) = (getrandom::u64()?, getrandom::u64()?);
    config.limits.message_bytes_max = MESSAGE_BYTES_MAX;
    config.limits.outbox_bytes_max = 16 * 1024 * 1024;
    tokio::spawn(run(Core::new(config), broker, inputs, hub.clone()));
    let app = Router::new().route("/", any(upgrade)).route("/ws", any(upgrade)).with_state(hub);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Asks the hub for a place before axum answers. Here would stand who may come in, and into which rooms.
async fn upgrade(
    State(hub): State<Sender<Input>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    mut upgrade: WebSocketUpgrade,
) -> Response {
    // Only the pages of this host: a browser would let any page in.
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if !Origins::SameHost.allow(text(header::ORIGIN), text(header::HOST)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    // What the server's own upgrades select.
    let offered = Offered::read(upgrade.requested_protocols().map(HeaderValue::as_bytes));
    let selected = Dialect::Fanfare.subprotocol(offered, Subprotocols::Own).map(HeaderValue::from_str);
    if let Some(Ok(selected)) = selected {
        upgrade.set_selected_protocol(selected);
    }
    let rooms = query.into_iter().filter(|(name, _)| name == "room").map(|(_, room)| room).collect();
    let (socket, messages) = channel(MESSAGES_MAX);
    let (answer, opened) = oneshot::channel();
    let newcomer = Newcomer { rooms, peer: peer.ip(), socket, answer };
    if hub.send(Input::Open(newcomer)).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match opened.await {
        Ok(Ok(conn)) => {
            let ended = TellEnd { conn, hub };
            upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(|socket| carry(socket, messages, ended))
        }
        Ok(Err(Refused::Address | Refused::User)) => StatusCode::TOO_MANY_REQUESTS.into_response(),
        Ok(Err(Refused::Rooms)) => StatusCode::BAD_REQUEST.into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Tells the hub that a connection has ended, however it did: also when its upgrade came to nothing.
struct TellEnd {
    conn: ConnId,
    hub: Sender<Input>,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        let (conn, hub) = (self.conn, self.hub.clone());
        tokio::spawn(async move { hub.send(Input::Ended(conn)).await });
    }
}

/// Reads the messages of a WebSocket for the hub, and writes those of the hub.
async fn carry(socket: WebSocket, mut messages: Receiver<ws::Message>, ended: TellEnd) {
    let (mut sink, mut stream) = socket.split();
    let reader = tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let Ok(()) = ended.hub.send(Input::Message(ended.conn, message)).await else { return };
        }
    });
    // Ends when the hub lets go of the connection and what it had said is written.
    while let Some(message) = messages.recv().await {
        let Ok(Ok(())) = timeout(WRITE_TIMEOUT, sink.send(message)).await else { break };
    }
    reader.abort();
}

/// The task that owns the core.
async fn run(mut core: Core, mut broker: Broker, mut inputs: Receiver<Input>, hub: Sender<Input>) {
    let mut sockets = HashMap::<ConnId, Sender<ws::Message>>::new();
    let started = Instant::now();
    let now = || Time::from_micros(started.elapsed().as_micros() as u64);
    loop {
        broker.drive(now());
        let due = [core.next_timeout(), broker.next_timeout()].into_iter().flatten().min();
        let wait = due.map_or(Duration::MAX, |at| at.since(now()));
        let mut input = timeout(wait, inputs.recv()).await.ok().flatten();
        let now = now();
        let mut turn = core.turn(now);
        for _ in 0..INPUTS_MAX {
            match input.take() {
                None => break,
                Some(Input::Open(Newcomer { rooms, peer, socket, answer })) => {
                    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
                    let opened = turn.open_websocket(Dialect::Fanfare, &rooms, Some(peer));
                    if let Ok(conn) = opened {
                        sockets.insert(conn, socket);
                        // If nobody waits for the answer any more, nobody has the connection either.
                        if answer.send(opened).is_err() {
                            turn.feed(Event::Closed { conn });
                        }
                    } else {
                        let _ = answer.send(opened);
                    }
                }
                Some(Input::Message(conn, message)) => turn.feed(Event::Message { conn, message: to_core(&message) }),
                Some(Input::Writable(conn)) => turn.feed(Event::Writable { conn }),
                Some(Input::Ended(conn)) => turn.feed(Event::Closed { conn }),
                Some(Input::Redis(news)) => broker.hear(news, now, |event| feed(&mut turn, event)),
            }
            input = inputs.try_recv().ok();
        }
        broker.poll_events(now, |event| feed(&mut turn, event));
        turn.feed(Event::Timeout);

        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    // One copy, however many are sent it: axum's messages share theirs.
                    let messages: Vec<ws::Message> = delivery.messages().map(to_axum).collect();
                    while let Some(conn) = delivery.next_target() {
                        let taken = queue(&sockets[&conn], &messages);
                        if taken < messages.len() {
                            delivery.short_messages(conn, taken);
                            tokio::spawn(wait_for_room(conn, sockets[&conn].clone(), hub.clone()));
                        }
                    }
                }
                Action::Shutdown { .. } => unreachable!("there is no socket to half-close"),
                Action::Close { conn } => drop(sockets.remove(&conn)),
                Action::Ask(ask) => broker.ask(ask),
                Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                Action::Propose(_) => unreachable!("no rule has a hook"),
            }
        }
    }
}

/// Feeds what the broker reports, and tells an outage to whoever runs this.
fn feed(turn: &mut Turn<'_>, event: BrokerEvent<'_>) {
    if let BrokerEvent::Down { reason } = event {
        eprintln!("{reason}"); // It begins with `Redis: `.
    }
    turn.feed(Event::Broker(event));
}

/// Queues messages for a socket, as many as there is room for.
fn queue(socket: &Sender<ws::Message>, messages: &[ws::Message]) -> usize {
    for (taken, message) in messages.iter().enumerate() {
        // axum has answered pings already.
        if !matches!(message, ws::Message::Pong(_))
            && let Err(TrySendError::Full(_)) = socket.try_send(message.clone())
        {
            return taken;
        }
    }
    // Where the socket has ended, its end is on its way.
    messages.len()
}

async fn wait_for_room(conn: ConnId, socket: Sender<ws::Message>, hub: Sender<Input>) {
    if socket.reserve().await.is_ok() {
        let _ = hub.send(Input::Writable(conn)).await;
    }
}

fn to_core(message: &ws::Message) -> Message<'_> {
    match message {
        ws::Message::Text(text) => Message::Text(text),
        ws::Message::Binary(bytes) => Message::Binary(bytes),
        ws::Message::Ping(payload) => Message::Ping(payload),
        ws::Message::Pong(payload) => Message::Pong(payload),
        ws::Message::Close(body) => Message::Close(body.as_ref().map(|body| (body.code, body.reason.as_str()))),
    }
}

fn to_axum(message: Message<'_>) -> ws::Message {
    match message {
        Message::Text(text) => ws::Message::Text(text.into()),
        Message::Binary(bytes) => ws::Message::Binary(bytes.to_vec().into()),
        Message::Ping(payload) => ws::Message::Ping(payload.to_vec().into()),
        Message::Pong(payload) => ws::Message::Pong(payload.to_vec().into()),
        Message::Close(body) => {
            ws::Message::Close(body.map(|(code, reason)| ws::CloseFrame { code, reason: reason.into() }))
        }
    }
}
