//! The instances that keep presence together, as each says of itself in Redis: for the operations port, and for the log where their rules
//! differ.

use fanfare_core::broker::redis::presence::Instance;
use std::fmt::Write;

/// What is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instances {
    json: String,
    /// The address of one that has other rules.
    different: Option<String>,
}

impl Default for Instances {
    fn default() -> Instances {
        Instances { json: "[]".to_owned(), different: None }
    }
}

impl Instances {
    /// These; `own` is what this one says of itself.
    pub fn new(instances: &[Instance], own: &str) -> Instances {
        let (mut json, mut different) = ("[".to_owned(), None);
        for (place, Instance { incarnation, about, until_ms }) in instances.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(json, r#"{comma}{{"incarnation":"{incarnation}","until_ms":{until_ms}"#)
                .expect("a String takes every write");
            for name in ["address", "version", "rules", "envelope"] {
                write!(json, r#","{name}":"{}""#, field(about, name)).expect("a String takes every write");
            }
            let differs = field(about, "rules") != field(own, "rules");
            write!(json, r#","differs":{differs}}}"#).expect("a String takes every write");
            if differs {
                different.get_or_insert_with(|| field(about, "address").to_owned());
            }
        }
        json.push(']');
        Instances { json, different }
    }

    /// As an array of objects.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Warns of other rules, where that is news.
    pub(super) fn warn(&self, before: &Instances) {
        if let (Some(address), None) = (&self.different, &before.different) {
            tracing::warn!(address, "another instance has other rules of rooms");
        }
    }
}

/// What an instance says of itself under this name; nothing where it has to be quoted in JSON, because no instance says such a thing.
fn field<'a>(about: &'a str, name: &str) -> &'a str {
    let value = about.split_once(&format!("\"{name}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    value.map(|(value, _)| value).filter(|value| value.bytes().all(is_plain)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::broker::redis::presence::Incarnation;

    #[test]
    fn instances_are_told_and_those_with_other_rules_marked() {
        let about =
            |rules: &str| format!(r#"{{"address":"[::1]:80","version":"1.2","rules":"{rules}","envelope":"F1"}}"#);
        let instance = |number, rules: &str| Instance {
            incarnation: Incarnation(number),
            about: about(rules).into(),
            until_ms: 5,
        };
        let alike = Instances::new(&[instance(1, "a"), instance(2, "a")], &about("a"));
        assert_eq!(alike.different, None);
        let differing = Instances::new(&[instance(1, "a"), instance(2, "\\u0022b")], &about("a"));
        let of = |number: u64, rules: &str, differs: bool| {
            format!(
                r#"{{"incarnation":"{number:016x}","until_ms":5,"address":"[::1]:80","version":"1.2","rules":"{rules}","envelope":"F1","differs":{differs}}}"#
            )
        };
        assert_eq!(differing.json(), format!("[{},{}]", of(1, "a", false), of(2, "", true)));
        assert_eq!(differing.different.as_deref(), Some("[::1]:80"));
        assert_eq!(Instances::new(&[], "").json(), Instances::default().json());
    }
}
