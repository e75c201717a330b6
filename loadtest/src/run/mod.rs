//! `cairn-load run`: from arguments to a report. Not here: sending, or how the report looks.

mod ask;
mod generator;
mod pace;
mod plan;
mod slot;
mod tally;
mod target;

use std::sync::Arc;

pub(crate) use plan::{Plan, PlanError};
pub(crate) use tally::{Failure, Tally};

use crate::args::RunArguments;
use crate::crew::{self, CrewError, Stop};
use crate::report;
use generator::Generator;
use plan::Part;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error("no request was answered: {0}")]
    Unanswered(String),
}

/// Runs the load and returns the report.
pub(crate) fn run(arguments: &RunArguments) -> Result<String, RunError> {
    let plan = Arc::new(Plan::new(arguments)?);
    let tally = carry_out(&plan)?;
    Ok(if arguments.json { report::json(&plan, &tally) } else { report::text(&plan, &tally) })
}

/// Runs the load and returns what was counted.
pub(crate) fn load(arguments: &RunArguments) -> Result<Tally, RunError> {
    carry_out(&Arc::new(Plan::new(arguments)?))
}

fn carry_out(plan: &Arc<Plan>) -> Result<Tally, RunError> {
    let shared = Arc::clone(plan);
    let job = move |part: Part, ring, stop: &Stop| Generator::new(&shared, &part, ring).run(stop);
    let tallies = crew::work(plan.parts(), &plan.cpus, job, || {})?;
    let mut sum = Tally::new();
    tallies.iter().for_each(|tally| sum.merge(tally));
    if sum.sent > 0 && !sum.is_answered() && !sum.interrupted {
        return Err(RunError::Unanswered(report::errors(&sum)));
    }
    Ok(sum)
}
