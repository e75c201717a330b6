//! `cairn tap`: exchanges of a running cairn, as they end. Not here: what is shown of one (`cairn::observer`).

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use cairn::config;
use cairn::observer::TapEvent;
use cairn::printable::printable_lines;
use form_urlencoded::Serializer;

use super::remote::{Target, follow};
use super::{fail, written};

/// What `tap` takes.
#[derive(Debug, clap::Args)]
pub(super) struct TapArguments {
    #[command(flatten)]
    target: Target,
    /// Only exchanges of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only exchanges with this status, or with one of this class, such as 404 or 5xx
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<String>,
    /// Only exchanges that have taken so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    slower: Option<Duration>,
    /// End after so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Success if the process has shown exchanges until the limit, or until it ended.
pub(super) fn tap(arguments: &TapArguments) -> ExitCode {
    let mut query = Serializer::new(String::new());
    let TapArguments { target, route, status, slower, limit } = arguments;
    let slower = slower.map(|slower| slower.as_millis().to_string());
    let limit = limit.map(|limit| limit.to_string());
    for (name, value) in [("route", route), ("status", status), ("slower_ms", &slower), ("limit", &limit)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let show = |line: &[u8]| if target.json() { std::io::stdout().write_all(line) } else { show(line) };
    match follow(target, &target.naming(&format!("/tap?{}", query.finish())), show) {
        Ok(shown) => written(shown, ExitCode::SUCCESS),
        Err(problem) => fail(&format!("{}\n", problem.trim_end())),
    }
}

/// Prints an exchange; what concerns the watching itself goes to stderr.
fn show(line: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match serde_json::from_slice(line) {
        Ok(TapEvent::Exchange(tapped)) => stdout.write_all(printable_lines(&tapped.to_string()).as_bytes())?,
        Ok(TapEvent::Begun(workers)) => eprintln!("cairn: watching {workers} workers; ^C ends it"),
        Ok(TapEvent::Dropped(count)) => eprintln!("cairn: {count} exchanges were not shown so far: they came too fast"),
        Err(error) => eprintln!("cairn: this was not understood: {error}"),
    }
    stdout.flush()
}

fn status(text: &str) -> Result<String, String> {
    config::statuses(text).map(|_| text.to_owned()).ok_or_else(|| "write 404, or 2xx to 5xx".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "write 500ms, 2s or 1m".to_owned())
}
