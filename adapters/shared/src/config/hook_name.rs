//! How a rule for rooms names a hook.

use fanfare_core::rules::Rule;
use fanfare_shell::config::{Field, Given, Kind, read_text};
use std::sync::Arc;

/// The name of a hook in a rule, or none.
pub(super) struct HookName {
    pub(super) field: Field<Rule, Option<Arc<str>>>,
}

impl Kind<Rule> for HookName {
    fn read(&self, given: &Given, rule: &mut Rule) -> Result<(), String> {
        let name = read_text(given)?;
        *(self.field.get_mut)(rule) = (!name.is_empty()).then(|| name.into());
        Ok(())
    }

    fn show(&self, rule: &Rule) -> toml::Value {
        toml::Value::String((self.field.get)(rule).as_deref().unwrap_or_default().to_owned())
    }

    fn right(&self) -> String {
        "the name of one of [[hooks]], or an empty text for none".to_owned()
    }

    fn value_name(&self) -> String {
        "NAME".to_owned()
    }
}
