//! What a tenant's file may cost to read and compile: a bound on what each of them takes of the thread that all reloads share.
//! Not here: what the file may say (`bounds`, `claim`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::report::{Problems, SourceSpan};
use super::section::{Section, Text};
use crate::route::try_expression;

/// The part of `[tenant.limits]` that is about this.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    routes: usize,
    names: usize,
    expression_bytes: u64,
    compile_time: Duration,
    files: usize,
    /// Where each stands, in this order.
    at: [SourceSpan; 5],
    spent: Spent,
}

/// What one reading has taken so far.
#[derive(Clone, Debug, Default)]
struct Spent {
    names: Cell<usize>,
    files: Cell<usize>,
    expression_bytes: Cell<u64>,
    /// CPU time of the thread when it began.
    began: Cell<Duration>,
    /// Time in which the thread waited for answers.
    waited: Cell<Duration>,
    /// One of them is used up, which has been said.
    over: Cell<bool>,
}

impl Budget {
    pub(super) fn read(limits: Section<'_>) -> Self {
        let count = |key| usize::try_from(limits.number(key)).unwrap_or(usize::MAX);
        Self {
            routes: count("routes"),
            names: count("names"),
            expression_bytes: limits.size("expression_bytes"),
            compile_time: limits.time("compile_time"),
            files: count("files"),
            at: ["routes", "names", "expression_bytes", "compile_time", "files"].map(|key| limits.span(key)),
            spent: Spent::default(),
        }
    }

    /// The whole budget again, for another reading.
    pub(super) fn begin(&self) -> Self {
        let spent = Spent::default();
        spent.began.set(cpu_time());
        Self { spent, ..self.clone() }
    }

    /// Counts routes and their hosts; false: there are too many, and nothing else is to be read of them.
    pub(super) fn routes(&self, routes: &[Section<'_>], problems: &mut Problems) -> bool {
        if let Some(surplus) = routes.get(self.routes) {
            let message = format!("the file has {} routes; the tenant may have {}", routes.len(), self.routes);
            self.refuse(surplus.at, message, (self.at[0], "routes"), problems);
        }
        for route in routes.iter().take(self.routes) {
            self.name(route.span("hosts"), route.length("hosts"), problems);
        }
        !self.is_over()
    }

    /// Counts a name that is to be looked up, and looks it up; None: it is one too many.
    pub(super) fn look_up<T>(&self, text: Text<'_>, problems: &mut Problems, ask: impl FnOnce() -> T) -> Option<T> {
        self.name(text.at, 1, problems);
        self.wait(text.at, problems, ask)
    }

    /// Counts a reference to a file, and reads it; None: it is one too many. Each costs memory for a copy of the file.
    pub(super) fn file<T>(&self, at: SourceSpan, problems: &mut Problems, ask: impl FnOnce() -> T) -> Option<T> {
        let files = self.spent.files.get() + 1;
        self.spent.files.set(files);
        if files > self.files {
            let message =
                format!("the file refers to {files} files up to here; the tenant may refer to {}", self.files);
            self.refuse(at, message, (self.at[4], "files"), problems);
        }
        self.wait(at, problems, ask)
    }

    /// Asks for what the thread may have to wait for; None: there is no time for it.
    fn wait<T>(&self, at: SourceSpan, problems: &mut Problems, ask: impl FnOnce() -> T) -> Option<T> {
        if !self.has_time(at, problems) {
            return None;
        }
        let (asked, cpu) = (Instant::now(), cpu_time());
        let answer = ask();
        let waited = asked.elapsed().saturating_sub(cpu_time().saturating_sub(cpu));
        self.spent.waited.set(self.spent.waited.get() + waited);
        Some(answer)
    }

    /// Whether one of them is used up, which has been said: nothing else is to be read.
    pub(super) fn is_over(&self) -> bool {
        self.spent.over.get()
    }

    /// Tries an expression; None: there is nothing left to compile it with.
    pub(super) fn expression(&self, text: Text<'_>, problems: &mut Problems) -> Option<Result<usize, String>> {
        if !self.has_time(text.at, problems) {
            return None;
        }
        let tried = try_expression(text.value);
        let bytes = self.spent.expression_bytes.get() + *tried.as_ref().unwrap_or(&0) as u64;
        self.spent.expression_bytes.set(bytes);
        if bytes > self.expression_bytes {
            let message = format!("the expressions of the file need automata of {bytes} bytes up to this one");
            self.refuse(text.at, message, (self.at[2], "expression_bytes"), problems);
        }
        Some(tried)
    }

    /// Whether anything is left; reports at `at` that there is no time any more.
    pub(super) fn has_time(&self, at: SourceSpan, problems: &mut Problems) -> bool {
        let spent = cpu_time().saturating_sub(self.spent.began.get()) + self.spent.waited.get();
        if spent > self.compile_time {
            let message =
                format!("the file has taken {spent:.1?} up to here; the tenant may take {:?}", self.compile_time);
            self.refuse(at, message, (self.at[3], "compile_time"), problems);
        }
        !self.is_over()
    }

    fn name(&self, at: SourceSpan, count: usize, problems: &mut Problems) {
        let names = self.spent.names.get().saturating_add(count);
        self.spent.names.set(names);
        if names > self.names {
            let message =
                format!("the file has {names} hosts and names up to here; the tenant may have {}", self.names);
            self.refuse(at, message, (self.at[1], "names"), problems);
        }
    }

    fn refuse(&self, at: SourceSpan, message: String, (limit, key): (SourceSpan, &str), problems: &mut Problems) {
        if !self.spent.over.replace(true) {
            problems.add(at, message).note(limit, "its limits stand here").help(format!(
                "make the file simpler; the operator can give it more: a larger limits.{key} in the root"
            ));
        }
    }
}

/// Of this thread: a machine that is busy with something else is not the tenant's fault.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
