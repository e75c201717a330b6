//! The HdrHistogram log of a run: one interval a second, as the tools of HdrHistogram read it. Not here: counting.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::histogram::Histogram;

/// Values are in nanoseconds; the longest of an interval is printed in milliseconds, as other tools do.
const DIVISOR: f64 = 1e6;

/// A log under construction.
#[derive(Debug)]
pub(crate) struct Log {
    text: Vec<u8>,
    coder: LogEncoder,
}

struct LogEncoder(V2DeflateSerializer);

impl Log {
    /// Begins a log whose times count from `zero`.
    pub(super) fn new(zero: SystemTime) -> Self {
        let mut log = Self { text: Vec::new(), coder: LogEncoder(V2DeflateSerializer::new()) };
        let mut head = IntervalLogWriterBuilder::new();
        head.add_comment("[Histogram log format version 1.3]").add_comment("latencies of cairn-load in nanoseconds");
        head.with_start_time(zero).with_base_time(zero).with_max_value_divisor(DIVISOR);
        // Writing to memory cannot fail.
        let _ = head.begin_log_with(&mut log.text, &mut log.coder.0);
        log
    }

    /// Adds one second.
    pub(super) fn add(&mut self, second: u64, latency: &Histogram) {
        let mut bare = IntervalLogWriterBuilder::new();
        bare.with_max_value_divisor(DIVISOR);
        let mut line = Vec::new();
        if let Ok(mut writer) = bare.begin_log_with(&mut line, &mut self.coder.0) {
            // Encoding fails only for histograms larger than these.
            let written =
                writer.write_histogram(latency.raw(), Duration::from_secs(second), Duration::from_secs(1), None);
            debug_assert!(written.is_ok());
        }
        // Skips the line of the divisor, which the head of the log has.
        let start = line.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.text.extend_from_slice(&line[start..]);
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

impl std::fmt::Debug for LogEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_log_reads_back() {
        let mut log = Log::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        for second in 0..2 {
            let mut latency = Histogram::new();
            (0..=second).for_each(|_| latency.record(Duration::from_millis(5)));
            log.add(second, &latency);
        }
        let text = String::from_utf8(log.text().to_vec()).expect("text");
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(log.text()) {
            if let LogEntry::Interval(interval) = entry.expect("an entry") {
                let bytes = base64(interval.encoded_histogram());
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
                read.push((interval.start_timestamp().as_secs(), histogram.len(), interval.max()));
            }
        }
        assert_eq!(read.iter().map(|(at, count, _)| (*at, *count)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
        assert!((5.0..5.01).contains(&read[0].2), "{text}");
    }

    fn base64(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
        for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
            (bits, count) = (bits << 6 | digit as u32, count + 6);
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        bytes
    }
}
