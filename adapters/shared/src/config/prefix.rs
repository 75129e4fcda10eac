//! Prefixes of servers that share one Redis. A channel is a prefix and a room's name, and names hold anything but control
//! characters: where one prefix begins with another, a room of one server is a room of the other, too.

/// What is wrong with a prefix of Redis channels if other prefixes are in use there; nothing with one whose only colon is its
/// last character. Of two such prefixes neither begins with the other, so no channel is of both.
pub(crate) fn warning(prefix: &str) -> Option<String> {
    const APART: &str =
        "a prefix that ends in its only colon, such as `app:` or `app-admin:`, keeps apart from all others that do";
    let Some(colon) = prefix.find(':') else {
        let which =
            if prefix.is_empty() { "is empty".to_owned() } else { format!("`{}` has no colon", prefix.escape_debug()) };
        return Some(format!(
            "redis.prefix {which}: rooms of servers on this Redis whose prefix begins so, but is longer, are rooms here as well; {APART}"
        ));
    };
    let (outer, inner) = prefix.split_at(colon + 1);
    if inner.is_empty() && !prefix.contains(char::is_control) {
        return None;
    }
    let [prefix, outer, inner] = [prefix, outer, inner].map(|part| part.escape_debug().to_string());
    Some(format!(
        "redis.prefix `{prefix}` does not end in its only colon: its rooms are rooms `{inner}…` of a server on this Redis whose prefix is \
         `{outer}`; {APART}"
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
