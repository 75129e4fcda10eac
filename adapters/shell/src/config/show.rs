//! The configuration in force, as a TOML file that can be fed back. Passwords are shown as `***`.

use std::fmt::Write;

use super::load::Loaded;

impl<C> Loaded<C> {
    /// Every key with its value and, as a comment, where that came from.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for (key, source) in self.sources.iter() {
            if key.section() != section {
                section = key.section();
                let _ = write!(text, "\n[{section}]\n");
            }
            let value = key.kind.show(&self.config);
            let _ = writeln!(text, "{} = {value} # {source}", key.name_in_section());
        }
        text
    }
}
