//! Arrays of tables, `[[name]]` in the file: from what was given to things of one type, and back. Neither flags nor variables give any.

use std::collections::BTreeMap;

use super::key::{Given, Key, quoted};
use super::problem::{Problem, Source};

/// An array of tables, whatever its tables are for. [`Tables`] is one.
pub trait ArrayOfTables<C>: Sync {
    /// Its name in the file.
    fn name(&self) -> &'static str;
    /// The names of the keys that a table may have. The first tells it from the others.
    fn keys(&self) -> Vec<&'static str>;
    /// Puts the tables into their place, and says where each of their values came from, or what is wrong with them.
    fn read(&self, given: &[GivenTable], config: &mut C) -> (Vec<TableSources>, Vec<Problem>);
    /// The tables in force: of each the values that there are, with the positions of their keys.
    fn show(&self, config: &C) -> Vec<Vec<(usize, toml::Value)>>;
}

/// An array of tables of which each becomes an `R`.
pub struct Tables<C: 'static, R: 'static> {
    /// Its name in the file.
    pub name: &'static str,
    /// The most tables.
    pub tables_max: usize,
    /// The keys of a table. The first is required, and no two tables have the same text there.
    pub keys: &'static [Key<R>],
    /// What the keys of a table are read into.
    pub blank: fn() -> R,
    /// Whether the values of a table, each of them right, are right together.
    pub check: fn(&R) -> Result<(), Fault>,
    /// To the things.
    pub get: fn(&C) -> &[R],
    /// Puts them into their place: no more than `tables_max`, all of them checked.
    pub put: fn(&mut C, Vec<R>),
}

/// What is wrong with the values of one table together.
pub struct Fault {
    /// The key to blame.
    pub key: &'static str,
    /// Why it is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

/// A table as it was given.
pub struct GivenTable {
    pub(super) source: Source,
    /// By position in the array's keys.
    pub(super) entries: BTreeMap<usize, (Given, Source)>,
}

/// Where a table came from, and each of its values.
#[derive(Debug)]
pub struct TableSources {
    pub(super) table: Source,
    pub(super) by_key: Vec<Source>,
}

/// What a table is called in messages: by its number, counted from 1, and by the value that tells it from the others, if it has one.
pub(super) fn label(array: &str, index: usize, key: &str, value: Option<String>) -> String {
    let value = value.map(|value| format!(" ({key} = {value})")).unwrap_or_default();
    format!("[[{array}]] number {}{value}", index + 1)
}

/// The value that tells a table from the others, for [`label`].
pub(super) fn label_value(given: Option<&Given>) -> Option<String> {
    match given? {
        Given::Text(text) => Some(quoted(text)),
        _ => None,
    }
}

impl<C, R> Tables<C, R> {
    /// What a table is called in messages. The first has the index 0.
    pub fn label(&self, index: usize, row: &R) -> String {
        let key = &self.keys[0];
        label(self.name, index, key.name, Some(key.kind.show(row).to_string()))
    }

    /// The values that there are, with the positions of their keys.
    pub fn values(&self, row: &R) -> Vec<(usize, toml::Value)> {
        let there = self.keys.iter().enumerate().filter(|(_, key)| key.kind.is_there(row));
        there.map(|(index, key)| (index, key.kind.show(row))).collect()
    }

    /// Reads each value of a table, then judges them together. Returns what is wrong, with the keys.
    fn read_table(&self, table: &GivenTable) -> Result<R, Vec<Fault>> {
        let (mut row, mut faults) = ((self.blank)(), Vec::new());
        for (&index, (given, _)) in &table.entries {
            let key = &self.keys[index];
            if let Err(wrong) = key.kind.read(given, &mut row) {
                faults.push(Fault { key: key.name, wrong, right: key.right() });
            }
        }
        if !table.entries.contains_key(&0) {
            let Key { name, kind, .. } = &self.keys[0];
            faults.push(Fault { key: name, wrong: "it is missing".to_owned(), right: kind.right() });
        }
        if faults.is_empty() {
            faults.extend((self.check)(&row).err());
        }
        if faults.is_empty() { Ok(row) } else { Err(faults) }
    }
}

impl<C, R> ArrayOfTables<C> for Tables<C, R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn keys(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }

    fn read(&self, given: &[GivenTable], config: &mut C) -> (Vec<TableSources>, Vec<Problem>) {
        let (mut rows, mut sources, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers = BTreeMap::new();
        for (index, table) in given.iter().take(self.tables_max).enumerate() {
            let source = |key| table.entries.get(&key).map(|(_, source)| source.clone());
            let value = label_value(table.entries.get(&0).map(|(given, _)| given));
            let label = label(self.name, index, self.keys[0].name, value);
            let problem = |fault: Fault| {
                let from = self.keys.iter().position(|key| key.name == fault.key).and_then(source);
                let (from, key) = (from.unwrap_or(table.source.clone()), format!("{label}: {}", fault.key));
                Problem { key, from, wrong: fault.wrong, right: fault.right }
            };
            match self.read_table(table) {
                Ok(row) => rows.push(row),
                Err(faults) => problems.extend(faults.into_iter().map(problem)),
            }
            if let Some((Given::Text(text), _)) = table.entries.get(&0)
                && let Some(earlier) = numbers.insert(text, index + 1)
            {
                let wrong = format!("number {earlier} has the same");
                problems.push(problem(Fault { key: self.keys[0].name, wrong, right: "each of them once".to_owned() }));
            }
            let by_key = (0..self.keys.len()).map(|key| source(key).unwrap_or(Source::Default)).collect();
            sources.push(TableSources { table: table.source.clone(), by_key });
        }
        if let Some(surplus) = given.get(self.tables_max) {
            problems.push(Problem {
                key: format!("[[{}]]", self.name),
                from: surplus.source.clone(),
                wrong: format!("there are {} of them", given.len()),
                right: format!("at most {}", self.tables_max),
            });
        }
        if problems.is_empty() {
            (self.put)(config, rows);
        }
        (sources, problems)
    }

    fn show(&self, config: &C) -> Vec<Vec<(usize, toml::Value)>> {
        (self.get)(config).iter().map(|row| self.values(row)).collect()
    }
}
