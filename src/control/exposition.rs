//! The two text formats of metrics: Prometheus 0.0.4 and OpenMetrics 1.0. Not here: which metrics there are (`metrics`, `series`).

use std::fmt::{self, Write};

use crate::observer::Exemplar;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus 0.0.4
    #[default]
    Text,
    /// OpenMetrics 1.0.0
    OpenMetrics,
}

impl MetricsFormat {
    /// The one that a request asks for with its Accept: OpenMetrics where it is named with at least the quality of plain text.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let entries = accept.split(',').map(|entry| {
                let mut parts = entry.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                let quality = parts.find_map(|part| part.strip_prefix("q="));
                (name, quality.map_or(1.0, |text| text.trim().parse().unwrap_or(0.0)))
            });
            entries
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, quality)| quality)
                .fold(0.0, f32::max)
        };
        let open_metrics = quality("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= quality("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of Content-Type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Metrics being written, family by family.
#[derive(Debug)]
pub(super) struct Exposition {
    out: String,
    format: MetricsFormat,
}

/// A bucket of a histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'a> {
    /// Its upper bound in seconds, as text.
    pub(super) bound: &'static str,
    /// How many values are at most that.
    pub(super) below: u64,
    /// A request that is counted in it, and in none below.
    pub(super) exemplar: Option<&'a Exemplar>,
}

/// A label and its value, not escaped.
pub(super) type Label<'a> = (&'a str, &'a str);

impl Exposition {
    pub(super) fn new(format: MetricsFormat) -> Self {
        Self { out: String::with_capacity(64 * 1024), format }
    }

    /// Begins a family; `kind` is `counter`, `gauge` or `histogram`. The name of a counter ends with `_total`; where it cannot, because
    /// others have given it, OpenMetrics knows it as `unknown`.
    pub(super) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let (family, kind) = match (self.format, kind, name.strip_suffix("_total")) {
            (MetricsFormat::OpenMetrics, "counter", Some(family)) => (family, kind),
            (MetricsFormat::OpenMetrics, "counter", None) => (name, "unknown"),
            _ => (name, kind),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {kind}");
    }

    /// A sample whose labels are written already, as [`labels`] does.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        self.out.push_str(name);
        self.out.push_str(labels);
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, " {value}");
    }

    /// A whole family of whole numbers.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, u64)]) {
        self.begin(name, kind, help);
        samples.iter().for_each(|(labels, value)| self.sample(name, labels, value));
    }

    /// One sample of a histogram, from its buckets, of which the last one has the bound `+Inf`. `labels` are those of `labels`.
    pub(super) fn histogram<'a>(
        &mut self,
        name: &str,
        labels: &str,
        buckets: impl IntoIterator<Item = Bucket<'a>>,
        (count, seconds): (u64, impl fmt::Display),
    ) {
        let inner = labels.strip_suffix('}').unwrap_or("{");
        let comma = if inner.len() > 1 { "," } else { "" };
        for Bucket { bound, below, exemplar } in buckets {
            for part in [name, "_bucket", inner, comma, "le=\"", bound, "\"} "] {
                self.out.push_str(part);
            }
            // Writing to a string cannot fail.
            let _ = write!(self.out, "{below}");
            // OpenMetrics 1.0, section "Exemplars"; the older format has none.
            if let Some(exemplar) = exemplar.filter(|_| self.format == MetricsFormat::OpenMetrics) {
                let (trace_id, seconds, at) =
                    (exemplar.trace_id(), exemplar.time.as_secs_f64(), exemplar.at.as_secs_f64());
                let _ = write!(self.out, " # {{trace_id=\"{trace_id}\"}} {seconds} {at:.3}");
            }
            self.out.push('\n');
        }
        let _ = writeln!(self.out, "{name}_sum{labels} {seconds}\n{name}_count{labels} {count}");
    }

    /// The whole text.
    pub(super) fn end(mut self) -> String {
        if self.format == MetricsFormat::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// Labels as they stand behind a name; empty for none.
pub(super) fn labels(labels: &[Label<'_>]) -> String {
    let mut out = String::new();
    for (position, (name, value)) in labels.iter().enumerate() {
        out.push_str(if position == 0 { "{" } else { "," });
        out.push_str(name);
        out.push_str("=\"");
        escape(value, &mut out);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    out
}

/// Appends `text` as the value of a label.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            character => out.push(character),
        }
    }
}

/// `text` as the value of a label.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_is_accepted() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            ("", MetricsFormat::Text),
            ("*/*", MetricsFormat::Text),
            ("text/plain", MetricsFormat::Text),
            ("text/plain; q=1, application/openmetrics-text; q=0.5", MetricsFormat::Text),
            ("application/openmetrics-text;q=0", MetricsFormat::Text),
            ("application/openmetrics-text", MetricsFormat::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0", MetricsFormat::OpenMetrics),
            (prometheus, MetricsFormat::OpenMetrics),
        ];
        for (accept, format) in cases {
            assert_eq!(MetricsFormat::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(labels(&[]), "");
        let written = labels(&[("a", "say \"hi\"\n"), ("b", "c:\\temp"), ("c", "Grüße 🦀")]);
        assert_eq!(written, "{a=\"say \\\"hi\\\"\\n\",b=\"c:\\\\temp\",c=\"Grüße 🦀\"}");
    }

    #[test]
    fn open_metrics_names_families_without_total_and_ends() {
        let write = |format| {
            let mut text = Exposition::new(format);
            text.family("cairn_a_total", "counter", "A.", &[(labels(&[("b", "c")]), 1)]);
            text.family("envoy_rq", "counter", "B.", &[(String::new(), 2)]);
            text.begin("cairn_h_seconds", "histogram", "H.");
            let bucket = |bound, below| Bucket { bound, below, exemplar: None };
            text.histogram("cairn_h_seconds", "{r=\"x\"}", [bucket("0.5", 1), bucket("+Inf", 3)], (3, 1.5));
            text.histogram("cairn_h_seconds", "", [bucket("0.5", 0), bucket("+Inf", 0)], (0, 0.0));
            text.end()
        };
        let body = "# HELP cairn_h_seconds H.\n# TYPE cairn_h_seconds histogram\n\
                    cairn_h_seconds_bucket{r=\"x\",le=\"0.5\"} 1\ncairn_h_seconds_bucket{r=\"x\",le=\"+Inf\"} 3\n\
                    cairn_h_seconds_sum{r=\"x\"} 1.5\ncairn_h_seconds_count{r=\"x\"} 3\n\
                    cairn_h_seconds_bucket{le=\"0.5\"} 0\ncairn_h_seconds_bucket{le=\"+Inf\"} 0\n\
                    cairn_h_seconds_sum 0\ncairn_h_seconds_count 0\n";
        let text = "# HELP cairn_a_total A.\n# TYPE cairn_a_total counter\ncairn_a_total{b=\"c\"} 1\n\
                    # HELP envoy_rq B.\n# TYPE envoy_rq counter\nenvoy_rq 2\n";
        assert_eq!(write(MetricsFormat::Text), format!("{text}{body}"));
        let text = "# HELP cairn_a A.\n# TYPE cairn_a counter\ncairn_a_total{b=\"c\"} 1\n\
                    # HELP envoy_rq B.\n# TYPE envoy_rq unknown\nenvoy_rq 2\n";
        assert_eq!(write(MetricsFormat::OpenMetrics), format!("{text}{body}# EOF\n"));
    }
}
