//! `cairn-load find`: the highest rate that a target holds, and its latencies at parts of that. Not here: one load (`run`), or how the
//! result looks (`report`).

mod report;
mod search;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::args::{FindArguments, RunArguments};
use crate::machine::{Machine, time_of_day};
use crate::report::time;
use crate::run::{self, RunError};
use search::{Bounds, Break, Figures, Search};

/// Parts of the highest rate at which latencies are measured.
const PARTS: [f64; 4] = [0.3, 0.5, 0.7, 0.9];
/// How often a rate is tried before it counts as broken: what else the machine does may spoil one try.
const TRIES: u32 = 2;

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("no rate holds, down to {0:.1}/s: {1}; see --errors and --p99, or -c where requests are unsent")]
    Nothing(f64, &'static str),
    #[error("interrupted")]
    Interrupted,
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
}

impl FindError {
    /// The problems of a scenario, each with its place.
    pub(crate) fn details(&self) -> Option<Arc<str>> {
        match self {
            Self::Run(error) => error.details(),
            _ => None,
        }
    }
}

/// One step of the search.
#[derive(Clone, Copy, Debug)]
struct Step {
    figures: Figures,
    /// Why the rate does not hold; None: it does.
    broken: Option<Break>,
}

/// Repeated measurements at a part of the highest rate.
#[derive(Clone, Debug)]
struct Level {
    part: f64,
    runs: Vec<Figures>,
}

/// What was found.
#[derive(Debug)]
struct Found {
    name: String,
    date: String,
    machine: Machine,
    bounds: Bounds,
    steps: Vec<Step>,
    /// The highest rate that held, requests a second.
    most: f64,
    levels: Vec<Level>,
}

/// Searches, measures, writes the files that were asked for, and returns the report.
pub(crate) fn find(arguments: &FindArguments) -> Result<String, FindError> {
    let found = Finder { arguments, live: io::stderr().is_terminal() }.find()?;
    if let Some(path) = &arguments.html {
        let page = report::page(&found, arguments);
        std::fs::write(path, page).map_err(|error| FindError::Write(path.clone(), error))?;
    }
    Ok(if arguments.json { report::json(&found, arguments) } else { report::text(&found, arguments) })
}

struct Finder<'a> {
    arguments: &'a FindArguments,
    /// Whether to say what is under way.
    live: bool,
}

impl Finder<'_> {
    fn find(&self) -> Result<Found, FindError> {
        let mut bounds = Bounds { p99: self.arguments.p99, failed: self.arguments.errors };
        let (steps, most) = self.search(&mut bounds)?;
        let levels = self.measure(most)?;
        let load = &self.arguments.load;
        let names = load.scenario.iter().map(|path| path.display().to_string()).chain(load.urls.clone());
        Ok(Found {
            name: names.collect::<Vec<_>>().join(" "),
            date: time_of_day(),
            machine: Machine::here(None),
            bounds,
            steps,
            most,
            levels,
        })
    }

    fn search(&self, bounds: &mut Bounds) -> Result<(Vec<Step>, f64), FindError> {
        let &FindArguments { from, to, precision, step, .. } = self.arguments;
        let (mut search, mut steps) = (Search::new(from, to, precision), Vec::<Step>::new());
        while let Some(rate) = search.next() {
            let held = (0..TRIES).try_fold(false, |held, _| {
                if held {
                    return Ok(true);
                }
                let figures = self.load(rate, step)?;
                let broken = bounds.judge(&figures);
                if broken.is_none() {
                    bounds.learn(&figures);
                }
                self.say(rate, &figures, broken.map_or("holds", Break::name));
                steps.push(Step { figures, broken });
                Ok::<_, FindError>(broken.is_none())
            })?;
            search.note(rate, held);
        }
        match (search.held, steps.last()) {
            (Some(most), _) => Ok((steps, most)),
            (None, Some(last)) => {
                Err(FindError::Nothing(last.figures.due, last.broken.map_or("nothing was tried", Break::name)))
            }
            (None, None) => Err(FindError::Nothing(from, "nothing was tried")),
        }
    }

    /// Measures at each part of the highest rate, in turn: A B C D A B C D.
    fn measure(&self, most: f64) -> Result<Vec<Level>, FindError> {
        let mut levels = PARTS.map(|part| Level { part, runs: Vec::new() });
        for _ in 0..self.arguments.repeat {
            for level in &mut levels {
                let figures = self.load(most * level.part, self.arguments.measure)?;
                self.say(most * level.part, &figures, "measured");
                level.runs.push(figures);
            }
        }
        Ok(levels.into())
    }

    /// Loads the target at `rate`.
    fn load(&self, rate: f64, duration: Duration) -> Result<Figures, FindError> {
        let arguments = RunArguments {
            load: self.arguments.load.clone(),
            rate: Some(rate),
            poisson: self.arguments.poisson,
            duration: Some(duration),
            requests: None,
            warmup: Some(self.arguments.warmup),
            fail_below: 0.0,
            hdr: None,
            html: None,
            json: false,
        };
        match run::load(&arguments) {
            Ok(outcome) if outcome.counts.interrupted => Err(FindError::Interrupted),
            Ok(outcome) => Ok(Figures::of(&outcome, rate)),
            Err(RunError::Unanswered(_)) => Ok(Figures::nothing(rate)),
            Err(error) => Err(error.into()),
        }
    }

    fn say(&self, rate: f64, figures: &Figures, what: &str) {
        if self.live {
            // A closed stderr is ignored.
            let _ = writeln!(io::stderr(), "{rate:>12.1}/s  p99 {:>9}  {what}", time(figures.p99));
        }
    }
}
