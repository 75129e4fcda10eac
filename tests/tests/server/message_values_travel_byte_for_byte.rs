//! The `message` of a `SEND_MESSAGE` is raw JSON: what the sender wrote between the commas is what members read.

use fanfare_tests::{Client, Redis, Server};

/// Values whose bytes any parser that prints them anew would change.
fn values() -> Vec<String> {
    let mut values: Vec<String> = [
        r#""Hello""#,
        r#""""#,
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1.0",
        "1e2",
        "1E+2",
        "1e400",
        "-0.10",
        "12345678901234567890123456789012345678901234567890",
        "0.1000000000000000055511151231257827021181583404541015625",
        "[]",
        "{}",
        r#"{"a" : [1, 2]}"#,
        r#"{"b":1,"a":2,"b":3}"#,
        r#"[ 1 ,[ 2,{"x":null} ] ]"#,
        "{\n  \"pretty\": [\n    \"printed\"\n  ]\n}",
        "[\t1,\r\n2 ]",
        r#""\u0041\/\b\f\n\r\t\"\\""#,
        r#""\ud83d\ude00""#,
        r#""😀 é ﷽ 𝄞""#,
        r#""\u0000""#,
        r#""</script>&<!--""#,
        r#"{"type":"SEND_MESSAGE","roomId":"other","message":"nested"}"#,
        r#""F1 0123456789abcdef -""#,
        "\"\u{7f}\u{2028}\u{feff}\"",
    ]
    .map(str::to_owned)
    .into();
    values.push(format!("\"{}\"", "é".repeat(30_000)));
    values.push(format!("[{}1]", "1, ".repeat(20_000)));
    values
}

/// Every value arrives at the sender and at another member as it was written.
fn expect_every_value(sender: &mut Client, other: &mut Client) {
    for raw in values() {
        sender.publish("r", &raw);
        sender.expect_message("r", &raw);
        other.expect_message("r", &raw);
    }
}

#[test]
fn through_the_embedded_broker() {
    let server = Server::launch().embedded().start();
    let mut sender = Client::member(&server, "r");
    let mut other = Client::member(&server, "r");
    expect_every_value(&mut sender, &mut other);
}

#[test]
fn through_redis_to_another_instance() {
    let redis = Redis::start();
    let one = Server::launch().redis(&redis).start();
    let two = Server::launch().redis(&redis).start();
    let mut sender = Client::member(&one, "r");
    let mut other = Client::member(&two, "r");
    expect_every_value(&mut sender, &mut other);
}

#[test]
fn in_the_classic_form_through_redis_to_another_instance() {
    let redis = Redis::start();
    let one = Server::launch().redis(&redis).flag("--redis-format", "classic").start();
    let two = Server::launch().redis(&redis).start();
    let mut sender = Client::member(&one, "r");
    let mut other = Client::member(&two, "r");
    expect_every_value(&mut sender, &mut other);
}

#[test]
fn wherever_the_value_stands_in_the_command() {
    let server = Server::start();
    let mut client = Client::member(&server, "r");
    for command in [
        r#"{"message": {"a" : 1} ,"type":"SEND_MESSAGE","roomId":"r"}"#,
        r#"{"type":"SEND_MESSAGE","message":{"a" : 1},"roomId":"r"}"#,
        r#"{"type":"SEND_MESSAGE","roomId":"r","message"  :   {"a" : 1}   }"#,
    ] {
        client.send(command);
        client.expect_message("r", r#"{"a" : 1}"#);
    }
}
