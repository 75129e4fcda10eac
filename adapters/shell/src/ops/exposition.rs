//! The Prometheus text format, version 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

/// Its media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a figure only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Appends a metric that has one sample without labels.
pub fn metric(text: &mut String, name: &str, kind: Kind, help: &str, value: impl Display) {
    family(text, name, kind, help, [("", value)]);
}

/// Appends a metric with all its samples. The first of each pair is what stands between the braces, if anything.
pub fn family<V: Display>(
    text: &mut String,
    name: &str,
    kind: Kind,
    help: &str,
    samples: impl IntoIterator<Item = (&'static str, V)>,
) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    head(text, name, kind, help);
    for (labels, value) in samples {
        let _ = match labels {
            "" => writeln!(text, "{name} {value}"),
            _ => writeln!(text, "{name}{{{labels}}} {value}"),
        };
    }
}

/// Appends a histogram whose bounds are in microseconds; `counts` has one more, and is not cumulative.
pub fn histogram(text: &mut String, name: &str, help: &str, bounds_us: &[u64], counts: &[u64], sum_seconds: f64) {
    head(text, name, "histogram", help);
    let mut count = 0;
    for (bound, within) in bounds_us.iter().zip(counts) {
        count += within;
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {count}", *bound as f64 / 1e6);
    }
    // The count is the sum of the buckets as they were read, so that it always equals the last one.
    count += counts[bounds_us.len()];
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum_seconds}\n{name}_count {count}");
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
