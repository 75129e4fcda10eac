//! How a family of metrics begins in the text format of Prometheus.

use std::fmt::Write;

/// Appends the two lines of its head.
pub(super) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
