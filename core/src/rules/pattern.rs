//! Patterns of rooms' names, and how names are matched with them.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The longest pattern, in bytes: as long as the longest name that a room may have.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// In a pattern, what stands for a whole segment that is not empty.
const USER: &str = "{user}";
/// In a pattern, what stands for all the rest.
const REST: &str = "**";

/// A pattern of rooms' names, whose segments are parted by colons. In a segment, `*` matches any characters, also none. The segment
/// `{user}` matches any that is not empty. `**` at the end matches all the rest, colons too, also nothing. Everything else is itself.
///
/// ```
/// use fanfare_core::rules::Pattern;
///
/// let fits = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().fits(name);
/// assert!(fits("chat:*", "chat:42") && !fits("chat:*", "chat:42:typing") && !fits("chat:*", "chat"));
/// assert!(fits("user:{user}:inbox", "user:alice:inbox") && !fits("user:{user}:inbox", "user::inbox"));
/// assert!(fits("game:**", "game:7:board") && fits("**", "anything:at:all"));
/// assert!("game:**:board".parse::<Pattern>().is_err());
/// ```
///
/// Matching takes steps in proportion to the lengths of the pattern and the name together, whatever they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    /// How many bytes there are before the first that stands for others.
    literal: usize,
}

impl Pattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a room of this name is one of these.
    pub fn fits(&self, name: &str) -> bool {
        self.fits_by(name, |text, part| text.find(part))
    }

    /// Whether it has the segment `{user}`.
    pub fn has_user(&self) -> bool {
        self.parts().0.split(':').any(|segment| segment == USER)
    }

    /// Whether a name that fits has this user's [segment](super::user_segment) where the pattern has `{user}`; at one such place, where
    /// there are several.
    pub fn names(&self, name: &str, user: &str) -> bool {
        let mut pairs = self.parts().0.split(':').zip(name.split(':'));
        pairs.any(|(segment, named)| segment == USER && named == user)
    }

    /// Whether each name that fits the other pattern fits this one as well. It is never said wrongly, but may be missed.
    pub fn covers(&self, other: &Pattern) -> bool {
        // It changes no answer, and spares most pairs of rules the rest: they begin otherwise.
        if !other.text.as_bytes()[..other.literal].starts_with(&self.text.as_bytes()[..self.literal]) {
            return false;
        }
        // What no name and no pattern has stands for what the other leaves open: only what is open here can match it. The shortest names
        // are tried too, because `{user}` takes no empty segment, and because only `**` matches both with more colons and with fewer.
        let (closed, is_open) = other.parts();
        let with = |user: &str, star: &str, rest: &str| {
            let segments: Vec<_> = closed
                .split(':')
                .map(|segment| if segment == USER { user.to_owned() } else { segment.replace('*', star) })
                .collect();
            format!("{}{}", segments.join(":"), if is_open { rest } else { "" })
        };
        self.fits(&with("\u{1}", "\u{1}", "\u{1}:\u{1}")) && self.fits(&with("\u{1}", "", ""))
    }

    /// What stands before `**`, and whether that is there.
    fn parts(&self) -> (&str, bool) {
        parts(&self.text)
    }

    /// `find` says where the first `part` of a text begins, in steps in proportion to how far it looks.
    fn fits_by(&self, name: &str, mut find: impl FnMut(&str, &str) -> Option<usize>) -> bool {
        if !name.as_bytes().starts_with(&self.text.as_bytes()[..self.literal]) {
            return false;
        }
        let (closed, is_open) = self.parts();
        let (mut segments, mut names) = (closed.split(':').peekable(), name.split(':'));
        while let Some(segment) = segments.next() {
            let Some(name) = names.next() else { return false };
            let is_begin = is_open && segments.peek().is_none();
            if !segment_fits(segment, name, is_begin, &mut find) {
                return false;
            }
            if is_begin {
                return true;
            }
        }
        names.next().is_none()
    }
}

/// What of a pattern stands before `**`, and whether that is there.
fn parts(text: &str) -> (&str, bool) {
    text.strip_suffix(REST).map_or((text, false), |closed| (closed, true))
}

/// `is_begin`: it is enough that the segment begins so. Each part between stars is looked for right of the one before, where it comes
/// first, so that nothing is looked at twice: where the parts fit at all, they fit there.
fn segment_fits(
    pattern: &str,
    segment: &str,
    is_begin: bool,
    mut find: impl FnMut(&str, &str) -> Option<usize>,
) -> bool {
    if pattern == USER {
        return !segment.is_empty();
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = segment.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return is_begin || rest.is_empty() };
    for part in parts {
        let Some(at) = find(rest, part) else { return false };
        rest = &rest[at + part.len()..];
    }
    if is_begin { find(rest, last).is_some() } else { rest.ends_with(last) }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(PatternError::ControlCharacter);
        }
        let (closed, is_open) = parts(text);
        if closed.contains(REST) || (is_open && closed.ends_with('*')) {
            return Err(PatternError::RestNotLast);
        }
        let segments = if is_open { &text[..closed.len() + 1] } else { text };
        if segments.split(':').any(|segment| segment != USER && segment.contains(USER)) {
            return Err(PatternError::UserNotAlone);
        }
        let literal = [text.find('*'), text.find(USER)].into_iter().flatten().min().unwrap_or(text.len());
        Ok(Pattern { text: text.into(), literal })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// There is nothing.
    Empty,
    /// It has more than [`PATTERN_BYTES_MAX`] bytes.
    TooLong,
    /// It has a control character, and no room's name has one.
    ControlCharacter,
    /// Something stands behind `**`, or a third star before it.
    RestNotLast,
    /// `{user}` is a part of a segment.
    UserNotAlone,
    /// `{user}` is in a grant, where it would stand for every user.
    UserInGrant,
    /// There are more of them than [`GRANTS_MAX`](super::GRANTS_MAX).
    TooMany,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::Empty => f.write_str("it is empty, and no room has an empty name"),
            PatternError::TooLong => write!(f, "it is longer than {PATTERN_BYTES_MAX} bytes, as no room's name is"),
            PatternError::ControlCharacter => f.write_str("it has a control character, and no room's name has one"),
            PatternError::RestNotLast => {
                f.write_str("** matches all the rest, so it stands once, at the end, and with two stars")
            }
            PatternError::TooMany => write!(f, "there are more than {} of them", super::permission::GRANTS_MAX),
            PatternError::UserInGrant => f.write_str(
                "in a grant, {user} would match every user, so the name itself belongs there, percent-encoded",
            ),
            PatternError::UserNotAlone => {
                f.write_str("{user} matches a whole segment, so nothing but a colon may stand beside it")
            }
        }
    }
}

impl Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|why| panic!("{text:?}: {why}"))
    }

    /// The definition, read aloud: what a pattern's beginning matches is tried in every length. Exponential, and easy to believe.
    fn fits_naively(pattern: &str, name: &str, at_start: bool) -> bool {
        if pattern == REST {
            return true;
        }
        if at_start && let Some(after) = pattern.strip_prefix(USER) {
            let user = name.find(':').unwrap_or(name.len());
            return user > 0 && fits_naively(after, &name[user..], false);
        }
        let Some(first) = pattern.chars().next() else { return name.is_empty() };
        let after = &pattern[first.len_utf8()..];
        if first == '*' {
            let segment = name.find(':').unwrap_or(name.len());
            let mut ends = (0..=segment).filter(|end| name.is_char_boundary(*end));
            return ends.any(|end| fits_naively(after, &name[end..], false));
        }
        name.strip_prefix(first).is_some_and(|name| fits_naively(after, name, first == ':'))
    }

    fn patterns() -> impl Strategy<Value = Pattern> {
        let parts =
            prop::sample::select(vec!["a", "a", "a*", "*a", "*", "*", "b", "é", ":", "{", ":{user}", "{user}:"]);
        (prop::collection::vec(parts, 0..8), any::<bool>())
            .prop_map(|(parts, is_open)| format!("{}{}", parts.concat(), if is_open { REST } else { "" }))
            .prop_filter_map("no pattern", |text| text.parse().ok())
    }

    /// What stands in a name for stars, each its own, and for the rest.
    fn fills() -> impl Strategy<Value = (Vec<String>, String)> {
        (prop::collection::vec("[abé]{0,2}", 8), "[ab:é]{0,4}")
    }

    /// A name that fits.
    fn name_after(pattern: &Pattern, (fills, rest): &(Vec<String>, String)) -> String {
        let (closed, is_open) = pattern.parts();
        let mut fills = fills.iter().cycle();
        let segments = closed.split(':').map(|segment| match segment {
            USER => "b".to_owned(),
            _ => {
                let mut parts = segment.split('*');
                let first = parts.next().unwrap_or_default().to_owned();
                parts.fold(first, |name, part| name + fills.next().map_or("", String::as_str) + part)
            }
        });
        segments.collect::<Vec<_>>().join(":") + if is_open { rest } else { "" }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn a_name_that_is_made_after_a_pattern_fits(pattern in patterns(), fills in fills()) {
            let name = name_after(&pattern, &fills);
            prop_assert!(pattern.fits(&name), "{} and {}", pattern, name);
        }

        #[test]
        fn a_pattern_fits_what_its_definition_says(
            pattern in patterns(),
            fills in fills(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), "[ab:é]?"), 0..3),
        ) {
            let mut name: Vec<char> = name_after(&pattern, &fills).chars().collect();
            // Almost a name that fits: a few characters are missing or others.
            for (at, other) in changes {
                if !name.is_empty() {
                    let at = at.index(name.len());
                    name.splice(at..at + 1, other.chars());
                }
            }
            let name = String::from_iter(name);
            prop_assert_eq!(pattern.fits(&name), fits_naively(pattern.as_str(), &name, true), "{} and {}", pattern, name);
        }

        #[test]
        fn what_a_covered_pattern_fits_fits_the_other(
            (wide, narrow) in (patterns(), patterns()).prop_filter("covers", |(wide, narrow)| wide.covers(narrow)),
            fills in fills(),
        ) {
            let name = name_after(&narrow, &fills);
            prop_assert!(wide.fits(&name), "{} covers {}, but not {}", wide, narrow, name);
        }

        #[test]
        fn a_pattern_is_written_as_it_was_read(pattern in patterns()) {
            prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }

    #[test]
    fn stars_stay_in_their_segment_and_the_rest_is_at_the_end() {
        for (text, fitting, others) in [
            ("chat", &["chat"][..], &["chat:", "chats", "", "Chat"][..]),
            ("chat:*", &["chat:", "chat:42", "chat:*", "chat:é"], &["chat", "chat:a:b", "achat:a"]),
            ("*", &["", "a", "a.b/c"], &["a:b", ":"]),
            ("*:*", &[":", "a:", ":b"], &["a", "a:b:c"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc"], &["ac", "acb", "abcd", "ab:c"]),
            ("a*a", &["aa", "aaa"], &["a", "ab"]),
            ("*a*a*", &["aa", "aba"], &["a", "bab", "a:a"]),
            ("**", &["", "a", "a:b:c", ":"], &[]),
            ("chat:**", &["chat:", "chat:a", "chat:a:b"], &["chat", "chats:a"]),
            ("chat**", &["chat", "chats:a", "chat:a"], &["cha"]),
            ("*.log**", &["a.log", ".log.1:b"], &["a:.log", "alog"]),
            ("user:{user}", &["user:bob", "user:{user}", "user:*"], &["user:", "user:bob:x", "user"]),
            ("{user}:**", &["a:", "a:b:c"], &[":b", "a"]),
            ("[a-z]?.{users}", &["[a-z]?.{users}"], &["b?.{users}", "[a-z]x.{users}"]),
        ] {
            for name in fitting {
                assert!(pattern(text).fits(name), "{text} does not fit {name}");
            }
            for name in others {
                assert!(!pattern(text).fits(name), "{text} fits {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_why() {
        let too_long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for (text, why) in [
            ("", PatternError::Empty),
            (too_long.as_str(), PatternError::TooLong),
            ("a\nb", PatternError::ControlCharacter),
            ("a:**:b", PatternError::RestNotLast),
            ("***", PatternError::RestNotLast),
            ("****", PatternError::RestNotLast),
            ("**a", PatternError::RestNotLast),
            ("user:{user}s", PatternError::UserNotAlone),
            ("u{user}:a", PatternError::UserNotAlone),
            ("{user}**", PatternError::UserNotAlone),
            ("{user}*", PatternError::UserNotAlone),
            ("{user}{user}", PatternError::UserNotAlone),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(why), "{text}");
        }
        assert_eq!(pattern(&too_long[1..]).as_str().len(), PATTERN_BYTES_MAX);
    }

    /// How many bytes were looked at in searches, none of which goes back: the standard library's takes steps in proportion.
    fn bytes_searched(pattern: &Pattern, name: &str) -> usize {
        let mut bytes = 0;
        pattern.fits_by(name, |text, part| {
            let found = text.find(part);
            bytes += found.map_or(text.len(), |at| at + part.len());
            found
        });
        bytes
    }

    #[test]
    fn no_pattern_and_no_name_make_more_work_than_they_are_long() {
        let name = "a".repeat(64 * 1024);
        let stars = "*a".repeat(PATTERN_BYTES_MAX / 2 - 2);
        let segments = "a*a:".repeat(64);
        for (text, name) in [
            (format!("{stars}*b"), name.clone()),
            (format!("b{stars}"), name.clone()),
            (format!("{stars}b**"), name.clone()),
            (format!("*{}b*", "a".repeat(500)), name.clone()),
            (format!("{}*b", "*aaaaaaab".repeat(100)), "aaaaaaab".repeat(8_000)),
            (format!("{segments}*b*b"), format!("{}{}", "aaaa:".repeat(64), name)),
            ("*:".repeat(500) + "**", ":".repeat(64 * 1024)),
        ] {
            let pattern = pattern(&text);
            assert!(bytes_searched(&pattern, &name) <= name.len(), "{text}");
            pattern.fits(&name);
        }
    }

    #[test]
    fn a_pattern_that_an_earlier_one_covers_is_known() {
        for (wide, narrow) in [
            ("chat:*", "chat:42"),
            ("chat:*", "chat:a*"),
            ("chat:*", "chat:*"),
            ("chat:*", "chat:{user}"),
            ("chat:**", "chat:*:b"),
            ("**", "{user}:**"),
            ("user:{user}", "user:a*"),
            ("a*b**", "a*bc**"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} covers {narrow}");
        }
        for (one, other) in [
            ("chat:*", "chat:**"),
            ("chat:*:*", "chat:**"),
            ("user:{user}", "user:*"),
            ("chat:42", "chat:*"),
            ("{us*", "{user}"),
            ("user:bob", "user:{user}"),
        ] {
            assert!(!pattern(one).covers(&pattern(other)), "{one} does not cover {other}");
        }
    }
}
