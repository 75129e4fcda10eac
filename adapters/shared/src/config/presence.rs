//! The key `presence` of a rule: whether it is kept who is in a room, and who may see it.

use super::Config;
use super::rooms::{ROOMS, WhoMay};
use fanfare_core::rules::Rule;
use fanfare_shell::config::{Given, Kind, Problem, Sources, quoted};

/// `false`, `true`, or a word for who may see it.
pub(super) struct WhoIsThere;

impl Kind<Rule> for WhoIsThere {
    fn read(&self, given: &Given, rule: &mut Rule) -> Result<(), String> {
        let (is_kept, may_see) = match given {
            Given::Boolean(is_kept) => (*is_kept, None),
            Given::Word(word) | Given::Text(word) => {
                let chosen = WhoMay::CHOICES.iter().find(|(name, _)| name == word);
                let (_, who) = chosen.ok_or_else(|| match word.as_str() {
                    "true" | "false" => format!("{word} stands without quotes"),
                    _ => format!("{} is not one of the choices", quoted(word)),
                })?;
                (true, Some(*who))
            }
            Given::Integer(_) => return Err("it is a number".to_owned()),
            Given::List(_) => return Err("it is an array".to_owned()),
            Given::Other(kind) => return Err(format!("it is {kind}")),
        };
        (rule.presence, rule.permissions.presence) = (is_kept, may_see);
        Ok(())
    }

    fn show(&self, rule: &Rule) -> toml::Value {
        let word = WhoMay::CHOICES.iter().find(|(_, who)| Some(*who) == rule.permissions.presence);
        match word {
            Some((word, _)) if rule.presence => toml::Value::String((*word).to_owned()),
            _ => toml::Value::Boolean(rule.presence),
        }
    }

    fn right(&self) -> String {
        "true (whoever may subscribe may see who is there), false, or who may see it: anyone, user, granted (whoever has a pattern in the \
         credential that fits the room), self (the user in place of {user}) or nobody"
            .to_owned()
    }

    fn value_name(&self) -> String {
        let words = WhoMay::CHOICES.map(|(name, _)| name).join("|");
        format!("true|false|{words}")
    }
}

/// Who is in a room is told by users, and where nothing verifies who somebody is, nobody is one.
pub(super) fn presence_of_nobody(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    if config.auth.is_on() {
        return Vec::new();
    }
    let rules = config.core.rules.as_slice().iter().enumerate().filter(|(_, rule)| rule.presence);
    let problem = |(index, rule): (usize, &Rule)| Problem {
        key: format!("{}: presence", ROOMS.label(index, rule)),
        from: sources.of_table(ROOMS.name, index).clone(),
        wrong: "it keeps which users are in a room, and nothing verifies who is one: nobody would ever be there"
            .to_owned(),
        right: "false, or auth.secret, another key of an issuer, auth.session_secret or auth.url".to_owned(),
    };
    rules.map(problem).collect()
}
