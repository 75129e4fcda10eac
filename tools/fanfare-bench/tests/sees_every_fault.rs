//! A server by script, which loses, repeats, swaps and alters messages, and closes connections, under the load generator.
#![cfg(target_os = "linux")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket, accept};

use common::{Told, run};

/// What the server does with a message: its number, from 0, and what the one member would be sent.
type Script = fn(usize, Message, &mut WebSocket<TcpStream>, &mut Vec<Message>) -> tungstenite::Result<()>;

/// Puts a server that does as `script` says, with one publisher and one member, under a load of 20 messages.
fn told_of(script: Script) -> Told {
    told_with("", script)
}

/// The same with more arguments.
fn told_with(arguments: &str, script: Script) -> Told {
    told_by([1, 1], arguments, subscribed, move |room| {
        let mut held = Vec::new();
        for number in 0.. {
            let Some(command) = room.next(0) else { return };
            if script(number, text(&message(&command)), &mut room.members[0], &mut held).is_err() {
                return;
            }
        }
    })
}

/// Everybody who has come to a server by script.
struct Room {
    publishers: Vec<WebSocket<TcpStream>>,
    members: Vec<WebSocket<TcpStream>>,
}

impl Room {
    /// What a publisher says next; none when the load generator has gone.
    fn next(&mut self, publisher: usize) -> Option<Value> {
        read(&mut self.publishers[publisher])
    }
}

/// Puts a server of so many publishers and members, which answers a `SUBSCRIBE` as `confirm` says and then does as `serve`
/// says, under a load of 20 messages, or of the time that `arguments` say.
fn told_by(
    [publishers, members]: [usize; 2],
    arguments: &str,
    confirm: fn(&Value) -> Value,
    serve: impl FnOnce(&mut Room) + Send + 'static,
) -> Told {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut enter = |_| accept(listener.accept().unwrap().0).unwrap();
        let publishers = (0..publishers).map(&mut enter).collect();
        let mut members: Vec<_> = (0..members).map(&mut enter).collect();
        for member in &mut members {
            let command = read(member).unwrap();
            assert_eq!(command["type"], "SUBSCRIBE");
            member.send(text(&confirm(&command))).unwrap();
        }
        serve(&mut Room { publishers, members });
    });
    let told = run(&format!(
        "{url} --connections {members} --publishers {publishers} --in-flight 4 --warm-up 0 {} {arguments}",
        if arguments.contains("--seconds") { "" } else { "--messages 20" }
    ));
    server.join().unwrap();
    told
}

fn read(socket: &mut WebSocket<TcpStream>) -> Option<Value> {
    serde_json::from_str(socket.read().ok()?.to_text().ok()?).ok()
}

fn text(value: &Value) -> Message {
    value.to_string().into()
}

/// The right answer to a `SUBSCRIBE`.
fn subscribed(command: &Value) -> Value {
    json!({"type": "SUBSCRIBED", "room": command["room"]})
}

/// What members get of a `SEND_MESSAGE`.
fn message(command: &Value) -> Value {
    json!({"type": "MESSAGE", "message": command["message"], "room": command["roomId"]})
}

/// Runs it with one member who gets one of the messages as `alter` makes it, and checks that the run fails and says `why`,
/// in words and in JSON.
fn assert_noticed(why: &str, alter: fn(&mut Value)) {
    let told = told_by([1, 1], "", subscribed, move |room| {
        for number in 0.. {
            let Some(command) = room.next(0) else { return };
            let mut message = message(&command);
            if number == 9 {
                alter(&mut message);
            }
            if room.members[0].send(text(&message)).is_err() {
                return;
            }
        }
    });
    assert_fails(&told, &["connection 0", why]);
}

fn assert_fails(told: &Told, why: &[&str]) {
    assert!(!told.success, "{}", told.json);
    for why in why {
        assert!(told.stderr.contains(why), "no {why} in {}", told.stderr);
        assert!(told.json["error"].as_str().is_some_and(|error| error.contains(why)), "no {why} in {}", told.json);
    }
}

#[test]
fn nothing_is_wrong_with_a_server_that_does_its_work() {
    let told = told_of(|_, message, member, _| member.send(message));
    assert!(told.success, "{}", told.stderr);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 0, 0, 0], &json!(20)));
}

#[test]
fn a_lost_message_is_missed() {
    let told =
        told_with("--patience 2", |number, message, member, _| if number == 3 { Ok(()) } else { member.send(message) });
    assert_fails(&told, &["not every message", "fanfare_broker_publishes_dropped_total"]);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([1, 0, 0, 0], &json!(19)));
}

#[test]
fn a_repeated_message_is_noticed() {
    let told = told_of(|number, message, member, _| {
        if number == 5 {
            member.send(message.clone())?;
        }
        member.send(message)
    });
    assert_fails(&told, &["not every message"]);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 1, 0, 0], &json!(20)));
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
    assert_fails(&told, &["not every message"]);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 0, 1, 0], &json!(20)));
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
    assert_eq!((deliveries, deliveries + unfinished, told.faults()), (10, messages, [0, 0, 0, 0]));
    assert!((1..=4).contains(&unfinished), "{unfinished}");
    assert!(told.json["error"].as_str().unwrap().contains("4008"));
}

#[test]
fn members_who_get_two_publishers_messages_in_different_orders_are_noticed() {
    let serve = |room: &mut Room, swapped: Option<usize>| {
        for round in 0.. {
            let (Some(one), Some(other)) = (room.next(0), room.next(1)) else { return };
            let both = [text(&message(&one)), text(&message(&other))];
            for (index, member) in room.members.iter_mut().enumerate() {
                let mut both = both.clone();
                if swapped == Some(round) && index == 1 {
                    both.reverse();
                }
                if both.into_iter().any(|message| member.send(message).is_err()) {
                    return;
                }
            }
        }
    };
    let told = told_by([2, 3], "", subscribed, move |room| serve(room, None));
    assert!(told.success, "{}", told.stderr);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([0, 0, 0, 0], &json!(60)));

    let told = told_by([2, 3], "", subscribed, move |room| serve(room, Some(4)));
    assert!(!told.success, "{}", told.json);
    let [lost, duplicated, out_of_order, against_room_order] = told.faults();
    assert_eq!([lost, duplicated, out_of_order], [0, 0, 0]);
    // One member against two: which of them came first sets the order.
    assert!((1..=2).contains(&against_room_order), "{against_room_order}");
}

#[test]
fn a_message_that_is_cut_or_altered_is_noticed() {
    fn alter(message: &mut Value, how: impl FnOnce(&str) -> String) {
        message["message"] = how(message["message"].as_str().unwrap()).into();
    }
    assert_noticed("in other words", |message| alter(message, |text| text[..40].to_owned()));
    assert_noticed("in other words", |message| alter(message, |text| format!("{}y", &text[..text.len() - 1])));
    assert_noticed("in other words", |message| alter(message, |text| format!("{text}x")));
    assert_noticed("not whole", |message| alter(message, |text| text[..20].to_owned()));
    assert_noticed("in other words", |message| message["message"] = json!([message["message"]]));
    assert_noticed("another moment", |message| {
        alter(message, |text| format!("{}ffffffffffffffff{}", &text[..24], &text[40..]))
    });
}

#[test]
fn a_message_under_the_name_of_another_room_is_noticed() {
    assert_noticed("as one of \"r0001\"", |message| message["room"] = "r0001".into());
    assert_noticed("as one of null", |message| message["room"] = Value::Null);
}

#[test]
fn a_message_to_a_publisher_is_noticed() {
    let told = told_by([1, 1], "", subscribed, |room| {
        while let Some(command) = room.next(0) {
            let message = text(&message(&command));
            if room.members[0].send(message.clone()).is_err() || room.publishers[0].send(message).is_err() {
                return;
            }
        }
    });
    assert_fails(&told, &["publisher 0", "to who is in no room"]);
}

#[test]
fn a_confirmation_of_another_room_or_a_second_one_is_noticed() {
    let told = told_by(
        [1, 1],
        "",
        |_| json!({"type": "SUBSCRIBED", "room": "r0001"}),
        |room| {
            while room.next(0).is_some() {}
        },
    );
    assert_fails(&told, &["connection 0", "SUBSCRIBED", "'r0001'"]);
    let told = told_by([1, 1], "", subscribed, |room| {
        // The load generator may have gone already.
        let _ = room.members[0].send(text(&json!({"type": "SUBSCRIBED", "room": "r0000"})));
        while room.next(0).is_some() {}
    });
    assert_fails(&told, &["connection 0", "SUBSCRIBED", "'r0000'"]);
}

#[test]
fn a_duplicate_that_comes_late_is_noticed() {
    for extent in ["", "--seconds 0.2"] {
        let told = told_by([1, 1], &format!("{extent} --linger 3"), subscribed, |room| {
            let mut last = None;
            room.publishers[0].get_ref().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            // Nothing has come for so long: it was the last one.
            while let Some(command) = room.next(0) {
                let message = text(&message(&command));
                room.members[0].send(message.clone()).unwrap();
                last = Some(message);
            }
            room.members[0].send(last.unwrap()).unwrap();
            room.publishers[0].get_ref().set_read_timeout(None).unwrap();
            while room.next(0).is_some() {}
        });
        assert!(!told.success, "{}", told.json);
        assert_eq!(told.faults(), [0, 1, 0, 0]);
    }
}

#[test]
fn the_order_of_a_room_that_has_lost_messages_is_not_judged() {
    let told = told_by([2, 2], "--patience 1", subscribed, |room| {
        for round in 0.. {
            let (Some(one), Some(other)) = (room.next(0), room.next(1)) else { return };
            for (index, member) in room.members.iter_mut().enumerate() {
                // For the first member, the second message comes first to anybody, and rightly.
                let lost = round == 4 && index == 0;
                if (!lost && member.send(text(&message(&one))).is_err()) || member.send(text(&message(&other))).is_err()
                {
                    return;
                }
            }
        }
    });
    assert_fails(&told, &["not every message"]);
    assert_eq!((told.faults(), &told.json["deliveries"]), ([1, 0, 0, 0], &json!(39)));
}

#[test]
fn a_server_that_falls_silent_ends_a_run_of_any_length() {
    let told = told_with(
        "--seconds 600 --patience 1",
        |number, message, member, _| {
            if number < 10 { member.send(message) } else { Ok(()) }
        },
    );
    assert_fails(&told, &["nothing has arrived for 1s"]);
    // What is on its way in a window of four.
    assert_eq!((told.faults(), &told.json["deliveries"]), ([4, 0, 0, 0], &json!(10)));
}

#[test]
fn a_message_of_somebody_else_is_counted_and_no_fault() {
    let told = told_of(|number, message, member, _| {
        if number == 3 {
            member.send(text(&json!({"type": "MESSAGE", "room": "r0000", "message": "#1234567 from elsewhere"})))?;
        }
        member.send(message)
    });
    assert!(told.success, "{}", told.stderr);
    assert_eq!((told.faults(), &told.json["foreign"]), ([0, 0, 0, 0], &json!(1)));
}
