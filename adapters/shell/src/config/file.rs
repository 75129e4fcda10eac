//! The TOML file: from text to given values with their lines, and what is no key of ours. Not what values mean.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::key::Given;
use super::problem::{Problem, Source};
use super::schema::Schema;
use super::tables::{self, ArrayOfTables, GivenTable};

/// Far more than every key with a comment takes; keeps a wrong path, such as a device, from filling the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most edits between a misspelt name and the known one that is suggested for it.
const EDITS_MAX: usize = 3;

/// What a file holds.
#[derive(Default)]
pub(crate) struct Contents {
    /// By position in the table of keys.
    pub(crate) entries: BTreeMap<usize, (Given, Source)>,
    /// By position in the schema's arrays.
    pub(crate) tables: BTreeMap<usize, Vec<GivenTable>>,
    /// In the order of the file.
    pub(crate) problems: Vec<Problem>,
}

/// Reads the file. `named_by` is the flag or variable that gave its path, for the message if there is no such file.
pub(crate) fn read<C>(schema: &Schema<C>, path: &Path, named_by: &Source) -> Contents {
    match read_text(path) {
        Ok(text) => parse(schema, &text, path),
        Err(error) => {
            let problem = Problem {
                key: "config".to_owned(),
                from: named_by.clone(),
                wrong: format!("cannot read {}: {error}", path.to_string_lossy().escape_debug()),
                right: "the path of a TOML file that this user may read".to_owned(),
            };
            Contents { problems: vec![problem], ..Contents::default() }
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse<C>(schema: &Schema<C>, text: &str, path: &Path) -> Contents {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
    let mut reading = Reading { schema, line_ends: ends.collect(), path, contents: Contents::default() };
    match DeTable::parse(text) {
        Ok(table) => reading.top_level(table.get_ref()),
        // The error's own display would quote the line, which may hold a password.
        Err(error) => {
            let wrong = error.span().and_then(|span| unquoted(text, span.start)).unwrap_or(error.message().to_owned());
            reading.problem("config", error.span(), wrong, TOML_SHAPE.to_owned());
        }
    }
    let mut contents = reading.contents;
    contents.problems.sort_by_key(|problem| match problem.from {
        Source::File { line, .. } => line,
        _ => None,
    });
    contents
}

/// What is wrong with the line at this place, if its value is a text without quotes. The value is not repeated.
fn unquoted(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let (name, value) = text[start..].lines().next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.split('#').next()?.trim());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_text = value.starts_with(|first: char| first.is_alphanumeric() || matches!(first, '/' | ':' | '*'))
        && value.contains(|part: char| part.is_alphabetic() || matches!(part, '.' | ':' | '/' | '*'))
        && value.parse::<f64>().is_err()
        && !matches!(value, "true" | "false");
    (is_text && !name.is_empty() && name.bytes().all(is_name))
        .then(|| format!("the value of {name} is a text, and has to stand in quotes: {name} = \"...\""))
}

const TOML_SHAPE: &str = "valid TOML: lines of name = value, texts in quotes, under [section] headings";

struct Reading<'a, C: 'static> {
    schema: &'a Schema<C>,
    /// Where each line ends.
    line_ends: Vec<usize>,
    path: &'a Path,
    contents: Contents,
}

type Name<'a> = Spanned<Cow<'a, str>>;

impl<C> Reading<'_, C> {
    fn top_level(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let is_section =
                self.schema.sections.iter().any(|(section, _)| section == name.get_ref() && !section.is_empty());
            if let Some(index) = self.schema.tables.iter().position(|array| array.name() == name.get_ref()) {
                self.tables(index, self.schema.tables[index], name, value);
                continue;
            }
            match value.get_ref() {
                DeValue::Table(section) if is_section => {
                    for (inner, value) in section {
                        self.entry(&format!("{}.{}", name.get_ref(), inner.get_ref()), inner, value);
                    }
                }
                _ if is_section => {
                    let right = format!("a section: [{}] on a line of its own, its keys below", name.get_ref());
                    let wrong = format!("it is {}", with_article(value.get_ref().type_str()));
                    self.problem(name.get_ref(), Some(name.span()), wrong, right);
                }
                DeValue::Table(_) if self.schema.position(name.get_ref()).is_none() => {
                    self.problem(
                        name.get_ref(),
                        Some(name.span()),
                        "there is no such section".to_owned(),
                        self.sections_near(name.get_ref()),
                    );
                }
                DeValue::Array(items)
                    if !items.is_empty() && is_of_tables(items) && self.schema.position(name.get_ref()).is_none() =>
                {
                    let wrong = "there is no such array of tables".to_owned();
                    self.problem(name.get_ref(), Some(name.span()), wrong, self.sections_near(name.get_ref()));
                }
                _ => self.entry(name.get_ref(), name, value),
            }
        }
    }

    fn entry(&mut self, full: &str, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        let Some(key) = self.schema.position(full) else {
            let right = match suggestion(self.schema, full) {
                Some(known) => format!("did you mean {known}?"),
                None => "`check-config` without a file prints every key there is".to_owned(),
            };
            return self.problem(full, Some(name.span()), "there is no such key".to_owned(), right);
        };
        let source = self.source(&name.span());
        self.contents.entries.insert(key, (given(value), source));
    }

    fn sections_near(&self, name: &str) -> String {
        let (sections, tables) = (self.schema.sections.iter().skip(1), self.schema.tables);
        let names: Vec<_> = sections.map(|(name, _)| *name).chain(tables.iter().map(|array| array.name())).collect();
        let shown = |name: &str| match tables.iter().any(|array| array.name() == name) {
            true => format!("[[{name}]]"),
            false => format!("[{name}]"),
        };
        match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean {}?", shown(near)),
            None => format!("the sections are {}", names.into_iter().map(shown).collect::<Vec<_>>().join(", ")),
        }
    }

    /// Reads `[[name]]`.
    fn tables(&mut self, index: usize, array: &dyn ArrayOfTables<C>, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        let items = match value.get_ref() {
            DeValue::Array(items) if is_of_tables(items) => items,
            other => {
                let kind = match other {
                    DeValue::Array(_) => "an array of other things than tables".to_owned(),
                    other => with_article(other.type_str()),
                };
                let right = format!("[[{}]], in two brackets, above each of them", array.name());
                return self.problem(array.name(), Some(name.span()), format!("it is {kind}"), right);
            }
        };
        let keys = array.keys();
        let tables = items.iter().enumerate().map(|(number, item)| self.table(array, &keys, number, item)).collect();
        self.contents.tables.insert(index, tables);
    }

    fn table(
        &mut self,
        array: &dyn ArrayOfTables<C>,
        keys: &[&str],
        number: usize,
        item: &Spanned<DeValue<'_>>,
    ) -> GivenTable {
        let (mut entries, mut unknown) = (BTreeMap::new(), Vec::new());
        for (name, value) in item.get_ref().as_table().into_iter().flatten() {
            match keys.iter().position(|key| key == name.get_ref()) {
                Some(key) => _ = entries.insert(key, (given(value), self.source(&name.span()))),
                None => unknown.push(name),
            }
        }
        let value = tables::label_value(entries.get(&0).map(|(given, _)| given));
        let label = tables::label(array.name(), number, keys[0], value);
        for name in unknown {
            let right = match nearest(&name.get_ref().to_lowercase().replace('-', "_"), keys.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the keys are {}", keys.join(", ")),
            };
            let key = format!("{label}: {}", name.get_ref().escape_debug());
            self.problem_of(key, Some(name.span()), "there is no such key".to_owned(), right);
        }
        GivenTable { source: self.source(&item.span()), entries }
    }

    fn source(&self, span: &Range<usize>) -> Source {
        Source::File { path: self.path.to_owned(), line: Some(self.line(span)) }
    }

    fn problem(&mut self, key: &str, span: Option<Range<usize>>, wrong: String, right: String) {
        self.problem_of(key.escape_debug().to_string(), span, wrong, right);
    }

    /// The key may stand in a line.
    fn problem_of(&mut self, key: String, span: Option<Range<usize>>, wrong: String, right: String) {
        let line = span.map(|span| self.line(&span));
        let from = Source::File { path: self.path.to_owned(), line };
        self.contents.problems.push(Problem { key, from, wrong, right });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.line_ends.partition_point(|end| *end < span.start) + 1
    }
}

fn is_of_tables(items: &DeArray<'_>) -> bool {
    items.iter().all(|item| item.get_ref().is_table())
}

fn given(value: &Spanned<DeValue<'_>>) -> Given {
    match value.get_ref() {
        DeValue::String(text) => Given::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Given::Integer(integer),
            Err(_) => Given::Other("a number beyond 64 bits".to_owned()),
        },
        DeValue::Boolean(value) => Given::Boolean(*value),
        DeValue::Array(items) => match items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect() {
            Some(items) => Given::List(items),
            None => Given::Other("an array of other things than texts".to_owned()),
        },
        other => Given::Other(with_article(other.type_str())),
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// What somebody probably meant: the same words in another order or section, else the least misspelling.
fn suggestion<C>(schema: &Schema<C>, full: &str) -> Option<String> {
    let full = full.to_lowercase().replace('-', "_");
    let given = words(full.rsplit('.').next().unwrap_or(&full));
    let of_same_words = schema.keys().filter(|key| words(key.name_in_section()) == given).map(|key| key.name);
    let of_same_words = of_same_words.collect::<Vec<_>>().join(" or ");
    if of_same_words.is_empty() {
        nearest(&full, schema.keys().map(|key| key.name)).map(str::to_owned)
    } else {
        Some(of_same_words)
    }
}

fn words(name: &str) -> Vec<&str> {
    let mut words: Vec<_> = name.split('_').collect();
    words.sort_unstable();
    words
}

/// The candidate with the fewest edits to `name`, if it could be a misspelling of it.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, _)| *edits <= EDITS_MAX.min(name.len() / 2))
        .map(|(_, candidate)| candidate)
}
