//! Chat messages as an application would send them: JSON with a few fields, text of words that recur as words do, and no
//! two alike. The same number always gives the same message.

use std::fmt::Write;

/// Common words first: each is drawn about in inverse proportion to its place, as in any language.
const WORDS: [&str; 96] = [
    "the",
    "to",
    "I",
    "a",
    "you",
    "and",
    "it",
    "is",
    "that",
    "of",
    "in",
    "we",
    "for",
    "on",
    "this",
    "not",
    "be",
    "have",
    "so",
    "but",
    "with",
    "just",
    "what",
    "do",
    "at",
    "can",
    "my",
    "are",
    "if",
    "was",
    "they",
    "me",
    "like",
    "all",
    "no",
    "about",
    "out",
    "get",
    "up",
    "when",
    "one",
    "there",
    "your",
    "as",
    "now",
    "then",
    "think",
    "know",
    "how",
    "good",
    "time",
    "will",
    "here",
    "from",
    "see",
    "really",
    "would",
    "some",
    "going",
    "today",
    "need",
    "why",
    "tomorrow",
    "still",
    "meeting",
    "right",
    "build",
    "sorry",
    "thanks",
    "maybe",
    "again",
    "morning",
    "question",
    "deploy",
    "wait",
    "nobody",
    "quickly",
    "yesterday",
    "server",
    "coffee",
    "release",
    "actually",
    "weekend",
    "somebody",
    "pictures",
    "interesting",
    "customers",
    "afternoon",
    "impossible",
    "discussion",
    "remember",
    "branch",
    "weather",
    "station",
    "dinner",
    "everything",
];
const NAMES: [&str; 12] =
    ["anna", "björn", "chidi", "dolores", "emre", "fatima", "goran", "hana", "ines", "jun", "katya", "liam"];

/// Message number `number`, of `bytes` bytes in all.
///
/// # Panics
/// If it is too small for the fields around the text.
pub fn message(number: u64, bytes: usize) -> String {
    let mut random = Random(number.wrapping_mul(2) + 1);
    let name = NAMES[random.below(NAMES.len())];
    let mut message = format!(
        r#"{{"id":"{:012x}","from":"{name}","at":{},"text":""#,
        random.next() >> 16,
        1_790_000_000 + number * 7
    );
    let end = r#""}"#;
    assert!(message.len() + end.len() <= bytes, "no message of {bytes} bytes");
    while message.len() + end.len() < bytes {
        // Evenly drawn from 0 to 1 and then to the third power: the first words come by far the most often.
        let place = random.below(1 << 16) as f64 / f64::from(1 << 16);
        let word = WORDS[(place.powi(3) * WORDS.len() as f64) as usize];
        let mark = match random.below(12) {
            0 => ". ",
            1 => ", ",
            _ => " ",
        };
        // Writing to a string cannot fail.
        let _ = write!(message, "{word}{mark}");
    }
    // Words are ASCII, so a cut among them is one between characters.
    message.truncate(bytes - end.len());
    message + end
}

/// SplitMix64: enough for words.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn messages_are_json_of_the_size_asked_for_and_no_two_alike() {
        for bytes in [100, 500, 2_000] {
            let messages: Vec<String> = (0..100).map(|number| message(number, bytes)).collect();
            for message in &messages {
                assert_eq!(message.len(), bytes);
                let value: Value = serde_json::from_str(message).unwrap();
                assert!(value["text"].as_str().unwrap().len() > 10, "{message}");
            }
            assert!(messages.windows(2).all(|pair| pair[0] != pair[1]));
            assert_eq!(messages[7], message(7, bytes));
        }
    }
}
