//! The line that says how a run goes, for those who watch. Not here: counting.

use std::io::{self, Write};

use super::series::Series;
use crate::report::time;

/// One line on stderr, written again and again.
#[derive(Debug)]
pub(super) struct Progress {
    live: bool,
    shown: usize,
}

impl Progress {
    pub(super) fn new(live: bool) -> Self {
        Self { live, shown: 0 }
    }

    /// Shows the newest whole second, if it is another one.
    pub(super) fn show(&mut self, series: &Series) {
        let Some((second, answered, p99)) = series.latest().filter(|_| self.live) else { return };
        if self.shown <= second as usize {
            self.shown = second as usize + 1;
            say(&format!("\r{} s  {answered}/s  p99 {}\x1b[K", second + 1, time(p99)));
        }
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if self.shown > 0 {
            say("\r\x1b[K");
        }
    }
}

fn say(text: &str) {
    // Nobody to tell when stderr is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}
