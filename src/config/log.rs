//! `[log]`: the access log, and what is said on stderr. Not here: opening and writing it (`access_log`, `event_log`).

use std::ops::RangeInclusive;
use std::path::Path;

use super::nearest::nearest;
use super::report::Problems;
use super::section::{Section, Text};
use super::{field, foreign, status};
use crate::access_log::{AccessLogSpec, Format, LogTarget, Part, QueryRule, Rules, Variable};
use crate::event_log::{EventFormat, Level};
use crate::limits::LOGGED_HEADERS;
use crate::route::template::{self, parts};

/// Longest path of a socket, bytes (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

/// Fields that let whoever reads the log pass for the client.
const SECRETS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-amz-security-token"];

/// What is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// The least that is said.
    pub level: Level,
    /// How.
    pub format: EventFormat,
}

/// What is said on stderr, by the table.
pub(super) fn events(section: Section<'_>) -> EventSpec {
    let level = match section.word("level") {
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => Level::Info,
    };
    let format = if section.word("events") == "json" { EventFormat::Json } else { EventFormat::Text };
    EventSpec { level, format }
}

/// The access log, by the table, which is there. None: it is off.
pub(super) fn access(section: Section<'_>, problems: &mut Problems) -> Option<AccessLogSpec> {
    let format = format(section, problems);
    let rules = Rules {
        headers: headers(section, &format, problems),
        query: match section.word("query") {
            "redacted" => QueryRule::Redacted,
            "off" => QueryRule::Off,
            _ => QueryRule::Full,
        },
        sample: section.ratio("sample").unwrap_or(1.0),
        slow: section.optional_time("slow"),
        statuses: section
            .one("filter")
            .texts("statuses")
            .into_iter()
            .filter_map(|text| statuses(text, problems))
            .collect(),
    };
    let target = match section.text("access") {
        Some(text) => target(text, section.directory(), problems)?,
        None => LogTarget::Stdout,
    };
    Some(AccessLogSpec { target, format, rules })
}

fn target(text: Text<'_>, directory: &Path, problems: &mut Problems) -> Option<LogTarget> {
    const HELP: &str =
        "write \"stdout\", \"off\", \"/var/log/cairn/access.log\", \"syslog:/dev/log\" or \"syslog:127.0.0.1:514\"";
    let refuse = |problems: &mut Problems, why: String, help: &str| {
        problems.add(text.at, why).help(help.to_owned());
        None
    };
    match text.value {
        "stdout" => Some(LogTarget::Stdout),
        "off" => None,
        "" => refuse(problems, "`access` names no place".to_owned(), HELP),
        value => match value.strip_prefix("syslog:") {
            Some(path) if path.starts_with('/') && path.len() <= SOCKET_PATH_BYTES => {
                Some(LogTarget::SyslogSocket(path.into()))
            }
            Some(address) => match address.parse() {
                Ok(address) => Some(LogTarget::SyslogAddress(address)),
                Err(_) => {
                    let why = format!("\"{}\" names no syslog daemon", text.shown.escape_debug());
                    refuse(
                        problems,
                        why,
                        "write \"syslog:/dev/log\", or \"syslog:127.0.0.1:514\" for one that takes UDP",
                    )
                }
            },
            None if value.contains(['/', '.']) => Some(LogTarget::File(directory.join(value))),
            // A misspelt word must not become a file.
            None => {
                let help = match nearest(value, ["stdout", "off", "syslog:/dev/log"]) {
                    Some(word) => format!("did you mean \"{word}\"? A file in this directory is \"./{value}\""),
                    None => format!("{HELP}; a file in this directory is \"./{value}\""),
                };
                refuse(problems, format!("\"{}\" is no place for the access log", text.shown.escape_debug()), &help)
            }
        },
    }
}

fn format(section: Section<'_>, problems: &mut Problems) -> Format {
    let Some(text) = section.text("format") else { return Format::Json };
    if let Some(named) = Format::named(text.value) {
        return named;
    }
    if let Some(variable) = foreign::variable(text.value).filter(|variable| text.shown.contains(variable)) {
        let names = Variable::names().collect::<Vec<_>>().join(", ");
        problems
            .add(text.at, format!("`{}` is a variable of another proxy, and only text here", variable.escape_debug()))
            .help(format!("write ${{…}} with one of {names}"));
    } else if template::first_variable(text.value).is_none() {
        let help = match nearest(text.value, Format::NAMES) {
            Some(known) => format!("did you mean \"{known}\"?"),
            None => {
                "write \"json\", \"combined\", \"logfmt\", or a text with variables: \"${request.path}\"".to_owned()
            }
        };
        problems.add(text.at, format!("\"{}\" is not a format of lines", text.shown.escape_debug())).help(help);
    } else if text.value.contains('\n') {
        problems.add(text.at, "a line of the access log cannot hold a line break").help("write it as one line");
    }
    let part = |part| match part {
        template::Part::Text("") => None,
        template::Part::Text(text) => Some(Part::Text(text.into())),
        // One that is not known has been reported.
        template::Part::Variable(name) => Variable::parse(name).map(Part::Variable),
    };
    Format::Template(parts(text.value).filter_map(part).collect())
}

/// Names of the fields that workers have to keep: those that are asked for, and those of a template.
fn headers(section: Section<'_>, format: &Format, problems: &mut Problems) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let asked = section.texts("headers");
    for text in &asked {
        let name = text.value.to_ascii_lowercase();
        if !field::is_token(&name) {
            problems
                .add(text.at, format!("\"{}\" is not the name of a field", text.shown.escape_debug()))
                .help("write names such as \"x-tenant\"");
        } else if !refuse_secret(&name, text.at, problems) && !names.contains(&name.as_str().into()) {
            names.push(name.into());
        }
    }
    for name in format.headers() {
        if !refuse_secret(name, section.span("format"), problems) && !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
    }
    if names.len() > LOGGED_HEADERS {
        problems
            .add(
                section.span(if asked.len() > LOGGED_HEADERS { "headers" } else { "format" }),
                "too many fields are to be logged",
            )
            .help(format!("{LOGGED_HEADERS} at most"));
    }
    names
}

fn refuse_secret(name: &str, at: super::report::SourceSpan, problems: &mut Problems) -> bool {
    let secret = SECRETS.contains(&name);
    if secret {
        problems
            .add(at, format!("the field {name} holds a secret, which must not be in a log"))
            .help("leave it out; `client.identity` tells who has shown a certificate");
    }
    secret
}

/// `404` or `5xx`
fn statuses(text: Text<'_>, problems: &mut Problems) -> Option<RangeInclusive<u16>> {
    let range = status::range(text.value);
    if range.is_none() {
        problems
            .add(text.at, format!("\"{}\" is not a status", text.shown.escape_debug()))
            .help("write \"404\", \"4xx\" or \"5xx\"");
    }
    range
}
