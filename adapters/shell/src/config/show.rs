//! The configuration in force, as a TOML file that can be fed back. Passwords are shown as `***`.

use std::fmt::Write;

use super::command_line::Command;
use super::load::Loaded;
use super::subcommand::{Failed, Said};

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
        for (array, sources) in self.sources.tables() {
            let names = array.keys();
            for (values, sources) in array.show(&self.config).into_iter().zip(sources) {
                let _ = write!(text, "\n[[{}]] # {}\n", array.name(), sources.table);
                for (key, value) in values {
                    let _ = writeln!(text, "{} = {value} # {}", names[key], sources.by_key[key]);
                }
            }
        }
        text
    }

    /// What came of the command that the command line has given, if it is one beside `check-config`.
    pub fn outcome(&self) -> Option<Result<Said, Failed>> {
        let Command::Other { subcommand, asked } = &self.command else { return None };
        Some((self.sources.schema().subcommands[*subcommand].run)(&self.config, asked))
    }

    /// What the command line has asked, answered in the order of the questions; nothing if it has asked nothing.
    pub fn answers(&self) -> Option<String> {
        let Command::CheckConfig { asked, .. } = &self.command else { return None };
        let answers = asked.iter().map(|(question, of)| {
            let answer = self.sources.schema().questions[*question].answer;
            answer(&self.config, &self.sources, of)
        });
        answers.reduce(|answers, next| answers + "\n" + &next)
    }
}
