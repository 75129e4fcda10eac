//! A ban as JSON. Equal bans are equal texts, because a store finds them by their text.

use serde_json::{Map, Value, json};

use crate::bans::{Ban, Banned};
use crate::json;

/// A ban is flat.
const DEPTH_MAX: usize = 1;

/// What is banned, as JSON: members in the order of their names.
pub(super) fn text_of(what: &Banned) -> String {
    object_of(what).to_string()
}

/// What this text bans, unless it is none of ours.
pub(super) fn banned_in(text: &[u8]) -> Option<Banned> {
    banned_of(&json::object(text, DEPTH_MAX).ok()?)
}

/// A ban with its end.
pub(super) fn line_of(ban: &Ban) -> String {
    let mut object = object_of(&ban.what);
    object["until_ms"] = ban.until_ms.into();
    object.to_string()
}

/// The ban of such a line.
pub(super) fn ban_in(line: &[u8]) -> Option<Ban> {
    let mut object = json::object(line, DEPTH_MAX).ok()?;
    let until_ms = object.remove("until_ms")?.as_u64()?;
    Some(Ban { what: banned_of(&object)?, until_ms })
}

fn object_of(what: &Banned) -> Value {
    match what {
        Banned::User(user) => json!({ "user": user }),
        Banned::Token(id) => json!({ "token": id }),
        Banned::IssuedBefore { ms, user: None } => json!({ "issued_before_ms": ms }),
        Banned::IssuedBefore { ms, user: Some(user) } => json!({ "issued_before_ms": ms, "user": user }),
    }
}

/// A member that is not known may narrow the ban, so it is none that could be enforced.
fn banned_of(object: &Map<String, Value>) -> Option<Banned> {
    let text = |name: &str| object.get(name).map(|value| value.as_str().map(str::to_owned));
    match (text("user"), text("token"), object.get("issued_before_ms"), object.len()) {
        (Some(user), None, None, 1) => Some(Banned::User(user?)),
        (None, Some(id), None, 1) => Some(Banned::Token(id?)),
        (None, None, Some(ms), 1) => Some(Banned::IssuedBefore { ms: ms.as_u64()?, user: None }),
        (Some(user), None, Some(ms), 2) => Some(Banned::IssuedBefore { ms: ms.as_u64()?, user: Some(user?) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ban_is_read_as_it_was_written() {
        let name = "a \"b\" \u{1}\n%{user}*\u{1F600}".to_owned();
        for what in [
            Banned::User(name.clone()),
            Banned::Token(name.clone()),
            Banned::Token(String::new()),
            Banned::IssuedBefore { ms: u64::MAX, user: None },
            Banned::IssuedBefore { ms: 0, user: Some(name) },
        ] {
            assert_eq!(banned_in(text_of(&what).as_bytes()), Some(what.clone()));
            let ban = Ban { what, until_ms: 7 };
            assert!(!line_of(&ban).contains('\n'));
            assert_eq!(ban_in(line_of(&ban).as_bytes()), Some(ban));
        }
    }

    #[test]
    fn what_is_not_known_whole_is_no_ban() {
        for text in [
            "",
            "alice",
            "{}",
            r#"{"user":1}"#,
            r#"{"user":"a","token":"b"}"#,
            r#"{"user":"a","room":"b"}"#,
            r#"{"user":"a","user":"b"}"#,
            r#"{"issued_before_ms":-1}"#,
            r#"{"issued_before_ms":1.5}"#,
            r#"{"token":"a","issued_before_ms":1}"#,
            r#"{"issued_before_ms":1,"user":null}"#,
        ] {
            assert_eq!(banned_in(text.as_bytes()), None, "{text}");
        }
        assert_eq!(ban_in(br#"{"user":"a"}"#), None);
        assert_eq!(ban_in(br#"{"user":"a","until_ms":"1"}"#), None);
    }
}
