//! Several senders at once, and what all members of the room make of it.

use std::thread;

use crate::{Client, Server};

/// Has `senders` new clients send `each` messages to the room at the same time.
///
/// # Panics
///
/// Unless all members see all of them in one order, each sender's in the order in which it sent them.
pub fn assert_one_order(server: &Server, room: &str, members: &mut [Client], senders: usize, each: usize) {
    let sequences: Vec<Vec<(u64, u64)>> = thread::scope(|scope| {
        for sender in 0..senders {
            let mut client = Client::connect(server);
            scope.spawn(move || {
                for number in 0..each {
                    client.publish(room, &format!("[{sender},{number}]"));
                }
                client.fence();
            });
        }
        let readers: Vec<_> = members
            .iter_mut()
            .map(|member| {
                scope.spawn(move || {
                    let pair = |value: serde_json::Value| (value[0].as_u64().unwrap(), value[1].as_u64().unwrap());
                    (0..senders * each).map(|_| pair(member.recv_message(room))).collect()
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("the reader got everything")).collect()
    });
    for sequence in &sequences {
        assert_eq!(sequence, &sequences[0]);
    }
    for sender in 0..senders as u64 {
        let own = sequences[0].iter().filter(|(from, _)| *from == sender).map(|(_, number)| *number);
        assert!(own.eq(0..each as u64), "sender {sender}");
    }
}
