//! What a rule lets whom do.

use super::{Pattern, PatternError};
use std::borrow::Cow;
use std::fmt::Write;

/// The most patterns that a user may be granted for one right, because a room's name may be held against each of them.
pub const GRANTS_MAX: usize = 256;

/// What may be done with a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Right {
    /// To become a member, and so to get what is said.
    Subscribe,
    /// To say something.
    Publish,
    /// To read what was said before.
    History,
    /// To see who is there.
    Presence,
}

/// Who has a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Who {
    /// Every connection, also one of which nobody knows whose it is.
    Anyone,
    /// Every user.
    User,
    /// Users whose [`Grants`] have a pattern that fits the room's name.
    Granted,
    /// The user whom the room's name has where the rule's pattern has `{user}`; one of them, where it has several.
    Owner,
    /// No client.
    Nobody,
}

/// Who has which right, where a rule says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// To become a member. What is not said: users, where clients are asked who they are, else anyone.
    pub subscribe: Option<Who>,
    /// To say something. The same holds where nothing is said.
    pub publish: Option<Who>,
    /// To read what was said before. What is not said: those that may become members.
    pub history: Option<Who>,
    /// To see who is there. What is not said: those that may become members.
    pub presence: Option<Who>,
}

impl Permissions {
    /// Who has the right, and by which list of [`Grants`] if that is [`Who::Granted`]: the right's own, or that of the right which it
    /// follows because nothing is said of it. `otherwise` is for what follows none: [`Who::User`] where clients are asked who they are,
    /// else [`Who::Anyone`].
    pub fn who(self, right: Right, otherwise: Who) -> (Who, Right) {
        let members = || (self.subscribe.unwrap_or(otherwise), Right::Subscribe);
        let own = |who: Option<Who>| who.map_or_else(members, |who| (who, right));
        match right {
            Right::Subscribe => members(),
            Right::Publish => (self.publish.unwrap_or(otherwise), Right::Publish),
            Right::History => own(self.history),
            Right::Presence => own(self.presence),
        }
    }

    /// All that is said.
    pub(super) fn said(self) -> impl Iterator<Item = Who> {
        [self.subscribe, self.publish, self.history, self.presence].into_iter().flatten()
    }
}

/// What a user has been granted, by the issuer of the credential: patterns of rooms' names for each right. They count where a rule says
/// [`Who::Granted`].
///
/// ```
/// use fanfare_core::rules::{Grants, Right};
///
/// let grants = Grants::default().with(Right::Subscribe, ["team:7", "chat:*"]).unwrap();
/// assert!(grants.allow(Right::Subscribe, "chat:42") && !grants.allow(Right::Publish, "chat:42"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grants {
    lists: [Box<[Pattern]>; 4],
}

impl Grants {
    /// With these patterns for this right, in place of those that it had.
    ///
    /// # Errors
    /// One of them is none, or has `{user}`, which would grant the rooms of all users. Or there are more than [`GRANTS_MAX`].
    pub fn with<'a>(
        mut self,
        right: Right,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Grants, PatternError> {
        let patterns: Vec<Pattern> =
            patterns.into_iter().take(GRANTS_MAX + 1).map(str::parse).collect::<Result<_, _>>()?;
        if patterns.len() > GRANTS_MAX {
            return Err(PatternError::TooMany);
        }
        if patterns.iter().any(Pattern::has_user) {
            return Err(PatternError::UserInGrant);
        }
        self.lists[right as usize] = patterns.into();
        Ok(self)
    }

    /// Whether one of the patterns for the right fits the room's name.
    pub fn allow(&self, right: Right, room: &str) -> bool {
        self.lists[right as usize].iter().any(|pattern| pattern.fits(room))
    }
}

/// A user's name as a segment of a room's name: all bytes but `A-Z`, `a-z`, `0-9` and `-._~@` are percent-encoded, with capital digits. So
/// two users never have the same segment, and none has a colon, a star or a brace.
///
/// ```
/// # use fanfare_core::rules::user_segment;
/// assert_eq!((&*user_segment("bob@example.org"), &*user_segment("a:b*é")), ("bob@example.org", "a%3Ab%2A%C3%A9"));
/// ```
pub fn user_segment(user: &str) -> Cow<'_, str> {
    let is_kept = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~@".contains(byte);
    if user.as_bytes().iter().all(is_kept) {
        return Cow::Borrowed(user);
    }
    let mut segment = String::with_capacity(user.len() + 16);
    for byte in user.bytes() {
        match is_kept(&byte) {
            true => segment.push(char::from(byte)),
            false => write!(segment, "%{byte:02X}").expect("a String takes every write"),
        }
    }
    Cow::Owned(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_segment_is_one_users_alone(user in any::<String>()) {
            let segment = user_segment(&user);
            let read = percent_decode_str(&segment).decode_utf8();
            prop_assert_eq!(read.as_deref(), Ok(&*user));
            let is_special = |character: char| ":*{}".contains(character) || character.is_control();
            prop_assert!(!segment.contains(is_special));
        }

        #[test]
        fn a_user_owns_what_its_segment_names_and_nothing_else(user in any::<String>(), other in any::<String>()) {
            prop_assume!(!user.is_empty());
            let pattern: Pattern = "dm:{user}:{user}".parse().unwrap();
            let name = |one: &str, two: &str| format!("dm:{}:{}", user_segment(one), user_segment(two));
            prop_assert!(pattern.names(&name(&user, &other), &user_segment(&user)));
            prop_assert!(pattern.names(&name(&other, &user), &user_segment(&user)));
            prop_assert_eq!(pattern.names(&name(&other, &other), &user_segment(&user)), user == other);
        }
    }

    #[test]
    fn every_byte_of_a_name_has_a_segment_of_its_own() {
        let mut segments: Vec<String> =
            (0..128_u8).map(|byte| user_segment(std::str::from_utf8(&[byte]).unwrap()).into_owned()).collect();
        segments.sort_unstable();
        segments.dedup();
        assert_eq!(segments.len(), 128);
    }

    #[test]
    fn a_user_is_compared_and_never_read_as_a_pattern() {
        let pattern: Pattern = "user:{user}:inbox".parse().unwrap();
        for user in ["*", "**", "{user}", "a*", "", "bob:inbox"] {
            assert!(!pattern.names("user:bob:inbox", user), "{user}");
            assert!(!pattern.names("user:bob:inbox", &user_segment(user)), "{user}");
        }
        assert!(pattern.names("user:bob:inbox", "bob"));
        let open: Pattern = "{user}:**".parse().unwrap();
        assert!(open.names("bob:a:b", "bob") && !open.names("eve:bob:b", "bob"));
    }

    #[test]
    fn a_right_without_a_word_follows_another() {
        let said = Permissions { subscribe: Some(Who::Granted), history: Some(Who::Nobody), ..Permissions::default() };
        assert_eq!(said.who(Right::Subscribe, Who::User), (Who::Granted, Right::Subscribe));
        assert_eq!(said.who(Right::Presence, Who::User), (Who::Granted, Right::Subscribe));
        assert_eq!(said.who(Right::History, Who::User), (Who::Nobody, Right::History));
        assert_eq!(said.who(Right::Publish, Who::User), (Who::User, Right::Publish));
    }

    #[test]
    fn grants_are_bounded_and_must_be_patterns() {
        let many = |count: usize| Grants::default().with(Right::Publish, vec!["a"; count]).map(|_| count);
        assert_eq!((many(GRANTS_MAX), many(GRANTS_MAX + 1)), (Ok(GRANTS_MAX), Err(PatternError::TooMany)));
        assert_eq!(Grants::default().with(Right::Publish, ["a:**:b"]), Err(PatternError::RestNotLast));
        for everybodys in ["user:{user}:**", "{user}", "a:{user}"] {
            let granted = Grants::default().with(Right::Subscribe, ["a", everybodys]);
            assert_eq!(granted, Err(PatternError::UserInGrant), "{everybodys}");
        }
    }
}
