//! What is sent and what is answered, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A message that may be published if the endpoint says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Where.
    pub room: String,
    /// Who says it, if it is known.
    pub user: Option<String>,
    /// On which connection.
    pub connection: String,
    /// One JSON value.
    pub message: String,
}

/// What the endpoint says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is published.
    Allow,
    /// This is published, one JSON value.
    Alter(String),
    /// It is not, and its sender is told why.
    Refuse(String),
}

/// What the endpoint is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client is connected.
    Connected {
        /// Its name on this instance.
        connection: String,
        /// Who that is, if it is known.
        user: Option<String>,
        /// Where it comes from, if that is known.
        address: Option<String>,
        /// What it speaks.
        dialect: String,
    },
    /// It has become known who a connected client is.
    Identified {
        /// Its name on this instance.
        connection: String,
        /// Who that is.
        user: String,
    },
    /// It is connected no more.
    Disconnected {
        /// Its name on this instance.
        connection: String,
        /// Who that is, if it has become known.
        user: Option<String>,
        /// Of the close frame, where there was one with a code.
        code: Option<u16>,
    },
    /// A room has its first member on this instance.
    Occupied {
        /// Its name.
        room: String,
    },
    /// A room has lost its last member on this instance.
    Vacated {
        /// Its name.
        room: String,
    },
}

#[derive(Serialize)]
struct Envelope<'a, D> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    r#type: &'static str,
    timestamp: String,
    data: D,
}

#[derive(Serialize)]
struct Asked<'a> {
    instance: &'a str,
    connection: &'a str,
    user: Option<&'a str>,
    room: &'a str,
    message: &'a RawValue,
}

#[derive(Serialize)]
struct Batch<'a> {
    instance: &'a str,
    events: &'a [Box<RawValue>],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Connected { connection: &'a str, user: Option<&'a str>, address: Option<&'a str>, dialect: &'a str },
    Identified { connection: &'a str, user: &'a str },
    Disconnected { connection: &'a str, user: Option<&'a str>, code: Option<u16> },
    Room { room: &'a str },
}

fn time(ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers can be written")
}

impl Question {
    /// The body that asks it; nothing, if its message is no JSON.
    pub(crate) fn body(&self, instance: &str, now_ms: u64) -> Option<String> {
        let message: &RawValue = serde_json::from_str(&self.message).ok()?;
        let Self { room, user, connection, .. } = self;
        let data = Asked { instance, connection, user: user.as_deref(), room, message };
        Some(json(&Envelope { id: None, r#type: "message.before_publish", timestamp: time(now_ms), data }))
    }
}

impl Event {
    /// Its place in a batch.
    pub(crate) fn item(&self, id: &str, now_ms: u64) -> Box<RawValue> {
        let (r#type, data) = match self {
            Event::Connected { connection, user, address, dialect } => (
                "client.connected",
                Told::Connected { connection, user: user.as_deref(), address: address.as_deref(), dialect },
            ),
            Event::Identified { connection, user } => ("client.identified", Told::Identified { connection, user }),
            Event::Disconnected { connection, user, code } => {
                ("client.disconnected", Told::Disconnected { connection, user: user.as_deref(), code: *code })
            }
            Event::Occupied { room } => ("room.occupied", Told::Room { room }),
            Event::Vacated { room } => ("room.vacated", Told::Room { room }),
        };
        let text = json(&Envelope { id: Some(id), r#type, timestamp: time(now_ms), data });
        RawValue::from_string(text).expect("it was written as JSON")
    }
}

/// The body that tells of these events.
pub(crate) fn batch(events: &[Box<RawValue>], instance: &str, now_ms: u64) -> String {
    let data = Batch { instance, events };
    json(&Envelope { id: None, r#type: "events", timestamp: time(now_ms), data })
}

#[derive(Deserialize)]
struct Answered<'a> {
    result: &'a str,
    reason: Option<String>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// What an answer of this status and body says, or why it says nothing. A page that a proxy in between has made is none.
pub(crate) fn answer(status: u16, body: &[u8], message_bytes_max: usize) -> Result<Answer, String> {
    match status {
        204 => return Ok(Answer::Allow),
        200 => {}
        other => return Err(format!("status {other}")),
    }
    let answered: Answered<'_> =
        serde_json::from_slice(body).map_err(|_| "its answer is no JSON object with a result".to_owned())?;
    match (answered.result, answered.message) {
        ("allow", _) => Ok(Answer::Allow),
        ("refuse", _) => Ok(Answer::Refuse(answered.reason.unwrap_or_else(|| "this message was refused".to_owned()))),
        ("alter", Some(message)) if message.get().len() <= message_bytes_max => {
            Ok(Answer::Alter(message.get().to_owned()))
        }
        ("alter", Some(_)) => Err("its message is longer than limits.message_bytes_max".to_owned()),
        ("alter", None) => Err("it alters without a message".to_owned()),
        _ => Err("its result is none of allow, alter and refuse".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_events_are_written() {
        let question = Question {
            room: "a\"".to_owned(),
            user: None,
            connection: "0-1".to_owned(),
            message: r#"{"z": 1.50}"#.to_owned(),
        };
        let expected = r#"{"type":"message.before_publish","timestamp":"1970-01-01T00:00:01.5Z","data":{"instance":"i","connection":"0-1","user":null,"room":"a\"","message":{"z": 1.50}}}"#;
        assert_eq!(question.body("i", 1_500).unwrap(), expected);
        assert_eq!(Question { message: "{".to_owned(), ..question }.body("i", 0), None);
        let event =
            Event::Disconnected { connection: "0-1".to_owned(), user: Some("bob".to_owned()), code: Some(1000) };
        let item = event.item("evt_1", 0);
        let expected = r#"{"id":"evt_1","type":"client.disconnected","timestamp":"1970-01-01T00:00:00Z","data":{"connection":"0-1","user":"bob","code":1000}}"#;
        assert_eq!(item.get(), expected);
        let room = Event::Vacated { room: "r".to_owned() }.item("e", 0);
        assert!(
            room.get().ends_with(r#""type":"room.vacated","timestamp":"1970-01-01T00:00:00Z","data":{"room":"r"}}"#)
        );
        let text = batch(&[item, room], "i", 0);
        assert!(text.starts_with(
            r#"{"type":"events","timestamp":"1970-01-01T00:00:00Z","data":{"instance":"i","events":[{"id""#
        ));
    }

    #[test]
    fn answers_say_one_of_three_things_or_nothing() {
        let say = |status, body: &str| answer(status, body.as_bytes(), 10);
        assert_eq!(say(204, ""), Ok(Answer::Allow));
        assert_eq!(say(200, r#"{"result":"allow","more":1}"#), Ok(Answer::Allow));
        assert_eq!(say(200, r#"{"result":"refuse","reason":"no"}"#), Ok(Answer::Refuse("no".to_owned())));
        assert_eq!(say(200, r#"{"result":"refuse"}"#), Ok(Answer::Refuse("this message was refused".to_owned())));
        assert_eq!(say(200, r#"{"result":"alter","message": {"a": 1} }"#), Ok(Answer::Alter(r#"{"a": 1}"#.to_owned())));
        for (status, body) in [
            (200, ""),
            (200, "ok"),
            (200, r#"{"result":"alter"}"#),
            (200, r#"{"result":"alter","message":"longer than ten"}"#),
            (200, r#"{"result":"maybe"}"#),
            (403, r#"{"result":"refuse"}"#),
            (201, r#"{"result":"allow"}"#),
        ] {
            assert!(say(status, body).is_err(), "{status} {body}");
        }
    }
}
