//! Scenario files: requests with weights, and rates over time, in TOML. All problems of a file are reported at once, each with its
//! place and its remedy. Not here: reading values (`table`) or sending.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn::config::{Problems, Report, Source, SourceSpan};
use toml::de::DeTable;

use super::mix::filler;
use super::ramp::Step;
use super::table::{Table, span};
use super::target::{RequestForm, TargetError, Url};
use crate::args::{BODY_BYTES_MAX, Sha256};

const ROOT: [&str; 8] = ["connections", "pipeline", "close", "poisson", "timeout", "warmup", "request", "step"];
const REQUEST: [&str; 10] = [
    "url",
    "weight",
    "method",
    "headers",
    "body",
    "body_size",
    "body_file",
    "expect_status",
    "expect_length",
    "expect_sha256",
];
/// Keys of which a request has one at most.
const BODIES: [&str; 3] = ["body", "body_size", "body_file"];
const STEP: [&str; 2] = ["duration", "rate"];
/// Stands for the host of a request that has only a path, when its form is checked.
const ANY_HOST: &str = "http://host";

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("scenario {0} is invalid: {1} error{s}", s = if *.1 == 1 { "" } else { "s" })]
    Invalid(PathBuf, usize, Report),
}

/// A scenario file.
#[derive(Debug, Default)]
pub(super) struct Scenario {
    pub(super) connections: Option<u32>,
    pub(super) pipeline: Option<u16>,
    pub(super) close: bool,
    pub(super) poisson: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) warmup: Option<Duration>,
    pub(super) requests: Vec<Request>,
    pub(super) steps: Vec<Step>,
}

/// One of the requests that are mixed.
#[derive(Debug)]
pub(super) struct Request {
    /// A URL, or a path of the command line's URL.
    pub(super) url: String,
    pub(super) weight: u16,
    pub(super) method: Option<String>,
    /// `Name: value`
    pub(super) headers: Vec<String>,
    pub(super) content: Option<Vec<u8>>,
    pub(super) expect_status: Option<u16>,
    pub(super) expect_length: Option<u64>,
    pub(super) expect_sha256: Option<Sha256>,
}

impl Scenario {
    /// Reads a file. `based`: the command line has a URL for requests that have only a path.
    pub(super) fn read(path: &Path, based: bool) -> Result<Self, FileError> {
        let text = fs::read_to_string(path).map_err(|error| FileError::Read(path.into(), error))?;
        let mut problems = Problems::default();
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let place = error.span().unwrap_or_default();
            problems
                .add(SourceSpan { file: 0, start: place.start, end: place.end }, error.message())
                .help("the syntax is that of toml.io; other problems show when it is right");
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let scenario = errors.is_empty().then(|| Self::of(table.get_ref(), folder, based, &mut problems));
        match scenario {
            Some(scenario) if problems.is_empty() => Ok(scenario),
            _ => {
                let report = Report::new(&[Source::new(&path.display().to_string(), &text)], problems);
                Err(FileError::Invalid(path.into(), report.errors(), report))
            }
        }
    }

    fn of(table: &DeTable<'_>, folder: &Path, based: bool, problems: &mut Problems) -> Self {
        let root = Table::new("the scenario", SourceSpan::START, table, &ROOT, problems);
        root.needs("request", "[{ url = \"/\" }]", problems);
        let requests = root.tables("request", problems);
        let steps = root.tables("step", problems);
        let scenario = Self {
            connections: root.number("connections", [1, 1_000_000], problems),
            pipeline: root.number("pipeline", [1, 1024], problems).map(|number| number as u16),
            close: root.flag("close", problems),
            poisson: root.flag("poisson", problems),
            timeout: root.time("timeout", problems),
            warmup: root.time("warmup", problems),
            requests: requests.iter().filter_map(|(at, table)| request(*at, table, folder, based, problems)).collect(),
            steps: steps.iter().filter_map(|(at, table)| step(*at, table, problems)).collect(),
        };
        if scenario.close
            && let Some(pipeline) = root.node("pipeline").filter(|_| scenario.pipeline > Some(1))
        {
            problems
                .add(span(pipeline), "`pipeline` and `close` exclude each other")
                .help("a connection that is closed after each request has one under way");
        }
        scenario
    }
}

/// One request. None: it has no URL.
fn request(
    at: SourceSpan,
    table: &DeTable<'_>,
    folder: &Path,
    based: bool,
    problems: &mut Problems,
) -> Option<Request> {
    let table = Table::new("[[request]]", at, table, &REQUEST, problems);
    table.needs("url", "\"/\"", problems);
    let url = table.text("url", problems);
    let method = table.text("method", problems);
    let headers = table.fields("headers", problems);
    let mut judge = |name: &str, result: Result<(), TargetError>| {
        if let (Err(error), Some(node)) = (result, table.node(name)) {
            refuse(span(node), &error, problems);
        }
    };
    if let Some(url) = url {
        judge("url", located(url, based));
    }
    if let Some(method) = method {
        judge("method", RequestForm { method, headers: &[], body: None, close: false, grpc: false }.check());
    }
    for (field, at) in &headers {
        let form =
            RequestForm { method: "GET", headers: std::slice::from_ref(field), body: None, close: false, grpc: false };
        form.check().unwrap_or_else(|error| refuse(*at, &error, problems));
    }
    Some(Request {
        weight: table.number("weight", [1, 1000], problems).unwrap_or(1) as u16,
        method: method.map(str::to_owned),
        headers: headers.into_iter().map(|(field, _)| field).collect(),
        content: content(&table, folder, problems),
        expect_status: table.number("expect_status", [200, 599], problems).map(|status| status as u16),
        expect_length: table.size("expect_length", u64::MAX, problems),
        expect_sha256: table.digest("expect_sha256", problems),
        url: url?.to_owned(),
    })
}

/// Whether a URL, or a path, can be used.
fn located(url: &str, based: bool) -> Result<(), TargetError> {
    match url.starts_with('/') {
        true if !based => Err(TargetError::Baseless(url.into())),
        true => Url::parse(&format!("{ANY_HOST}{url}")).map(drop).map_err(|_| TargetError::Url(url.into())),
        false => Url::parse(url).map(drop),
    }
}

/// Reports what is wrong before the semicolon of `error`, and what helps behind it.
fn refuse(at: SourceSpan, error: &TargetError, problems: &mut Problems) {
    let text = error.to_string();
    match text.split_once("; ") {
        Some((message, help)) => problems.add(at, message).help(help),
        None => problems.add(at, text),
    };
}

/// The body, from one of three keys.
fn content(table: &Table<'_>, folder: &Path, problems: &mut Problems) -> Option<Vec<u8>> {
    let mut given: Vec<_> = BODIES.iter().filter_map(|name| Some((span(table.node(name)?), *name))).collect();
    given.sort_by_key(|(at, _)| *at);
    if let [(first, known), (second, name), ..] = given[..] {
        problems
            .add(second, format!("`{known}` and `{name}` exclude each other"))
            .note(first, "the other one is here")
            .help("keep one of `body`, `body_size`, `body_file`");
    }
    let text = table.text("body", problems).map(|text| text.as_bytes().to_vec());
    let filled = table.size("body_size", BODY_BYTES_MAX, problems).map(filler);
    let read = table.text("body_file", problems).map(|file| folder.join(file)).and_then(|path| {
        let problem = |error: io::Error| {
            let at = table.node("body_file").map_or(table.at, span);
            problems
                .add(at, format!("cannot read {}: {error}", path.display()))
                .help("write a path relative to the folder of the scenario");
        };
        fs::read(&path).map_err(problem).ok()
    });
    text.or(filled).or(read)
}

/// One step. None: it is not whole.
fn step(at: SourceSpan, table: &DeTable<'_>, problems: &mut Problems) -> Option<Step> {
    let table = Table::new("[[step]]", at, table, &STEP, problems);
    table.needs("duration", "\"10s\"", problems);
    table.needs("rate", "1000", problems);
    let duration = table.time("duration", problems);
    if let (Some(Duration::ZERO), Some(node)) = (duration, table.node("duration")) {
        problems.add(span(node), "a step takes some time").help("leave the step out, or write a longer `duration`");
    }
    let [from, to] = table.rates("rate", problems)?;
    Some(Step { duration: duration?, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, FileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s.toml");
        fs::write(&path, text).expect("a file");
        Scenario::read(&path, true)
    }

    /// The report on `text`, without the folder of the file.
    fn report(text: &str) -> String {
        match read(text) {
            Err(FileError::Invalid(path, _, report)) => {
                let folder = format!("{}/", path.parent().expect("a folder").display());
                report.text().replace(&folder, "")
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn bundled_scenarios_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario");
        let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
        let names: Vec<_> =
            files.map(|path| Scenario::read(&path, true).map(|_| path)).collect::<Result<_, _>>().expect("valid");
        assert!(names.len() >= 3);
    }

    #[test]
    fn steps_are_even_or_ramps() {
        let text = "[[request]]\nurl = '/'\nbody_size = '1KiB'\n[[step]]\nduration = '1s'\nrate = 5\n\
                    [[step]]\nduration = '2s'\nrate = [5, 1_000.5]\n";
        let scenario = read(text).expect("valid");
        let step = |seconds, from, to| Step { duration: Duration::from_secs(seconds), from, to };
        assert_eq!(scenario.steps, [step(1, 5.0, 5.0), step(2, 5.0, 1000.5)]);
        assert_eq!(scenario.requests[0].content.as_ref().map(Vec::len), Some(1024));
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_cure() {
        for (text, says) in [
            ("", "s.toml:1:1: error: the scenario has no `request`"),
            ("a = 1 2\n", "help: the syntax is that of toml.io"),
            ("request = 3\n", ":1:11: error: this is no value of `request`"),
            ("[[request]]\nurl = '/'\n[[request]]\n", ":3:1: error: [[request]] has no `url`"),
            ("[[request]]\nurl = '/'\nwieght = 3\n", "help: did you mean `weight`?"),
            ("[[request]]\nurl = '/'\nweight = 0\n", ":3:10: error: this is no value of `weight`"),
            ("[[request]]\nurl = '/'\nbody = 'a'\nbody_size = 3\n", ":4:13: error: `body` and `body_size` exclude"),
            ("[[request]]\nurl = '/'\nbody_file = 'nothing'\n", ":3:13: error: cannot read nothing: No such file"),
            ("[[request]]\nurl = 'ftp://a'\n", ":2:7: error: `ftp://a` is no URL\n"),
            ("[[request]]\nurl = '/'\nmethod = 'A B'\n", ":3:10: error: `A B` is no method"),
            ("[[request]]\nurl = '/'\nheaders = { a = 'b', connection = 'c' }\n", ":3:35: error: the field connection"),
            ("close = true\npipeline = 2\n[[request]]\nurl = '/'\n", ":2:12: error: `pipeline` and `close` exclude"),
            ("[[request]]\nurl = '/'\n[[step]]\nduration = '1'\nrate = 1\n", "help: write a number and its unit"),
            ("[[request]]\nurl = '/'\n[[step]]\nduration = '0s'\nrate = 1\n", ":4:12: error: a step takes some time"),
            ("[[request]]\nurl = '/'\n[[step]]\nduration = '1s'\nrate = -1\n", "help: write requests a second"),
            (
                "[[request]]\nurl = '/'\n[[step]]\nduration = '1s'\nrate = [1]\n",
                ":5:8: error: this is no value of `rate`",
            ),
        ] {
            let report = report(text);
            assert!(report.contains(says) && report.matches(": error: ").count() == 1, "{says}\n{report}");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario/mix.toml");
        let baseless = Scenario::read(&path, false).expect_err("paths without a host").to_string();
        assert!(baseless.ends_with("mix.toml is invalid: 3 errors"), "{baseless}");
    }
}
