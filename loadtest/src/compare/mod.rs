//! `cairn-load compare`: cairn and its installed peers side by side. Not here: scenarios (`scenario`) and output (`table`, `html`,
//! `record`).

mod html;
mod matrix;
mod measure;
mod outcome;
mod proc;
mod process;
mod record;
mod rival;
mod scenario;
mod table;
mod tls;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::args::{CompareArguments, Matrix};
use crate::crew::{self, CrewError, Stop};
use crate::machine;
use measure::{MeasureError, Method, Target};
use outcome::{Comparison, Outcome, Role, Row};
use process::{Process, ProcessError};
use rival::{Places, Rival};
use scenario::Scenario;
use tls::Identity;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error("no proxy is installed: {0}")]
    Nothing(String),
    #[error("cannot prepare: {0}")]
    Prepare(#[from] io::Error),
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the origin: {0}")]
    Origin(String),
    #[error(transparent)]
    Record(#[from] record::RecordError),
}

/// The result of a comparison.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) table: String,
    /// Failure of cairn itself.
    pub(crate) failure: Option<String>,
}

/// Names of all scenarios.
pub(crate) fn scenario_names() -> impl Iterator<Item = &'static str> {
    scenario::ALL.iter().map(|scenario| scenario.name)
}

/// Compares, and writes the requested files.
pub(crate) fn compare(arguments: &CompareArguments) -> Result<Compared, CompareError> {
    let stop = crew::watch_signals()?;
    // The proxies inherit the limit.
    crew::provide_descriptors(scenario::IDLE)?;
    let (rivals, missing) = rival::find(arguments);
    if rivals.is_empty() {
        let named: Vec<String> = missing.iter().map(|one| format!("{} ({})", one.name, one.install)).collect();
        return Err(CompareError::Nothing(named.join(", ")));
    }
    for one in &missing {
        say(&format!("{} is not installed and left out: {}", one.name, one.install));
    }
    let (scenarios, workers) = match arguments.matrix {
        Some(Matrix::ApiGateway) => (&matrix::API_GATEWAY[..], matrix::WORKERS),
        None => (&scenario::ALL[..], 1),
    };
    let (proxy_cpus, load_cpus, origin_cpus) = share_out(&crew::cpus(&arguments.cpus)?, workers);
    let mut all = Comparison {
        machine: machine::Machine::here(arguments.machine.as_deref()),
        commit: machine::commit(),
        date: time::OffsetDateTime::now_utc().date().to_string(),
        repeat: arguments.repeat,
        seconds: arguments.seconds.as_secs_f64(),
        proxy_cpus: proxy_cpus.clone(),
        load_cpus: load_cpus.clone(),
        origin_cpus: origin_cpus.clone(),
        proxies: rivals.iter().map(|rival| (rival.name(), rival.version.clone())).collect(),
        missing,
        outcomes: Vec::new(),
        interrupted: false,
    };
    let method = Method { load_cpus, proxies: proxy_cpus.len(), duration: arguments.seconds };
    let testbed = Testbed::new(rivals, method, (proxy_cpus, workers), &origin_cpus)?;
    let mut peak = None;
    for scenario in scenarios {
        if !arguments.scenario.is_empty() && !arguments.scenario.iter().any(|name| name == scenario.name) {
            continue;
        }
        let mut peak = || *peak.get_or_insert_with(|| find_peak(&testbed, &all.outcomes, &stop));
        let rate = scenario.rate.or_else(|| scenario.share.map(|share| share * peak()));
        all.interrupted = stop.is_asked();
        if all.interrupted {
            break;
        }
        all.outcomes.push(testbed.play(scenario, rate, arguments.repeat, &stop));
    }
    all.interrupted = stop.is_asked();
    record::write(arguments, &all)?;
    Ok(Compared { table: table::text(&all), failure: all.failure_of_cairn() })
}

/// The highest rate of the best peer, or of cairn without peers: from the outcomes, or measured now.
fn find_peak(testbed: &Testbed, outcomes: &[Outcome], stop: &Stop) -> f64 {
    let measured;
    let outcome = match outcomes.iter().find(|outcome| outcome.scenario.name == scenario::peak().name) {
        Some(outcome) => outcome,
        None => {
            measured = testbed.play(scenario::peak(), None, 1, stop);
            &measured
        }
    };
    let own =
        outcome.rows.iter().find(|row| row.role == Role::Cairn).map(|row| row.spread(|measure| measure.rate).median);
    outcome.peak().or(own).unwrap_or(1.0)
}

/// CPUs of the proxies, the load and the origin. The first are the proxies', one a worker. If there are too few, load and origin share, or
/// all do.
fn share_out(cpus: &[usize], workers: usize) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let (proxies, others) = cpus.split_at(workers.min(cpus.len()));
    match others {
        [] if cpus.is_empty() => (vec![0], vec![0], vec![0]),
        [] => (proxies.to_vec(), cpus.to_vec(), cpus.to_vec()),
        [other] => (proxies.to_vec(), vec![*other], vec![*other]),
        others => {
            let (load, origin) = others.split_at(others.len() / 2);
            (proxies.to_vec(), load.to_vec(), origin.to_vec())
        }
    }
}

/// The proxies, the origin behind them, and the method of measurement.
struct Testbed {
    rivals: Vec<Rival>,
    method: Method,
    proxy_cpus: Vec<usize>,
    workers: usize,
    folder: TempDir,
    identity: Identity,
    /// In the clear, and over TLS.
    origins: [SocketAddr; 2],
    origin_processes: [Process; 2],
}

/// What is measured: a running proxy, or what stands in its place.
struct Contender {
    /// None: the origin itself, without a proxy.
    process: Option<Process>,
    pid: u32,
    address: SocketAddr,
    folder: PathBuf,
    row: Row,
}

/// Name of the bare forwarder, and of the row without a proxy.
const FLOOR: &str = "floor";
const DIRECT: &str = "direct";

impl Testbed {
    fn new(
        rivals: Vec<Rival>,
        method: Method,
        (proxy_cpus, workers): (Vec<usize>, usize),
        origin_cpus: &[usize],
    ) -> Result<Self, CompareError> {
        let (folder, identity) = (tempfile::tempdir()?, Identity::new()?);
        identity.write(folder.path())?;
        let start = |name: &str, arguments: &[OsString]| -> Result<(SocketAddr, Process), CompareError> {
            let origin = process::free_address()?;
            let list: Vec<String> = origin_cpus.iter().map(usize::to_string).collect();
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["origin", "--listen", &origin.to_string(), "--size", &scenario::SMALL_BYTES.to_string()]);
            command.args(["--cpus", &list.join(","), "--threads", &list.len().to_string()]).args(arguments);
            let failed = |error: ProcessError| CompareError::Origin(error.to_string());
            let mut process = Process::start(command, origin_cpus, folder.path().join(name)).map_err(failed)?;
            process.wait_for(origin).map_err(failed)?;
            Ok((origin, process))
        };
        let plain = start("origin.log", &[])?;
        let tls = start("origin-tls.log", &["--tls".into(), tls::both(folder.path()).into()])?;
        let (origins, origin_processes) = ([plain.0, tls.0], [plain.1, tls.1]);
        Ok(Self { rivals, method, proxy_cpus, workers, folder, identity, origins, origin_processes })
    }

    /// Runs one scenario: starts and checks all proxies, then measures them in turn until all repetitions are done or `stop` is
    /// set.
    fn play(&self, scenario: &'static Scenario, rate: Option<f64>, repeat: u32, stop: &Stop) -> Outcome {
        let mut outcome = Outcome { scenario, rate, rows: Vec::new(), failed: Vec::new() };
        let mut contenders = Vec::new();
        for rival in &self.rivals {
            let entered = rival.lacks(scenario).map_or_else(|| self.enter(rival, scenario), |why| Err(why.into()));
            match entered {
                Ok(contender) => contenders.push(contender),
                Err(why) => outcome.fail(rival.name(), why),
            }
        }
        // Without a proxy there is nothing to compare.
        if contenders.is_empty() {
            return outcome;
        }
        for (name, entered) in [(FLOOR, self.enter_floor(scenario)), (DIRECT, self.enter_direct(scenario).map(Some))] {
            match entered {
                Ok(contender) => contenders.extend(contender),
                Err(why) => outcome.fail(name, why),
            }
        }
        for turn in 1..=repeat {
            contenders.retain_mut(|contender| {
                if stop.is_asked() {
                    return true;
                }
                let target = contender.target();
                let name = contender.row.proxy;
                match self.method.measure(scenario, target, rate) {
                    Ok(measure) => {
                        let (scenario, us) = (scenario.name, table::short(measure.cpu_us()));
                        say(&format!("{scenario} {turn}/{repeat} {name}: {us} µs/exchange, {:.0}/s", measure.rate));
                        contender.row.measures.push(measure);
                        true
                    }
                    Err(MeasureError::Interrupted) => true,
                    Err(why) => {
                        outcome.fail(name, why.to_string());
                        false
                    }
                }
            });
        }
        outcome.rows =
            contenders.into_iter().map(|contender| contender.row).filter(|row| !row.measures.is_empty()).collect();
        outcome
    }

    /// Starts a proxy and checks its answers.
    fn enter(&self, rival: &Rival, scenario: &'static Scenario) -> Result<Contender, String> {
        let (address, folder, process) = self.start(rival, scenario)?;
        let pid = process.id();
        self.check(scenario, Contender::new(rival.name(), rival.role(), (address, folder), pid, Some(process)))
    }

    /// Starts a bare forwarder, where one does what a proxy would do.
    fn enter_floor(&self, scenario: &'static Scenario) -> Result<Option<Contender>, String> {
        if !scenario.has_floor() {
            return Ok(None);
        }
        let start = || -> io::Result<_> {
            let (address, folder) = (process::free_address()?, self.folder(FLOOR, scenario)?);
            let mut command = Command::new(std::env::current_exe()?);
            command.args([FLOOR, "--listen", &address.to_string(), "--origin", &self.origins[0].to_string()]);
            let cpus: Vec<String> = self.proxy_cpus.iter().map(usize::to_string).collect();
            command.args(["--cpus", &cpus.join(","), "--threads", &self.workers.to_string()]);
            let process = Process::start(command, &self.proxy_cpus, folder.join("log")).map_err(io::Error::other)?;
            Ok((address, folder, process))
        };
        let (address, folder, process) = start().map_err(|error| error.to_string())?;
        let pid = process.id();
        let floor = Contender::new(FLOOR, Role::Floor, (address, folder), pid, Some(process));
        self.check(scenario, floor).map(Some)
    }

    /// The origin itself, in the place of a proxy.
    fn enter_direct(&self, scenario: &'static Scenario) -> Result<Contender, String> {
        let folder = self.folder(DIRECT, scenario).map_err(|error| error.to_string())?;
        let which = usize::from(scenario.tls.is_some());
        let (address, pid) = (self.origins[which], self.origin_processes[which].id());
        self.check(scenario, Contender::new(DIRECT, Role::Direct, (address, folder), pid, None))
    }

    /// Checks the answers.
    fn check(&self, scenario: &'static Scenario, mut contender: Contender) -> Result<Contender, String> {
        let address = contender.address;
        if let Some(process) = &mut contender.process {
            process.wait_for(address).map_err(|error| error.to_string())?;
        }
        let agreement = self.method.check(scenario, contender.target()).map_err(|error| error.to_string())?;
        contender.row.agreement = agreement;
        Ok(contender)
    }

    fn start(&self, rival: &Rival, scenario: &Scenario) -> Result<(SocketAddr, PathBuf, Process), String> {
        let prepare = || -> io::Result<_> {
            let (address, folder) = (process::free_address()?, self.folder(rival.name(), scenario)?);
            let origin = self.origins[usize::from(scenario.origin_tls)];
            let places = Places { listen: address, origin, folder: &folder, scenario, workers: self.workers };
            Ok((address, rival.command(&places)?, folder))
        };
        let (address, command, folder) = prepare().map_err(|error| error.to_string())?;
        let process = Process::start(command, &self.proxy_cpus, folder.join("log"));
        Ok((address, folder, process.map_err(|error| error.to_string())?))
    }

    fn folder(&self, name: &str, scenario: &Scenario) -> io::Result<PathBuf> {
        let folder = self.folder.path().join(scenario.name).join(name);
        std::fs::create_dir_all(&folder)?;
        open_to_all(self.folder.path())?;
        if scenario.tls.is_some() || scenario.origin_tls {
            self.identity.write(&folder)?;
        }
        Ok(folder)
    }
}

impl Contender {
    fn new(name: &'static str, role: Role, place: (SocketAddr, PathBuf), pid: u32, process: Option<Process>) -> Self {
        let row = Row { proxy: name, role, agreement: None, measures: Vec::new() };
        Self { process, pid, address: place.0, folder: place.1, row }
    }

    fn target(&self) -> Target<'_> {
        Target { pid: self.pid, address: self.address, folder: &self.folder }
    }
}

impl Outcome {
    fn fail(&mut self, proxy: &'static str, why: String) {
        say(&format!("{}: {proxy} is left out: {why}", self.scenario.name));
        self.failed.push((proxy, why));
    }
}

/// Makes a folder accessible to proxies that give up root.
fn open_to_all(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

/// Prints progress.
fn say(line: &str) {
    // A closed stderr is ignored.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_have_a_cpu_of_their_own_where_there_are_two() {
        for (cpus, workers, shares) in [
            (&[3][..], 1, (vec![3], vec![3], vec![3])),
            (&[0, 1], 1, (vec![0], vec![1], vec![1])),
            (&[0, 1, 2], 1, (vec![0], vec![1], vec![2])),
            (&[4, 5, 6, 7, 8], 1, (vec![4], vec![5, 6], vec![7, 8])),
            (&[0, 1], 2, (vec![0, 1], vec![0, 1], vec![0, 1])),
            (&[0, 1, 2], 2, (vec![0, 1], vec![2], vec![2])),
            (&[0, 1, 2, 3], 2, (vec![0, 1], vec![2], vec![3])),
        ] {
            assert_eq!(share_out(cpus, workers), shares, "{cpus:?}");
        }
    }
}
