//! What a rule says of who has a right: the kinds of values of its keys.

use fanfare_core::rules::{Rule, Who};
use fanfare_shell::config::{Field, Given, Kind, quoted, read_text};

/// Who has a right, where a rule says so.
pub(super) struct WhoMay {
    pub(super) field: Field<Rule, Option<Who>>,
}

impl WhoMay {
    const CHOICES: [(&'static str, Who); 5] = [
        ("anyone", Who::Anyone),
        ("user", Who::User),
        ("granted", Who::Granted),
        ("self", Who::Owner),
        ("nobody", Who::Nobody),
    ];
}

impl Kind<Rule> for WhoMay {
    fn read(&self, given: &Given, rule: &mut Rule) -> Result<(), String> {
        let word = read_text(given)?;
        let chosen = WhoMay::CHOICES.iter().find(|(name, _)| *name == word);
        let (_, who) = chosen.ok_or_else(|| format!("{} is not one of the choices", quoted(word)))?;
        *(self.field.get_mut)(rule) = Some(*who);
        Ok(())
    }

    fn show(&self, rule: &Rule) -> toml::Value {
        let said = *(self.field.get)(rule);
        let name = WhoMay::CHOICES.iter().find(|(_, who)| Some(*who) == said).map_or("", |(name, _)| name);
        toml::Value::String(name.to_owned())
    }

    fn right(&self) -> String {
        "anyone, user, granted (whoever has a pattern in the credential that fits the room), self (the user in place of {user}) \
         or nobody"
            .to_owned()
    }

    fn value_name(&self) -> String {
        WhoMay::CHOICES.map(|(name, _)| name).join("|")
    }
}

/// Whether it is kept who is in a room: `false`, `true`, or a word for who may see it.
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
