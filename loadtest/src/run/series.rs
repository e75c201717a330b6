//! The seconds of a run, over all threads: for the progress line, the report and the HdrHistogram log.
//! Not here: counting them, or how they look.

use std::collections::VecDeque;
use std::time::Duration;

use super::log::Log;
use super::meter::{Reader, Slice};

/// Number of seconds that are kept open, because threads deliver their slices at different times.
const OPEN: usize = 3;

/// Counts of one second over all threads.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    /// Number of the second, from the end of the warm-up.
    pub(crate) at: u64,
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

/// All seconds of a run.
#[derive(Debug)]
pub(crate) struct Series {
    done: Vec<Second>,
    open: VecDeque<Slice>,
    log: Option<Log>,
}

impl Series {
    pub(super) fn new(log: Option<Log>) -> Self {
        Self { done: Vec::new(), open: VecDeque::new(), log }
    }

    /// Takes the slices that the threads have delivered.
    pub(super) fn read(&mut self, readers: &[Reader]) {
        readers.iter().for_each(|reader| reader.drain(|slice| self.add(slice)));
    }

    /// Closes all seconds: no further slice will come.
    pub(super) fn close(&mut self) {
        while self.seal() {}
    }

    pub(crate) fn seconds(&self) -> &[Second] {
        &self.done
    }

    /// The log, if there is one.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// The last second that was filed before the newest, so that it is likely to be whole: its number, answers and p99.
    pub(super) fn latest(&self) -> Option<(u64, u64, Duration)> {
        let slice = self.open.iter().rev().nth(1)?;
        Some((slice.second, slice.latency.count(), slice.latency.quantile(0.99)))
    }

    fn add(&mut self, slice: &Slice) {
        let first = self.done.len() as u64;
        // Slices that come too late count for the oldest open second.
        let place = slice.second.max(first) - first;
        while self.open.len() as u64 <= place {
            self.open.push_back(Slice::new(first + self.open.len() as u64));
        }
        let open = &mut self.open[place as usize];
        open.latency.merge(&slice.latency);
        open.errors += slice.errors;
        while self.open.len() > OPEN {
            self.seal();
        }
    }

    fn seal(&mut self) -> bool {
        let Some(Slice { second, latency, errors }) = self.open.pop_front() else { return false };
        self.done.push(Second {
            at: second,
            answered: latency.count(),
            errors,
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            max: latency.max(),
        });
        if let Some(log) = &mut self.log {
            log.add(second, &latency);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(second: u64, ms: u64) -> Slice {
        let mut slice = Slice::new(second);
        slice.latency.record(Duration::from_millis(ms));
        slice
    }

    #[test]
    fn seconds_of_all_threads_are_joined_in_order() {
        let mut series = Series::new(None);
        // The second thread is late, once too late, and nothing happens in second 3.
        for part in [slice(0, 1), slice(1, 1), slice(0, 9), slice(2, 1), slice(4, 1), slice(1, 5)] {
            series.add(&part);
        }
        series.close();
        let seconds = series.seconds().iter().map(|second| (second.at, second.answered)).collect::<Vec<_>>();
        assert_eq!(seconds, [(0, 2), (1, 1), (2, 2), (3, 0), (4, 1)]);
        assert!(series.seconds()[0].p99 >= Duration::from_millis(9));
    }
}
