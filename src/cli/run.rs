//! `cairn run`: loads the configuration and serves it. Not here: serving (`server`).

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use cairn::config::{Config, Loader, Report};
use cairn::control::{Compiler, demo};
use cairn::server::Server;
use cairn::{config, event_log};

use super::check;

/// What `run` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file, or a directory with cairn.toml and conf.d/*.toml
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// How many workers to start, instead of what the configuration says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut server = match Server::new() {
        Ok(server) => server,
        Err(error) => return fail(error),
    };
    // The demo's origins end when this function returns.
    let origins = match arguments.config {
        Some(_) => None,
        None => match demo::start() {
            Ok(origins) => Some(origins),
            Err(error) => {
                return fail(format_args!("the demo's origins cannot start: {error}; is `ulimit -n` very low?"));
            }
        },
    };
    let path = arguments.config.clone().unwrap_or_else(|| PathBuf::from("of the demo"));
    let addresses = origins.as_ref().map(demo::Demo::addresses);
    let Some((loaded, loader)) = server.prepare({
        let path = path.clone();
        move || load(path, addresses)
    }) else {
        server.end();
        return ended();
    };
    let mut config = match loaded {
        Ok(config) => config,
        Err(report) => {
            event_log::report(check::verdict(&path, &report));
            return failed();
        }
    };
    if let Some(workers) = arguments.workers {
        config.workers = usize::from(workers);
    }
    if origins.is_some() {
        print_tour();
    }
    match server.run(config, Compiler::new(loader)) {
        Ok(()) => ended(),
        Err(error) => fail(error),
    }
}

/// Loads the configuration at `path`, or the demo in front of origins at `demo`, which has no loader.
fn load(path: PathBuf, demo: Option<[SocketAddr; 2]>) -> (Result<Config, Report>, Option<Loader>) {
    match demo {
        Some(origins) => (config::demo(origins), None),
        None => {
            let mut loader = Loader::new(path);
            (loader.load(), Some(loader))
        }
    }
}

/// Flushes the log: exit code 0.
fn ended() -> ExitCode {
    event_log::flush();
    ExitCode::SUCCESS
}

/// Logs why the process ends: exit code 1. A blocked stderr does not keep it from ending.
fn fail(why: impl Display) -> ExitCode {
    event_log::log(event_log::Level::Error, why);
    failed()
}

/// Flushes the log: exit code 1.
fn failed() -> ExitCode {
    event_log::flush();
    ExitCode::FAILURE
}

/// Prints commands to try with the demo.
fn print_tour() {
    let lines = [
        "This is the demo: two origins of its own behind one listener. Try:",
        "  curl -i http://127.0.0.1:8080/                           an answer made by a route",
        "  curl -i http://127.0.0.1:8080/hello/you                  a JSON origin that says what it saw",
        "  curl -i -d 'some words' http://127.0.0.1:8080/echo       an origin that echoes the body",
        "  curl -i http://127.0.0.1:8080/moved                      a redirect",
        "or open http://127.0.0.1:8080/hello in a browser. Ctrl-C drains and ends it.",
    ];
    event_log::print(lines.join("\n"));
}
