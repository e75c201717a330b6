//! Verbs, their arguments and exit codes: 0 as asked, 1 not valid or not found, 2 wrong usage.
//! Not here: anything that a verb does beyond reading arguments and printing.

mod request;
mod check;
mod dev_cert;
mod explain;
mod import;
mod remote;
mod run;
mod tap;
mod top;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cairn::printable::printable_lines;
use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

/// A thread-per-core HTTP proxy.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Validate and exit, as `check`
    #[arg(short = 't', requires = "config")]
    test: bool,
    /// Configuration to validate: a file, or a directory with cairn.toml and conf.d/*.toml
    #[arg(short, long, value_name = "PATH", requires = "test")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve in the foreground; without -c a demo with origins of its own, on 127.0.0.1:8080
    Run(run::Arguments),
    /// Validate a configuration and report every error with its place
    Check(check::Arguments),
    /// Say which route, cluster and endpoint a request would take, and why
    Explain(explain::Arguments),
    /// Say what a reload would change in the running process; changes nothing
    Plan(remote::PlanArguments),
    /// Have the running process read its configuration again
    Reload(remote::ReloadArguments),
    /// Say how the running process does
    Status(remote::StatusArguments),
    /// List the routes of the running process
    Routes(remote::Target),
    /// Drain an endpoint of the running process, have it back, or weigh it differently
    #[command(subcommand)]
    Endpoint(remote::EndpointVerb),
    /// See to the logs of the running process
    #[command(subcommand)]
    Log(remote::LogVerb),
    /// Say what became of a recent request that has failed or was slow
    Why(remote::WhyArguments),
    /// Show live what the running process does: routes, clusters, endpoints, workers, slow and failed requests
    Top(top::TopArguments),
    /// Show exchanges of the running process as they end, with the fields of their heads; secrets are masked
    Tap(tap::TapArguments),
    /// Have the running process end what is under way, then end
    Drain(remote::Target),
    /// Print cairn's configuration for that of nginx or HAProxy
    Import(import::Arguments),
    /// Write an authority of this machine and certificates of it, to try TLS out
    DevCert(dev_cert::Arguments),
    /// Show configuration
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the documented default file
    Default,
    /// Print the configuration in effect: every key, its value, and where that comes from
    Show {
        /// A file, or a directory with cairn.toml and conf.d/*.toml
        #[arg(short, long, value_name = "PATH")]
        config: PathBuf,
    },
    /// Print a JSON Schema for editors
    Schema {
        /// That of a tenant's file
        #[arg(long)]
        tenant: bool,
    },
}

/// Parses the arguments and runs the verb. Invalid arguments end the process with 2.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => error.exit(),
        // --help and --version.
        Err(error) => return written(error.print().and_then(|()| io::stdout().flush()), ExitCode::SUCCESS),
    };
    match (arguments.verb, arguments.config) {
        (Some(Verb::Run(arguments)), _) => run::run(&arguments),
        (Some(Verb::Check(arguments)), _) => check::run(&arguments),
        (None, Some(config)) => check::check(&config, false),
        (Some(Verb::Explain(arguments)), _) => explain::explain(&arguments),
        (Some(Verb::Plan(arguments)), _) => remote::plan(&arguments),
        (Some(Verb::Reload(arguments)), _) => remote::reload(&arguments),
        (Some(Verb::Status(arguments)), _) => remote::status(&arguments),
        (Some(Verb::Routes(target)), _) => remote::routes(&target),
        (Some(Verb::Endpoint(verb)), _) => remote::endpoint(&verb),
        (Some(Verb::Log(verb)), _) => remote::log(&verb),
        (Some(Verb::Why(arguments)), _) => remote::why(&arguments),
        (Some(Verb::Top(arguments)), _) => top::top(&arguments),
        (Some(Verb::Tap(arguments)), _) => tap::tap(&arguments),
        (Some(Verb::Drain(target)), _) => remote::drain(&target),
        (Some(Verb::Import(arguments)), _) => import::run(&arguments),
        (Some(Verb::DevCert(arguments)), _) => dev_cert::run(&arguments),
        (Some(Verb::Config(verb)), _) => config(&verb),
        (None, None) => usage("a verb is missing"),
    }
}

fn config(verb: &ConfigVerb) -> ExitCode {
    match verb {
        ConfigVerb::Default => print_document(&cairn::config::document(), ExitCode::SUCCESS),
        ConfigVerb::Schema { tenant } => print_document(&cairn::config::json_schema(*tenant), ExitCode::SUCCESS),
        ConfigVerb::Show { config } => match cairn::config::show(config) {
            Ok(text) => print_document(&text, ExitCode::SUCCESS),
            Err(report) => check::invalid(config, &report),
        },
    }
}

/// Prints `text`, which may quote untrusted input.
fn print(text: &str, code: ExitCode) -> ExitCode {
    write(printable_lines(text).as_bytes(), code)
}

/// Prints a document for programs: as it is, but for a terminal.
fn print_document(text: &str, code: ExitCode) -> ExitCode {
    if io::stdout().is_terminal() {
        return print(text, code);
    }
    write(text.as_bytes(), code)
}

/// Writes to stdout. Standard output keeps the last line until it is flushed.
fn write(bytes: &[u8], code: ExitCode) -> ExitCode {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(bytes).and_then(|()| stdout.flush()), code)
}

/// `code`, if all was written or the reader wants no more, as `head` does. Otherwise what was asked for is not there: 1.
fn written(result: io::Result<()>, code: ExitCode) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("cairn: cannot write to standard output: {error}\n"))
        }
        _ => code,
    }
}

/// Prints `text` as an error: exit code 1.
fn fail(text: &str) -> ExitCode {
    let _ = io::stderr().lock().write_all(printable_lines(text).as_bytes());
    ExitCode::FAILURE
}

/// Reports invalid arguments: exit code 2.
fn usage(message: &str) -> ! {
    Arguments::command().error(ErrorKind::ValueValidation, message).exit()
}
