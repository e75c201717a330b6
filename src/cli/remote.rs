//! The verbs that ask a running cairn, over its admin socket: reload, plan, status, routes, drain. Not here: the answers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cairn::config::{self, TenantState};
use cairn::control::admin::MEANT;
use cairn::control::{GUARD_MAX, Plan, Reloaded, RouteLine, Status, Verdict};
use cairn::observer::Story;
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{fail, print, print_document, usage};

/// Which process is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The configuration of the running process: says where its admin socket is. A process that serves another one refuses
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Its admin socket, instead
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Target {
    /// Whether the answer is printed as it came.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// `path` with the configuration that is meant, so that a process that serves another one refuses.
    pub(super) fn naming(&self, path: &str) -> String {
        let Some(config) = &self.config else { return path.to_owned() };
        let query = Serializer::new(String::new()).append_pair(MEANT, &absolute(config)).finish();
        let mark = if path.contains('?') { '&' } else { '?' };
        format!("{path}{mark}{query}")
    }
}

/// The process may have another working directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// What `reload` takes.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    target: Target,
    /// Watch the answers for so long, and take the reload back by itself when they get worse
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    guard: Option<Duration>,
    /// By how many percentage points the share of 5xx answers, or of connect failures, may rise under guard [default: 5%]
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "guard")]
    threshold: Option<f64>,
    /// End the guard of the last reload, and keep what it brought
    #[arg(long, conflicts_with_all = ["guard", "rollback"])]
    accept: bool,
    /// End the guard of the last reload, and serve again what was served before
    #[arg(long, conflicts_with = "guard")]
    rollback: bool,
    /// Does not exist, and says what does
    #[arg(long, value_name = "PATH", hide = true)]
    from: Option<PathBuf>,
}

/// What `status` takes.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    target: Target,
    /// Only this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

/// What `plan` takes.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArguments {
    /// The configuration to compare with what is served: a file, or a directory with cairn.toml and conf.d/*.toml
    #[arg(short, long, value_name = "PATH")]
    config: PathBuf,
    /// The admin socket of the running process, instead of what the configuration says
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reloads, or ends a guard. Success if the files are served now, after the guard too, or if the guard ends as requested.
pub(super) fn reload(arguments: &ReloadArguments) -> ExitCode {
    if let Some(from) = &arguments.from {
        let from = from.display();
        usage(&format!(
            "a reload reads the file that the process was started with: copy {from} over it, or see with `cairn plan -c {from}` what that would change"
        ));
    }
    let text = |reloaded: &Reloaded| format!("{}\n", reloaded.to_string().trim_end());
    let order = |path: &str, good: fn(&Reloaded) -> bool| {
        show(&arguments.target, Method::POST, &arguments.target.naming(path), |reloaded: &Reloaded| {
            (text(reloaded), good(reloaded))
        })
    };
    if arguments.accept {
        return order("/reload/accept", Reloaded::is_good);
    }
    if arguments.rollback {
        return order("/reload/rollback", |reloaded| reloaded.verdict == Verdict::RolledBack);
    }
    let mut query = Serializer::new(String::new());
    if let Some(guard) = arguments.guard {
        query.append_pair("guard_ms", &guard.as_millis().to_string());
    }
    if let Some(threshold) = arguments.threshold {
        query.append_pair("threshold", &threshold.to_string());
    }
    order(&format!("/reload?{}", query.finish()), Reloaded::is_good)
}

/// Success if the configuration is valid.
pub(super) fn plan(arguments: &PlanArguments) -> ExitCode {
    let target = Target {
        config: Some(arguments.config.clone()).filter(|_| arguments.socket.is_none()),
        socket: arguments.socket.clone(),
        json: arguments.json,
    };
    let query = Serializer::new(String::new()).append_pair("path", &absolute(&arguments.config)).finish();
    show(&target, Method::POST, &format!("/plan?{query}"), |plan: &Plan| (plan.to_string(), true))
}

/// Success if the process answers, and, with a tenant, if the tenant's file is served as it stands.
pub(super) fn status(arguments: &StatusArguments) -> ExitCode {
    let target = &arguments.target;
    show(target, Method::GET, &target.naming("/status"), |status: &Status| match &arguments.tenant {
        None => (status.to_string(), true),
        Some(name) => match status.tenants.iter().find(|tenant| tenant.name == *name) {
            Some(tenant) => (tenant.to_string(), tenant.state == TenantState::Live),
            None => (format!("there is no tenant {name}\n"), false),
        },
    })
}

/// Success if the process answers.
pub(super) fn routes(target: &Target) -> ExitCode {
    show(target, Method::GET, &target.naming("/routes"), |lines: &Vec<RouteLine>| {
        (lines.iter().map(|line| format!("{line}\n")).collect(), true)
    })
}

/// What `endpoint` takes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum EndpointVerb {
    /// Send it no new requests; what is under way ends
    Drain(EndpointArguments),
    /// Give it its share again, by the weight of the configuration, whatever was held against it
    Ready(EndpointArguments),
    /// Give it another weight, until `ready` or the end of the process; 0: none
    Weight {
        #[command(flatten)]
        arguments: EndpointArguments,
        /// From 0 to 65535
        weight: u16,
    },
}

/// Which endpoint is meant.
#[derive(Debug, clap::Args)]
pub(super) struct EndpointArguments {
    #[command(flatten)]
    target: Target,
    /// Name of the cluster
    cluster: String,
    /// Its address, as `status` shows it
    address: String,
}

/// Success if the endpoint is there.
pub(super) fn endpoint(verb: &EndpointVerb) -> ExitCode {
    let (arguments, order, weight) = match verb {
        EndpointVerb::Drain(arguments) => (arguments, "drain", None),
        EndpointVerb::Ready(arguments) => (arguments, "ready", None),
        EndpointVerb::Weight { arguments, weight } => (arguments, "weight", Some(weight)),
    };
    let EndpointArguments { target, cluster, address } = arguments;
    let mut query = Serializer::new(String::new());
    query.append_pair("cluster", cluster).append_pair("address", address).append_pair("order", order);
    if let Some(weight) = weight {
        query.append_pair("weight", &weight.to_string());
    }
    match taken(target, Method::POST, &target.naming(&format!("/endpoint?{}", query.finish()))) {
        Ok(done) => print(&String::from_utf8_lossy(&done), ExitCode::SUCCESS),
        Err(code) => code,
    }
}

/// What `log` takes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum LogVerb {
    /// Open its file again, after it was renamed
    Reopen(Target),
    /// Say no less than this on stderr from now on, until the next reload
    Level {
        #[command(flatten)]
        target: Target,
        /// The least that is said
        #[arg(value_parser = ["info", "warn", "error"])]
        level: String,
    },
}

/// Success if the log is written on, in a file of its name, or if the level is what it is to be.
pub(super) fn log(verb: &LogVerb) -> ExitCode {
    let (target, path) = match verb {
        LogVerb::Reopen(target) => (target, "/log/reopen".to_owned()),
        LogVerb::Level { target, level } => (target, format!("/log-level?level={level}")),
    };
    match taken(target, Method::POST, &target.naming(&path)) {
        Ok(done) => print(&String::from_utf8_lossy(&done), ExitCode::SUCCESS),
        Err(code) => code,
    }
}

/// What `why` takes.
#[derive(Debug, clap::Args)]
pub(super) struct WhyArguments {
    #[command(flatten)]
    target: Target,
    /// Its identifier: X-Request-Id as the origin gets it, `request_id` of the access log, `${request.id}` of an error page
    request_id: String,
}

/// Success if the request is known.
pub(super) fn why(arguments: &WhyArguments) -> ExitCode {
    let target = &arguments.target;
    let query = Serializer::new(String::new()).append_pair("id", &arguments.request_id).finish();
    show(target, Method::GET, &target.naming(&format!("/why?{query}")), |story: &Story| (story.to_string(), true))
}

/// Success if the process has begun to drain.
pub(super) fn drain(target: &Target) -> ExitCode {
    match taken(target, Method::POST, &target.naming("/drain")) {
        Ok(_) => print("draining; it ends when its exchanges have\n", ExitCode::SUCCESS),
        Err(code) => code,
    }
}

/// Sends a request and returns what is answered with 200. Every other answer is a problem, which is printed.
///
/// # Errors
/// With the exit code.
pub(super) fn taken(target: &Target, method: Method, path: &str) -> Result<Vec<u8>, ExitCode> {
    match ask(target, method, path) {
        Ok((StatusCode::OK, body)) => Ok(body),
        Ok((_, problem)) => Err(fail(&format!("{}\n", String::from_utf8_lossy(&problem).trim_end()))),
        Err(problem) => Err(fail(&format!("{problem}\n"))),
    }
}

/// Sends a request and prints the answer, as text or as JSON. An answer that is no JSON is an error message.
fn show<T: DeserializeOwned>(
    target: &Target,
    method: Method,
    path: &str,
    text: impl Fn(&T) -> (String, bool),
) -> ExitCode {
    let body = match ask(target, method, path) {
        Ok((_, body)) => body,
        Err(problem) => return fail(&format!("{}\n", problem.trim_end())),
    };
    match serde_json::from_slice::<T>(&body) {
        Ok(answer) => {
            let (text, good) = text(&answer);
            let code = if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            if target.json {
                print_document(&format!("{}\n", String::from_utf8_lossy(&body)), code)
            } else {
                print(&text, code)
            }
        }
        Err(_) => fail(&format!("{}\n", String::from_utf8_lossy(&body).trim_end())),
    }
}

type Answer = (StatusCode, Vec<u8>);

/// Status and body of an answer.
///
/// # Errors
/// With why there is none.
pub(super) fn ask(target: &Target, method: Method, path: &str) -> Result<Answer, String> {
    on_socket(target, async |socket| {
        let (mut sender, carry) = connect(socket).await?;
        let answer = async {
            let answer = sender.send_request(request(method, path)?).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await?.to_bytes().to_vec()))
        };
        tokio::select! {
            answer = answer => answer,
            () = carry => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    })
}

/// Hands `take` one line after the other of an answer that lasts, until it ends or `take` fails. An answer that is none is a message.
///
/// # Errors
/// With that message.
pub(super) fn follow(
    target: &Target,
    path: &str,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<io::Result<()>, String> {
    let lines = async |socket: &Path| {
        let (mut sender, carry) = connect(socket).await?;
        let lines = async {
            let answer = sender.send_request(request(Method::GET, path)?).await?;
            let (status, mut body) = (answer.status(), answer.into_body());
            if status != StatusCode::OK {
                return Ok(Err(String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned()));
            }
            let mut text = Vec::new();
            // A process that ends may cut its answer off.
            while let Some(Ok(frame)) = body.frame().await {
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<_> = text.drain(..=end).collect();
                    if let Err(error) = take(&line) {
                        return Ok(Ok(Err(error)));
                    }
                }
            }
            Ok(Ok(Ok(())))
        };
        tokio::select! {
            shown = lines => shown,
            () = carry => Ok(Ok(Ok(()))),
        }
    };
    on_socket(target, lines)?
}

/// Does something with the admin socket of the process that is meant.
fn on_socket<T>(target: &Target, what: impl AsyncFnOnce(&Path) -> Result<T, Problem>) -> Result<T, String> {
    let default = || config::admin_socket(target.config.as_deref().unwrap_or(Path::new("/etc/cairn/cairn.toml")));
    let Some(socket) = target.socket.clone().or_else(default) else {
        return Err("the configuration turns the admin socket off: set [admin] socket".to_owned());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot set up the request: {error}"))?;
    runtime.block_on(what(&socket)).map_err(|problem| {
        let cure =
            "is cairn running, with this configuration, and are you its user? -c PATH or --socket PATH says which one";
        format!("no answer on {}: {problem}; {cure}", socket.display())
    })
}

type Problem = Box<dyn std::error::Error>;

/// A connection, and what drives it. If that fails, so do answers.
async fn connect(socket: &Path) -> Result<(SendRequest<Empty<Bytes>>, impl Future<Output = ()>), Problem> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let carry = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    Ok((sender, carry))
}

fn request(method: Method, path: &str) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    Request::builder().method(method).uri(path).header("host", "cairn").body(Empty::new())
}

fn duration(text: &str) -> Result<Duration, String> {
    let known = config::duration(text).filter(|time| !time.is_zero() && *time <= GUARD_MAX);
    known.ok_or_else(|| "write \"30s\", \"500ms\" or \"2m\", up to \"24h\"".to_owned())
}

/// `5%` or `5` as 0.05.
fn percent(text: &str) -> Result<f64, String> {
    let number: Result<f64, _> = text.trim_end_matches('%').parse();
    let share = number.ok().map(|number| number / 100.0).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a percentage from 0 to 100, such as 5%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_written() {
        assert_eq!(percent("5%"), Ok(0.05));
        assert_eq!(percent("12.5"), Ok(0.125));
        assert!(["", "x", "-1", "101%", "NaN"].iter().all(|text| percent(text).is_err()));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("24h"), Ok(GUARD_MAX));
        assert!(["0s", "30", "25h", "99999999999999h"].iter().all(|text| duration(text).is_err()));
    }
}
