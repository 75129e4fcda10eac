//! Whether two instances have the same rules, without telling the one what the rules of the other are.

use super::{Permissions, Rule, Rules, Slow, Storing, Who};
use crate::history::Retention;
use siphasher::sip::SipHasher13;
use std::fmt::Write;
use std::hash::Hasher;

impl Rules {
    /// A number that is the same wherever the rules are the same, in the same order, and that another one has by chance alone. It is the
    /// same on every machine.
    ///
    /// ```
    /// use fanfare_core::rules::{Rule, Rules};
    ///
    /// let rules = |patterns: &[&str]| Rules::new(patterns.iter().map(|text| Rule::new(text.parse().unwrap())).collect()).unwrap();
    /// assert_eq!(rules(&["a", "b:*"]).fingerprint(), rules(&["a", "b:*"]).fingerprint());
    /// assert_ne!(rules(&["a", "b:*"]).fingerprint(), rules(&["b:*", "a"]).fingerprint());
    /// ```
    pub fn fingerprint(&self) -> u64 {
        let mut text = String::new();
        for rule in self.as_slice() {
            write_rule(&mut text, rule);
        }
        // Without a key, because all have to agree, and nobody gains by two lists of one fingerprint.
        let mut hasher = SipHasher13::new();
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// Appends all that a rule says, as no other rule does.
fn write_rule(text: &mut String, rule: &Rule) {
    let Rule {
        pattern,
        history,
        slow,
        store,
        replicas_min,
        members_max,
        permissions,
        presence,
        before_publish,
        occupancy,
    } = rule;
    let pattern = pattern.as_str();
    // With its length, because a pattern may hold any character.
    write!(text, "{} {pattern} ", pattern.len()).expect("a String takes every write");
    if let Some(Retention { messages_max, bytes_max, age_max }) = history {
        let age_ns = age_max.as_nanos();
        write!(text, "{messages_max} {bytes_max} {age_ns}").expect("a String takes every write");
    }
    let slow = match slow {
        Slow::Close => "close",
        Slow::CatchUp => "catch_up",
        Slow::Latest => "latest",
    };
    let store = match store {
        Storing::On => "on",
        Storing::Off => "off",
    };
    // Where it is kept who is in a room, clients are asked who they are. Said or not, that is the right of those that may become members
    // then, but for what is granted, which has a list of its own.
    let is_members = |who: &Who| *who != Who::Granted && *who == permissions.subscribe.unwrap_or(Who::User);
    let seen_by = permissions.presence.filter(|who| !*presence || !is_members(who));
    let permissions = Permissions { presence: seen_by, ..*permissions };
    write!(text, " {slow} {store} {replicas_min} {members_max} {presence}{}", words(permissions))
        .expect("a String takes every write");
    // Left out where nobody is asked, so that older instances agree.
    if let Some(hook) = before_publish {
        write!(text, " hook {} {hook}", hook.len()).expect("a String takes every write");
    }
    if let Some(hook) = occupancy {
        write!(text, " occupancy {} {hook}", hook.len()).expect("a String takes every write");
    }
    text.push('\n');
}

/// The word of each right in its place.
fn words(permissions: Permissions) -> String {
    let Permissions { subscribe, publish, history, presence } = permissions;
    let word = |said| match said {
        None => " -",
        Some(Who::Anyone) => " anyone",
        Some(Who::User) => " user",
        Some(Who::Granted) => " granted",
        Some(Who::Owner) => " self",
        Some(Who::Nobody) => " nobody",
    };
    [subscribe, publish, history, presence].map(word).concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn rule(set: impl Fn(&mut Rule)) -> Rule {
        let mut rule = Rule::new("user:{user}".parse().unwrap());
        set(&mut rule);
        rule
    }

    /// A rule for everything that may be said in one.
    fn different_rules() -> Vec<Rule> {
        let kept = Retention { messages_max: 5, bytes_max: 6, age_max: Duration::from_millis(7) };
        let with = |kept: Retention| rule(move |rule| rule.history = Some(kept));
        let mut rules = vec![
            rule(|_| ()),
            rule(|rule| rule.pattern = "user:*".parse().unwrap()),
            with(kept),
            with(Retention { messages_max: 56, bytes_max: 6, ..kept }),
            with(Retention { messages_max: 5, bytes_max: 66, ..kept }),
            with(Retention { age_max: Duration::from_millis(77), ..kept }),
            rule(|rule| rule.slow = Slow::CatchUp),
            rule(|rule| rule.slow = Slow::Latest),
            rule(|rule| rule.store = Storing::Off),
            rule(|rule| rule.replicas_min = 1),
            rule(|rule| rule.members_max = 1),
            rule(|rule| rule.presence = true),
            rule(|rule| rule.before_publish = Some("a".into())),
            rule(|rule| rule.before_publish = Some("b".into())),
            rule(|rule| rule.occupancy = Some("a".into())),
        ];
        for who in [Who::Anyone, Who::User, Who::Granted, Who::Owner, Who::Nobody].map(Some) {
            let none = Permissions::default();
            let one_by_one = [
                Permissions { subscribe: who, ..none },
                Permissions { publish: who, ..none },
                Permissions { history: who, ..none },
                Permissions { presence: who, ..none },
            ];
            rules.extend(one_by_one.map(|permissions| rule(|rule| rule.permissions = permissions)));
        }
        rules
    }

    #[test]
    fn whatever_a_rule_says_otherwise_is_another_fingerprint() {
        // Not by `new`, which refuses some of them: what cannot be in force is told apart as well.
        let fingerprint = |rules: &[Rule]| Rules { list: rules.into() }.fingerprint();
        let rules = different_rules();
        let mut lists: Vec<&[Rule]> = rules.iter().map(std::slice::from_ref).collect();
        lists.extend([&[][..], &rules[..2], &rules[1..3], &rules[..3]]);
        let found: BTreeSet<u64> = lists.iter().map(|list| fingerprint(list)).collect();
        assert_eq!(found.len(), lists.len());
        let turned = [rules[1].clone(), rules[0].clone()];
        assert_ne!(fingerprint(&turned), fingerprint(&rules[..2]), "the first that fits is a room's");
    }

    #[test]
    fn who_sees_who_is_there_may_be_said_or_follow_from_who_may_be_there() {
        let kept = |subscribe: Option<Who>, seen_by: Option<Who>| {
            let permissions = Permissions { subscribe, presence: seen_by, ..Permissions::default() };
            Rules { list: [rule(|rule| (rule.presence, rule.permissions) = (true, permissions))].into() }.fingerprint()
        };
        for (subscribe, follows) in [(None, Who::User), (Some(Who::Anyone), Who::Anyone), (Some(Who::User), Who::User)]
        {
            assert_eq!(kept(subscribe, Some(follows)), kept(subscribe, None), "{subscribe:?}");
            assert_ne!(kept(subscribe, Some(Who::Nobody)), kept(subscribe, None), "{subscribe:?}");
        }
        let granted = Some(Who::Granted);
        assert_ne!(kept(granted, granted), kept(granted, None), "each has a list of its own");
    }

    /// Instances of two builds compare theirs, so it must not change without the rules.
    #[test]
    fn a_fingerprint_is_the_same_on_every_machine() {
        let mut chat = Rule::new("chat:*".parse().unwrap());
        chat.history = Some(Retention { messages_max: 200, bytes_max: 1 << 20, age_max: Duration::from_secs(86_400) });
        (chat.presence, chat.permissions.publish) = (true, Some(Who::User));
        let rules = Rules::new(vec![chat]).unwrap();
        assert_eq!(format!("{:016x}", rules.fingerprint()), "19d3d90381a09ca4");
        assert_eq!(format!("{:016x}", Rules::default().fingerprint()), "d1fba762150c532c");
    }
}
