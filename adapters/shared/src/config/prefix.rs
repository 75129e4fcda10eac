//! Prefixes of servers that share one Redis. A channel is a prefix and a room's name, and names hold anything but control
//! characters. So if one prefix begins with another, a room of one server is a room of the other, too.

/// What is wrong with a prefix of Redis channels if other prefixes are in use there; nothing with one whose only colon is its
/// last character. No such prefix is the beginning of another, so no channel belongs to two of them.
pub(crate) fn warning(prefix: &str) -> Option<String> {
    const APART: &str =
        "end every prefix in its only colon, such as `app:` and `app-admin:`, to keep their rooms apart";
    let Some(colon) = prefix.find(':') else {
        if prefix.is_empty() {
            return Some(format!("redis.prefix is empty: every channel on this Redis is a room here; {APART}"));
        }
        let prefix = prefix.escape_debug();
        return Some(format!(
            "redis.prefix `{prefix}` has no colon: every channel on this Redis that begins with it is a room here, also one of another server; {APART}"
        ));
    };
    let (outer, inner) = prefix.split_at(colon + 1);
    if inner.is_empty() && !prefix.contains(char::is_control) {
        return None;
    }
    let [prefix, outer, inner] = [prefix, outer, inner].map(|part| part.escape_debug().to_string());
    Some(format!(
        "redis.prefix `{prefix}` does not end in its only colon: a server on this Redis with the prefix `{outer}` shares its rooms, as \
         `{inner}…`; {APART}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of prefixes and names; a name has no control characters.
    const PARTS: [&str; 7] = ["a", "b", ":", "-", "é", "\u{1}", "a:"];

    fn texts(parts_max: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        for _ in 0..parts_max {
            let longer: Vec<String> = texts.iter().flat_map(|text| PARTS.map(|part| format!("{text}{part}"))).collect();
            texts.extend(longer);
            texts.sort();
            texts.dedup();
        }
        texts
    }

    #[test]
    fn prefixes_that_nobody_is_warned_of_share_no_channel() {
        let (texts, is_name) = (texts(3), |text: &str| !text.is_empty() && !text.contains(char::is_control));
        let good: Vec<&String> = texts.iter().filter(|text| warning(text).is_none()).collect();
        assert!(good.len() > 20, "{good:?}");
        for one in &good {
            for other in good.iter().filter(|other| *other != one) {
                // A channel of both is the longer prefix and a name, and the shorter one and a longer name.
                let is_shared = other.strip_prefix(one.as_str()).is_some_and(is_name);
                assert!(!is_shared, "a room of {other:?} is one of {one:?}");
            }
        }
    }

    #[test]
    fn those_that_nest_are_warned_of() {
        assert_eq!(warning("fanfare:"), None);
        assert_eq!(warning("app-admin:"), None);
        for (prefix, part) in [("", "is empty"), ("app", "has no colon"), ("app:admin:", "`app:`"), ("app:v1", "`v1…`")]
        {
            let warning = warning(prefix).expect(prefix);
            assert!(warning.contains(part), "{warning}");
        }
        assert!(warning("a\n:").is_some_and(|warning| !warning.contains('\n')));
    }
}
