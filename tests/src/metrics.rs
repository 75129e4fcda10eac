//! The Prometheus text format, as far as the tests read it.

use std::collections::{BTreeMap, BTreeSet};

/// What one look at `/metrics` showed.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
    families: BTreeSet<String>,
}

impl Metrics {
    /// Takes a page apart.
    ///
    /// # Panics
    ///
    /// If a line is neither a comment nor a sample.
    pub fn parse(page: &str) -> Metrics {
        let mut metrics = Metrics { samples: BTreeMap::new(), families: BTreeSet::new() };
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().unwrap_or_default();
                assert!(metrics.families.insert(name.to_owned()), "a family twice: {line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line:?}"));
                let value = value.parse().unwrap_or_else(|_| panic!("not a sample: {line:?}"));
                assert!(metrics.samples.insert(name.to_owned(), value).is_none(), "a sample twice: {line}");
            }
        }
        metrics
    }

    /// The value of a sample, its labels written as on the page: `fanfare_broker_up{link="publisher"}`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn value(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("no sample {name}"))
    }

    /// The names of the families whose type is declared.
    pub fn families(&self) -> &BTreeSet<String> {
        &self.families
    }

    /// The names of all samples, with their labels.
    pub fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        self.samples.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let page = "# HELP a_total How many.\n# TYPE a_total counter\na_total{x=\"y z\"} 3\n\nb 0.5\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.value("a_total{x=\"y z\"}"), 3.0);
        assert_eq!(metrics.value("b"), 0.5);
        assert!(metrics.families().contains("a_total"));
    }
}
