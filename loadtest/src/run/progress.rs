//! The progress line of a run on a terminal. Not here: counting.

use std::io::Write;

use super::series::Series;
use crate::report::time;

/// One line of a terminal that is overwritten.
#[derive(Debug)]
pub(super) struct Progress<W> {
    /// None: there is no terminal.
    terminal: Option<W>,
    /// Number of seconds up to the one that is shown.
    shown: u64,
}

impl<W: Write> Progress<W> {
    pub(super) fn new(terminal: Option<W>) -> Self {
        Self { terminal, shown: 0 }
    }

    /// Shows the newest complete second, if it has changed.
    pub(super) fn show(&mut self, series: &Series) {
        let Some((second, answered, p99)) = series.latest().filter(|(second, ..)| *second >= self.shown) else {
            return;
        };
        self.shown = second + 1;
        self.say(&format!("\r{} s  {answered}/s  p99 {}\x1b[K", self.shown, time(p99)));
    }

    /// Clears the line.
    pub(super) fn end(&mut self) {
        if self.shown > 0 {
            self.say("\r\x1b[K");
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            // A closed terminal is ignored.
            let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::meter::meter;
    use std::time::Duration;

    #[test]
    fn each_whole_second_replaces_the_one_before() {
        let (mut meter, reader) = meter();
        let (mut series, mut line) = (Series::new(None), Vec::new());
        let mut progress = Progress::new(Some(&mut line));
        for second in 0..4 {
            meter.turn(Duration::from_secs(second));
            (0..=second).for_each(|_| meter.record(Duration::from_millis(2)));
            series.read(std::slice::from_ref(&reader));
            // However often it is asked.
            (0..3).for_each(|_| progress.show(&series));
        }
        progress.end();
        let expected = "\r1 s  1/s  p99 2.00 ms\x1b[K\r2 s  2/s  p99 2.00 ms\x1b[K\r\x1b[K";
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }
}
