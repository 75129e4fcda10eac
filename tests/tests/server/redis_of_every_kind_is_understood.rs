//! Servers that are not what the URL says they are: older, behind a proxy, without a password, or no Redis at all. What can be
//! spoken to is, and of everything else it is said in words what it is. Each is a real socket with a server that answers as such
//! a one does.

use fanfare_tests::{Client, Launch, Redis, Server, eventually, get};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// In front of an answer: it is not said before the next command of this name has one, nor is what comes in between.
pub(crate) const LATER: &str = "later ";

/// Answers commands until its client leaves; threads end with their connections. An empty answer is what a Redis of today says.
pub(crate) fn serve(answer: impl Fn(&[String]) -> String + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it listens").port();
    let (messages, published) = channel::<(String, String)>();
    let subscribers = Arc::<Subscribers>::default();
    let all = Arc::clone(&subscribers);
    thread::spawn(move || {
        for (channel, payload) in published {
            for (_, stream) in all.lock().expect("nobody panics").iter_mut().filter(|(of, _)| *of == channel) {
                let text = format!(
                    "*3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n${}\r\n{payload}\r\n",
                    channel.len(),
                    payload.len()
                );
                let _ = stream.write_all(text.as_bytes());
            }
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, messages, subscribers) = (answer.clone(), messages.clone(), subscribers.clone());
            let Ok(stream) = stream else { return };
            thread::spawn(move || converse(&stream, answer, &messages, &subscribers));
        }
    });
    port
}

/// Each with its channel.
type Subscribers = Mutex<Vec<(String, TcpStream)>>;

fn converse(
    stream: &TcpStream,
    answer: impl Fn(&[String]) -> String,
    messages: &Sender<(String, String)>,
    subscribers: &Subscribers,
) {
    let mut lines = BufReader::new(stream);
    let (mut held, mut until) = (String::new(), None);
    while let Some(command) = read_command(&mut lines) {
        let said = answer(&command);
        let said = match (said.as_str(), &command[..]) {
            ("", [name, channels @ ..]) if name == "SUBSCRIBE" => {
                let confirm = |channel: &String| {
                    let own = stream.try_clone().expect("a socket can be cloned");
                    subscribers.lock().expect("nobody panics").push((channel.clone(), own));
                    format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len())
                };
                channels.iter().map(confirm).collect()
            }
            ("", [name, channel, payload]) if name == "PUBLISH" => {
                messages.send((channel.clone(), payload.clone())).expect("somebody passes it on");
                ":1\r\n".to_owned()
            }
            ("", [name]) if name == "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_owned(),
            ("", [name]) if name == "PING" => "+PONG\r\n".to_owned(),
            ("", _) => "+OK\r\n".to_owned(),
            (said, _) => said.to_owned(),
        };
        until.take_if(|name| *name == command[0]);
        let said = match said.strip_prefix(LATER) {
            Some(said) => {
                until = Some(command[0].clone());
                said
            }
            None => &said,
        };
        held.push_str(said);
        let mut writer = stream;
        if until.is_none() && writer.write_all(std::mem::take(&mut held).as_bytes()).is_err() {
            return;
        }
    }
}

fn read_command(lines: &mut BufReader<&TcpStream>) -> Option<Vec<String>> {
    let count = read_number(lines, '*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut bytes = vec![0; read_number(lines, '$')? + 2];
        lines.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - 2);
        words.push(String::from_utf8(bytes).ok()?);
    }
    Some(words)
}

fn read_number(lines: &mut BufReader<&TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}

fn launch(url: impl ToString) -> Launch {
    Server::launch().flag("--redis-url", url).flag("--redis-backoff-ms-max", 100).ops()
}

fn expect_flow(server: &Server) {
    let mut client = Client::member(server, "r");
    client.publish("r", r#""m""#);
    client.expect_message("r", r#""m""#);
}

/// In the log, and at `/readyz` of the operations port, with the address and the prefix.
#[track_caller]
fn expect_words(url: &str, address: &str, words: &str) {
    let server = launch(url).not_ready().start();
    let told = server.wait_for_log("redis not reached yet, trying again");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains(words)), "{told}");
    assert_eq!((&told["address"], &told["prefix"]), (&address.into(), &"fanfare:".into()), "{told}");
    let name = format!("({address}, prefix \"fanfare:\")");
    eventually("the operations port says so", || {
        let text = get(server.ops_address(), "/readyz").text();
        (text.contains(words) && text.contains(&name)).then_some(())
    });
}

/// As Redis before version 6: no users, no `HELLO`.
fn as_redis_5(command: &[String], password: &str) -> String {
    match command {
        [name, ..] if name == "HELLO" => "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n".to_owned(),
        [name, given] if name == "AUTH" && given == password => "+OK\r\n".to_owned(),
        [name, _] if name == "AUTH" => "-ERR invalid password\r\n".to_owned(),
        [name, ..] if name == "AUTH" => "-ERR wrong number of arguments for 'auth' command\r\n".to_owned(),
        _ => String::new(),
    }
}

#[test]
fn the_user_default_is_known_to_a_redis_without_users() {
    let port = serve(|command| as_redis_5(command, "pw"));
    for user in ["", "default"] {
        expect_flow(&launch(format!("redis://{user}:pw@127.0.0.1:{port}")).start());
    }
    expect_words(
        &format!("redis://h:pw@127.0.0.1:{port}"),
        &format!("127.0.0.1:{port}"),
        "older than Redis 6 and knows no users",
    );
    expect_words(&format!("redis://:no@127.0.0.1:{port}"), &format!("127.0.0.1:{port}"), "it has another password");
}

#[test]
fn whoever_refuses_hello_is_spoken_to_in_resp2() {
    for refusal in [
        "NOPERM this user has no permissions to run the 'hello' command or its subcommand",
        "ERR syntax error",
        "ERR wrong number of arguments for 'hello' command",
        "ERR command 'HELLO' is not allowed",
        "NOPROTO unsupported protocol version",
        "ERR unknown command 'HELLO'",
    ] {
        let port = serve(move |command| match command[0].as_str() {
            "HELLO" => format!("-{refusal}\r\n"),
            // A proxy, or an ACL, that allows nothing else.
            "ROLE" | "CLIENT" | "PING" | "INFO" => "-ERR command is not allowed\r\n".to_owned(),
            _ => String::new(),
        });
        expect_flow(&launch(format!("redis://ann:pw@127.0.0.1:{port}")).start());
    }
}

#[test]
fn what_is_missing_is_said_in_words() {
    let redis = Redis::launch().password("s3cret").start();
    let address = format!("127.0.0.1:{}", redis.port());
    expect_words(&format!("redis://{address}"), &address, "it wants a password, and none is given");
    expect_words(&format!("redis://:no@{address}"), &address, "it does not know this user and password");

    let protected =
        serve(|_| "-DENIED Redis is running in protected mode because protected mode is enabled\r\n".to_owned());
    expect_words(&format!("valkey://127.0.0.1:{protected}"), &format!("127.0.0.1:{protected}"), "protected mode");
    let sentinel = serve(|command| match command[0].as_str() {
        "ROLE" => "*2\r\n$8\r\nsentinel\r\n*0\r\n".to_owned(),
        _ => String::new(),
    });
    expect_words(&format!("redis://127.0.0.1:{sentinel}"), &format!("127.0.0.1:{sentinel}"), "it is a Sentinel");
}

#[test]
fn what_is_no_redis_is_said_in_words() {
    for (says, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], "speaks HTTP, and is no Redis"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS, as rediss"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there is no Redis"),
        (b"", "before it said a word (a port that speaks TLS?)"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                // Nothing is left unread, which would be a reset.
                let _ = stream.read(&mut [0; 1_024]);
                let _ = stream.write_all(says);
            }
        });
        expect_words(&format!("redis://127.0.0.1:{port}"), &format!("127.0.0.1:{port}"), words);
    }
}
