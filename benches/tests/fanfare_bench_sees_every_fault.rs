//! A server by script, which loses, repeats and swaps messages, and closes connections, under the load generator.
#![cfg(target_os = "linux")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::thread;

use common::{Told, run};
use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket, accept};

/// What the server does with a message: its number, from 0, and what the one member would be sent.
type Script = fn(usize, Message, &mut WebSocket<TcpStream>, &mut Vec<Message>) -> tungstenite::Result<()>;

/// Puts a server that does as `script` says, with one publisher and one member, under a load of 20 messages.
fn told_of(script: Script) -> Told {
    told_with("", script)
}

/// The same with more arguments.
fn told_with(arguments: &str, script: Script) -> Told {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let enter = || accept(listener.accept().unwrap().0).unwrap();
        let (mut publisher, mut member) = (enter(), enter());
        let command = read(&mut member).unwrap();
        assert_eq!(command["type"], "SUBSCRIBE");
        member.send(json!({"type": "SUBSCRIBED", "room": command["room"]}).to_string().into()).unwrap();
        let mut held = Vec::new();
        for number in 0.. {
            // The load generator is done when it has gone.
            let Some(command) = read(&mut publisher) else { return };
            let message = json!({"type": "MESSAGE", "message": command["message"], "room": command["roomId"]});
            if script(number, message.to_string().into(), &mut member, &mut held).is_err() {
                return;
            }
        }
    });
    let told =
        run(&format!("{url} --connections 1 --publishers 1 --messages 20 --in-flight 4 --warm-up 0 {arguments}"));
    server.join().unwrap();
    told
}

fn read(socket: &mut WebSocket<TcpStream>) -> Option<Value> {
    serde_json::from_str(socket.read().ok()?.to_text().ok()?).ok()
}

#[test]
fn nothing_is_wrong_with_a_server_that_does_its_work() {
    let told = told_of(|_, message, member, _| member.send(message));
    assert!(told.success, "{}", told.stderr);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 0, 0], &json!(20)));
}

#[test]
fn a_lost_message_is_missed() {
    let told =
        told_with("--patience 2", |number, message, member, _| if number == 3 { Ok(()) } else { member.send(message) });
    assert!(!told.success && told.stderr.contains("not every message"), "{}", told.stderr);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([1, 0, 0], &json!(19)));
}

#[test]
fn a_repeated_message_is_noticed() {
    let told = told_of(|number, message, member, _| {
        if number == 5 {
            member.send(message.clone())?;
        }
        member.send(message)
    });
    assert!(!told.success);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 1, 0], &json!(20)));
}

#[test]
fn two_swapped_messages_are_out_of_order() {
    let told = told_of(|number, message, member, held| {
        if number == 7 {
            held.push(message);
            return Ok(());
        }
        member.send(message)?;
        held.drain(..).try_for_each(|message| member.send(message))
    });
    assert!(!told.success);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 0, 1], &json!(20)));
}

#[test]
fn a_connection_that_is_closed_ends_it_with_what_was_counted() {
    let told = told_of(|number, message, member, _| {
        if number == 10 {
            return member.close(Some(CloseFrame { code: 4008.into(), reason: "too slow".into() }));
        }
        member.send(message)
    });
    assert!(!told.success);
    for text in ["connection 0", "4008", "too slow"] {
        assert!(told.stderr.contains(text), "no {text} in {}", told.stderr);
    }
    // What was on its way is not called lost. How much that was depends on what came together with the close frame, for
    // which nothing new was sent any more: at least the message that the server answered with it.
    let [messages, deliveries, unfinished] =
        ["messages", "deliveries", "unfinished"].map(|key| told.json[key].as_u64().unwrap());
    assert_eq!((deliveries, deliveries + unfinished, told.faults()), (10, messages, [0, 0, 0]));
    assert!((1..=4).contains(&unfinished), "{unfinished}");
    assert!(told.json["error"].as_str().unwrap().contains("4008"));
}
