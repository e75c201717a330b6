//! What a tenant's file may cost to read and compile, because all reloads share one thread.
//! Not here: what the file may configure (`bounds`, `claim`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::files::FILE_BYTES_MAX;
use super::report::{Problems, SourceSpan};
use super::section::{Section, Text};
use crate::route::try_expression;

/// The keys of `[tenant.limits]` about costs, and what has been spent.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    routes: usize,
    names: usize,
    expression_bytes: u64,
    compile_time: Duration,
    files: usize,
    /// Where each of these limits is configured, in the order routes, names, expression bytes, compile time, files.
    at: [SourceSpan; 5],
    spent: Spent,
}

/// Costs of one reading so far.
#[derive(Clone, Debug, Default)]
struct Spent {
    names: Cell<usize>,
    files: Cell<usize>,
    expression_bytes: Cell<u64>,
    /// CPU time of the thread when the reading began.
    began: Cell<Duration>,
    /// Time that the thread has waited for files and name servers.
    waited: Cell<Duration>,
    /// A limit is exceeded, and the problem has been reported.
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

    /// The same budget with nothing spent, for another reading.
    pub(super) fn begin(&self) -> Self {
        let spent = Spent::default();
        spent.began.set(cpu_time());
        Self { spent, ..self.clone() }
    }

    /// Counts routes and their hosts. False: there are too many, and the caller reads no further.
    pub(super) fn routes(&self, routes: &[Section<'_>], problems: &mut Problems) -> bool {
        if let Some(surplus) = routes.get(self.routes) {
            let message = format!("the file has {} routes; the tenant may have {}", routes.len(), self.routes);
            self.refuse(surplus.at, message, (self.at[0], "routes"), problems);
        }
        for route in routes.iter().take(self.routes) {
            self.name(route.span("hosts"), route.length("hosts").unwrap_or(0), problems);
        }
        !self.is_over()
    }

    /// Counts what routes and clusters inherit, each as if it were written there: a file without defaults can have no more of it either.
    /// False: it is too much, and the caller reads no further.
    pub(super) fn inherited(&self, sections: &[Section<'_>], problems: &mut Problems) -> bool {
        let mut bytes = 0_u64;
        for section in sections {
            bytes = bytes.saturating_add(section.inheritable_bytes());
            if bytes > FILE_BYTES_MAX && !self.spent.over.replace(true) {
                problems
                    .add(section.at, format!("with what it inherits the file has more than {FILE_BYTES_MAX} bytes"))
                    .help("let [defaults] and groups hold less, or write it where it is needed");
            }
            if self.is_over() {
                break;
            }
        }
        !self.is_over()
    }

    /// Counts a name and resolves it with `ask`. None: the budget is used up.
    pub(super) fn look_up<T>(&self, text: Text<'_>, problems: &mut Problems, ask: impl FnOnce() -> T) -> Option<T> {
        self.name(text.at, 1, problems);
        self.wait(text.at, problems, ask)
    }

    /// Counts a reference to a file and reads it with `ask`. None: the budget is used up. Each reference costs a copy of the file.
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

    /// Calls `ask`, which may block, and counts the time that it blocks. None: no time is left.
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

    /// Whether a limit is exceeded, which has been reported: the caller reads no further.
    pub(super) fn is_over(&self) -> bool {
        self.spent.over.get()
    }

    /// Compiles an expression and counts its automaton. None: no time is left.
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

    /// Whether the budget lasts; reports at `at` if time has run out.
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

/// CPU time of this thread. Wall time would charge the tenant for other load of the machine.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
