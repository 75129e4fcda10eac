//! A room's history in Redis is one, whichever instance stores, delivers or reads.

use fanfare_tests::stored::{Place, ask, hear, instances, join, store};
use fanfare_tests::{Client, Redis};
use serde_json::{Value, json};

#[test]
fn offsets_count_up_at_whichever_instance() {
    let redis = Redis::start();
    let [one, two] = instances(&redis);
    let mut members = [&one, &two].map(|server| join(server, "chat:a"));
    let mut senders = [&one, &two].map(Client::connect);
    let epoch = members[0].1.epoch.clone();
    assert_eq!(members[1].1, Place { epoch: epoch.clone(), offset: 0 });
    for number in 1..=20_u64 {
        let stored = store(&mut senders[number as usize % 2], "chat:a", number);
        assert_eq!(stored, Place { epoch: epoch.clone(), offset: number });
        for (member, _) in &mut members {
            assert_eq!(hear(member, "chat:a"), (number, json!(number)));
        }
    }
    // Rooms that no rule fits are as they were.
    senders[0].publish_acknowledged("other", "1");
}

#[test]
fn a_history_is_paged_back_and_forth() {
    let redis = Redis::start();
    let [one, two] = instances(&redis);
    let mut sender = Client::connect(&one);
    for number in 1..=120 {
        store(&mut sender, "chat:a", number);
    }
    let mut reader = Client::connect(&two);
    let mut page = |part: Value| {
        let mut command = json!({"type": "HISTORY", "room": "chat:a", "limit": 30});
        command.as_object_mut().expect("an object").extend(part.as_object().expect("an object").clone());
        let reply = ask(&mut reader, command, "HISTORY");
        let messages = reply["messages"].as_array().expect("messages");
        let numbers: Vec<u64> = messages.iter().map(|message| message["message"].as_u64().expect("a number")).collect();
        assert!(messages.iter().all(|message| message["message"] == message["offset"] && message["time"].is_u64()));
        (numbers, reply["more"].as_bool().expect("whether there are more"))
    };
    let numbers = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
    assert_eq!(page(json!({})), (numbers(91, 120), true));
    assert_eq!(page(json!({"before": 91})), (numbers(61, 90), true));
    assert_eq!(page(json!({"before": 31})), (numbers(21, 30), false), "100 are kept");
    assert_eq!(page(json!({"after": 60})), (numbers(61, 90), true));
    assert_eq!(page(json!({"after": 90})), (numbers(91, 120), false));
    assert_eq!(page(json!({"after": 120})), (vec![], false));
}

#[test]
fn a_key_stores_a_message_once_at_whichever_instance() {
    let redis = Redis::start();
    let [one, two] = instances(&redis);
    let mut clients = [&one, &two].map(Client::connect);
    let keyed = |message| json!({"type": "SEND_MESSAGE", "room": "chat:a", "message": message, "key": "a key of 22 bytes or so"});
    let places = clients.each_mut().map(|client| Place::of(&ask(client, keyed(1), "ACK")));
    assert_eq!((places[0].offset, &places[0]), (1, &places[1]));
    assert_eq!(ask(&mut clients[1], keyed(2), "ERROR")["code"], "key_reused");
    assert_eq!(store(&mut clients[0], "chat:a", 2).offset, 2);
}

/// By `redis-cli`, and as a Node server does it. What an instance does not store on purpose is something else.
#[test]
fn what_others_publish_is_delivered_live_without_an_offset_and_counted() {
    let redis = Redis::start();
    let [mut one] = instances(&redis);
    let (mut member, _) = join(&one, "chat:a");
    let mut sender = Client::connect(&one);
    ask(&mut sender, json!({"type": "SEND_MESSAGE", "room": "chat:a", "message": "typing", "store": false}), "ACK");
    member.expect_message("chat:a", r#""typing""#);
    let told = "messages of other programs are delivered and not stored";
    redis.cli(&["PUBLISH", "fanfare:chat:a", "from outside"]);
    member.expect_message("chat:a", r#""from outside""#);
    let line = one.wait_for_log(told);
    assert_eq!(
        (&line["level"], &line["room"], &line["count"]),
        (&json!("WARN"), &json!("chat:a"), &json!(1)),
        "{line}"
    );
    redis.publish("fanfare:chat:a", r#"{"type":"SEND_MESSAGE","roomId":"chat:a","message":{"of":"node"}}"#);
    member.expect_message("chat:a", r#"{"of":"node"}"#);
    one.wait_for_metrics("both are counted", |metrics| metrics.value("fanfare_history_foreign_total") == 2.0);
    assert_eq!(store(&mut sender, "chat:a", 1).offset, 1);
    assert_eq!(hear(&mut member, "chat:a"), (1, json!(1)));
    let history = ask(&mut sender, json!({"type": "HISTORY", "room": "chat:a"}), "HISTORY");
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(1), "{history}");
    // Rooms without history have nothing to lose.
    let mut other = Client::member(&one, "other");
    redis.publish("fanfare:other", "hello");
    other.expect_message("other", r#""hello""#);
    one.wait_for_metrics("all are delivered", |metrics| metrics.value("fanfare_messages_out_total") == 5.0);
    assert_eq!(one.metrics().value("fanfare_history_foreign_total"), 2.0);
    [member, sender, other].into_iter().for_each(Client::leave);
    assert_eq!(one.log_to_its_end().count(told), 1, "the second is told in a minute");
}
