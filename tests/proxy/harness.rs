//! The proxy as a process, origins as threads, and wires that speak HTTP/1 literally. Not here: what is expected of them.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, SockRef, Socket, Type};
use tempfile::TempDir;

/// Bound of every wait; only a failure takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The admin interface among the addresses.
const ADMIN: &str = "(admin)";

/// What a configuration holds besides one listener `public`, one route and one cluster `app`.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    endpoints: String,
    listener: String,
    route: String,
    cluster: String,
    more: String,
}

impl Setup {
    /// Everything goes to these endpoints.
    pub(crate) fn to(endpoints: &[&str]) -> Self {
        Self { endpoints: format!("{endpoints:?}"), ..Self::default() }
    }

    /// Adds keys to the listener.
    pub(crate) fn listener(mut self, keys: &str) -> Self {
        self.listener = format!("{}{keys}\n", self.listener);
        self
    }

    /// Adds keys to the route.
    pub(crate) fn route(mut self, keys: &str) -> Self {
        self.route = format!("{}{keys}\n", self.route);
        self
    }

    /// Adds keys to the cluster.
    pub(crate) fn cluster(mut self, keys: &str) -> Self {
        self.cluster = format!("{}{keys}\n", self.cluster);
        self
    }

    /// Adds tables.
    pub(crate) fn more(mut self, tables: &str) -> Self {
        self.more = format!("{}{tables}\n", self.more);
        self
    }

    /// Opens the admin interface, and reloads only when told to.
    pub(crate) fn managed(self) -> Self {
        self.more("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"FOLDER/admin.sock\"")
    }

    /// The configuration's text.
    pub(crate) fn text(&self) -> String {
        let Self { endpoints, listener, route, cluster, more } = self;
        let bind = if listener.contains("bind =") { "" } else { "bind = \"127.0.0.1:0\"" };
        let admin = if more.contains("[admin]") { "" } else { "[admin]\nlisten = \"off\"\nsocket = \"off\"\n" };
        format!(
            "watch = false\n{admin}[workers]\ncount = 1\n[[listener]]\nname = \"public\"\n{bind}\n{listener}[[route]]\ncluster = \"app\"\n\
             {route}[[cluster]]\nname = \"app\"\nendpoints = {endpoints}\n{cluster}{more}"
        )
    }

    /// Starts the proxy.
    pub(crate) fn start(&self) -> Proxy {
        Proxy::start(&self.text(), &[])
    }
}

/// A running `cairn run`; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    addresses: Vec<(String, String)>,
    /// What it has said of them.
    pub(crate) workarounds: String,
    lines: Receiver<String>,
    /// Set: nobody reads stderr any more, though it stays open.
    deaf: Arc<AtomicBool>,
    directory: TempDir,
}

/// A line of the log without the time and the level that begin it. Others, which no test expects, stay as they are.
pub(crate) fn unstamped(line: &str) -> &str {
    stamp(line).map_or(line, |(_, _, text)| text)
}

/// Time, level and text of a line of the log.
pub(crate) fn stamp(line: &str) -> Option<(&str, &str, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let (level, text) = rest.split_once(' ')?;
    let form = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    let is_time = time.bytes().map(form).eq(*b"0000-00-00T00:00:00.000Z");
    (is_time && ["info", "warn", "error"].contains(&level)).then_some((time, level, text))
}

/// [`unstamped`] of all lines.
fn all_unstamped(text: &[u8]) -> String {
    std::str::from_utf8(text).unwrap().lines().map(|line| format!("{}\n", unstamped(line))).collect()
}

/// `FOLDER` in a configuration is the folder that it lies in.
fn command(config: &str, arguments: &[&str]) -> (TempDir, Command) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cairn.toml");
    fs::write(&path, config.replace("FOLDER", directory.path().to_str().unwrap())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.args(["run", "-c"]).arg(path).args(arguments).stdin(Stdio::null());
    (directory, command)
}

/// Runs a configuration that is not to start.
pub(crate) fn refused(config: &str) -> Output {
    let (_directory, command) = command(config, &[]);
    said_at_start(command)
}

/// The same with what CAIRN_WORKAROUNDS is to name.
pub(crate) fn refused_without(workarounds: &str, config: &str) -> Output {
    let (_directory, mut command) = command(config, &[]);
    command.env("CAIRN_WORKAROUNDS", workarounds);
    said_at_start(command)
}

fn said_at_start(mut command: Command) -> Output {
    let mut output = command.output().unwrap();
    output.stderr = all_unstamped(&output.stderr).into_bytes();
    output
}

/// The same with so many file descriptors and no way to get more.
fn within(descriptors: usize, config: &str) -> (TempDir, Command) {
    let (directory, inner) = command(config, &[]);
    let mut outer = Command::new("sh");
    outer.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &descriptors.to_string()]).arg(inner.get_program());
    outer.args(inner.get_args()).stdin(Stdio::null());
    (directory, outer)
}

/// Runs a configuration that is not to start with so many file descriptors. Returns the exit code and stderr.
pub(crate) fn refused_within(descriptors: usize, config: &str) -> (Option<i32>, String) {
    let (_directory, mut command) = within(descriptors, config);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() && std::time::Instant::now() < end {
        thread::park_timeout(Duration::from_millis(5));
    }
    // A failure, if it has not ended by itself.
    let _ = child.kill();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code(), all_unstamped(text.as_bytes()))
}

/// Starts a configuration, sends a signal as soon as it says a line that begins so, and returns its exit code.
pub(crate) fn signalled_at(start: &str, signal: Signal, config: &str) -> Option<i32> {
    let (_directory, mut command) = command(config, &[]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| unstamped(line).starts_with(start));
    assert!(line.is_some(), "it did not say {start:?}");
    kill_process(Pid::from_child(&child), signal).unwrap();
    lines.for_each(drop);
    child.wait().unwrap().code()
}

/// Starts a configuration and ends it when it has said a line that begins so, which is returned whole.
pub(crate) fn says(start: &str, config: &str) -> String {
    let (_directory, mut command) = command(config, &[]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| unstamped(line).starts_with(start) || unstamped(line).starts_with("cairn: ready"));
    child.kill().unwrap();
    child.wait().unwrap();
    line.unwrap()
}

impl Proxy {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(config: &str, arguments: &[&str]) -> Self {
        Self::ready(command(config, arguments), config)
    }

    /// The same with this as its standard output.
    pub(crate) fn start_to(stdout: Stdio, config: &str) -> Self {
        let (directory, mut command) = command(config, &[]);
        command.stdout(stdout);
        Self::ready((directory, command), config)
    }

    /// The same with what CAIRN_WORKAROUNDS is to name.
    pub(crate) fn start_without(workarounds: &str, config: &str) -> Self {
        let (directory, mut command) = command(config, &[]);
        command.env("CAIRN_WORKAROUNDS", workarounds);
        Self::ready((directory, command), config)
    }

    /// The same with so many file descriptors and no way to get more.
    pub(crate) fn start_within(descriptors: usize, config: &str) -> Self {
        Self::ready(within(descriptors, config), config)
    }

    fn ready((directory, mut command): (TempDir, Command), config: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let mut output = BufReader::new(child.stderr.take().unwrap());
        let deaf = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&deaf);
        thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|length| length > 0) {
                // Nobody to tell when the test is over.
                if sender.send(std::mem::take(&mut line).trim_end_matches('\n').to_owned()).is_err() {
                    return;
                }
                while until.load(Ordering::SeqCst) {
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        });
        let (addresses, workarounds) = (Vec::new(), String::new());
        let mut proxy = Self { child, addresses, workarounds, lines, deaf, directory };
        let mut seen = String::new();
        loop {
            let line = proxy.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not ready; {config}\n{seen}"));
            let line = unstamped(&line);
            if let Some((name, address)) = line.strip_prefix("cairn: listener ").and_then(|l| l.split_once(" on ")) {
                proxy.addresses.push((name.to_owned(), address.to_owned()));
            } else if let Some(address) = line.strip_prefix("cairn: admin on ") {
                proxy.addresses.push((ADMIN.to_owned(), address.to_owned()));
            } else if let Some(names) = line.strip_prefix("cairn: workarounds: ") {
                proxy.workarounds = names.to_owned();
            } else if line.starts_with("cairn: ready, ") {
                return proxy;
            }
            seen += &format!("{line}\n");
        }
    }

    /// Puts another configuration in the place of the old one, at once.
    pub(crate) fn configure(&self, config: &str) {
        let (new, path) = (self.directory.path().join("new"), self.directory.path().join("cairn.toml"));
        fs::write(&new, config.replace("FOLDER", self.directory.path().to_str().unwrap())).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// The folder of the configuration.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a verb that asks this process.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Output {
        self.asking(arguments).output().unwrap()
    }

    /// The same, to be run.
    pub(crate) fn asking(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(arguments).arg("-c").arg(self.directory.path().join("cairn.toml"));
        command.stdin(Stdio::null());
        command
    }

    /// Goes over to another configuration.
    pub(crate) fn reload(&self, config: &str) {
        self.configure(config);
        let output = self.verb(&["reload"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// What `cairn status --json` says.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.verb(&["status", "--json"]).stdout).unwrap()
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> &str {
        &self.addresses.iter().find(|(name, _)| name == listener).unwrap().1
    }

    /// Where the admin interface listens for HTTP.
    pub(crate) fn admin(&self) -> &str {
        self.address(ADMIN)
    }

    /// A connection to the listener `public`.
    pub(crate) fn client(&self) -> Wire {
        Wire::connect(self.address("public"))
    }

    /// Sends one request on a connection of its own and reads the answer.
    pub(crate) fn ask(&self, request: &str) -> Message {
        let mut client = self.client();
        client.send(request);
        client.message().expect("an answer")
    }

    /// Waits for a line on stderr that begins so after time and level, and returns it without them.
    pub(crate) fn said(&self, start: &str) -> String {
        unstamped(&self.logged(start)).to_owned()
    }

    /// The same with time and level.
    pub(crate) fn logged(&self, start: &str) -> String {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("it did not say {start:?}"));
            if unstamped(&line).starts_with(start) {
                return line;
            }
        }
    }

    /// The next line on stderr.
    pub(crate) fn line(&self) -> Option<String> {
        self.lines.recv_timeout(PATIENCE).ok()
    }

    /// Stops reading what it says, but for one more line.
    pub(crate) fn go_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Reads again.
    pub(crate) fn hear(&self) {
        self.deaf.store(false, Ordering::SeqCst);
    }

    /// Waits until the process has ended, whatever it says.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        poll(|| self.child.try_wait().unwrap())
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Anonymous resident memory, KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What all of its threads have worked so far. Other processes that keep the machine busy do not count.
    pub(crate) fn worked(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, in which there may be anything: the state is the first one, and the times are the 12th and the 13th (proc(5)).
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        // Stderr ends with the process.
        while !matches!(self.lines.recv_timeout(PATIENCE * 2), Err(mpsc::RecvTimeoutError::Disconnected)) {}
        self.child.wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listening origin; each connection gets a thread. Both end with the test process.
pub(crate) struct Origin {
    pub(crate) address: String,
    accepted: Arc<AtomicUsize>,
}

impl Origin {
    /// Serves connections, which are numbered from 0.
    pub(crate) fn start(serve: impl Fn(Wire, usize) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", serve)
    }

    /// The same on an address.
    pub(crate) fn on(address: &str, serve: impl Fn(Wire, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (Arc::clone(&accepted), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (wire, serve) = (Wire::new(stream.unwrap()), Arc::clone(&serve));
                let number = counter.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(wire, number));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request with the same bytes.
    pub(crate) fn answering(response: &'static str) -> Self {
        Self::start(move |mut wire, _| {
            while wire.message().is_some() {
                wire.send(response);
            }
        })
    }

    /// The same, and passes on what it got.
    pub(crate) fn recording(response: &str) -> (Self, Receiver<Message>) {
        let (sender, requests) = mpsc::channel();
        let response = response.to_owned();
        let origin = Self::start(move |mut wire, _| {
            while let Some(request) = wire.message() {
                // The test may be over.
                let _ = sender.send(request);
                wire.send(&response);
            }
        });
        (origin, requests)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The next thing that another thread reports.
pub(crate) fn next<T>(reports: &Receiver<T>) -> T {
    reports.recv_timeout(PATIENCE).expect("a report")
}

/// An address that refuses connections for as long as the socket lives.
pub(crate) fn closed() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    (socket, address)
}

/// An address that neither accepts nor refuses connections for as long as it lives.
pub(crate) struct Full {
    address: String,
    _sockets: (Socket, TcpStream),
}

impl Full {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// One connection fills a queue of none; the kernel drops what comes next.
pub(crate) fn full() -> Full {
    let (socket, address) = closed();
    socket.listen(0).unwrap();
    let queued = TcpStream::connect(&address).unwrap();
    Full { address, _sockets: (socket, queued) }
}

/// A message as it was received.
#[derive(Debug)]
pub(crate) struct Message {
    /// Start line and fields, with the empty line.
    pub(crate) head: String,
    /// Without chunk framing.
    pub(crate) body: Vec<u8>,
    /// The trailer section, without the empty line.
    pub(crate) trailers: String,
}

impl Message {
    /// The first line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The status code.
    pub(crate) fn status(&self) -> u16 {
        self.line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The values of a field, joined.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> = values(&self.head, name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The reason code in Proxy-Status; empty without one.
    pub(crate) fn reason(&self) -> String {
        let field = self.field("proxy-status").unwrap_or_default();
        field.split('"').nth(1).unwrap_or_default().to_owned()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn values<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// How a connection ended, and what came before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean(Vec<u8>),
    Reset(Vec<u8>),
}

/// One side of a connection, read and written literally.
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
    input: Vec<u8>,
}

impl Wire {
    /// Takes over a connection.
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream)
    }

    /// Connects.
    pub(crate) fn connect(address: &str) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// Another handle on the same connection.
    pub(crate) fn twin(&self) -> Self {
        Self::new(self.stream.try_clone().unwrap())
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with RST.
    pub(crate) fn abort(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: Read + Write> Wire<S> {
    /// Takes over a stream that has its time-outs set.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, input: Vec::new() }
    }

    /// Sends all of it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Receives more; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("nothing came in time; before: {:?}", String::from_utf8_lossy(&self.input))
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads up to and with `end`; None if the connection ends before a byte.
    pub(crate) fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.input, end) {
                let rest = self.input.split_off(at + end.len());
                return Some(String::from_utf8(std::mem::replace(&mut self.input, rest)).unwrap());
            }
            if !matches!(self.fill(), Ok(1..)) {
                assert!(self.input.is_empty(), "cut short: {:?}", String::from_utf8_lossy(&self.input));
                return None;
            }
        }
    }

    /// Reads exactly `count` bytes; None if the connection ends before.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.input.len() < count {
            if !matches!(self.fill(), Ok(1..)) {
                return None;
            }
        }
        let rest = self.input.split_off(count);
        Some(std::mem::replace(&mut self.input, rest))
    }

    /// Reads a head.
    pub(crate) fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n")
    }

    /// Reads exactly `count` bytes, piece by piece.
    pub(crate) fn take(&mut self, count: u64, see: &mut dyn FnMut(&[u8])) {
        let mut left = count;
        while left > 0 {
            if self.input.is_empty() {
                assert!(matches!(self.fill(), Ok(1..)), "cut short, {left} of {count} bytes are missing");
            }
            let part = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            see(&self.input[..part]);
            self.input.drain(..part);
            left -= part as u64;
        }
    }

    /// Reads a chunked body, piece by piece, and returns the trailer section.
    pub(crate) fn chunks(&mut self, see: &mut dyn FnMut(&[u8])) -> String {
        loop {
            let line = self.until(b"\r\n").expect("a chunk");
            let length = u64::from_str_radix(line.split(['\r', ';']).next().unwrap(), 16).unwrap();
            if length == 0 {
                break;
            }
            self.take(length, see);
            assert_eq!(self.until(b"\r\n").as_deref(), Some("\r\n"));
        }
        let mut trailers = String::new();
        loop {
            match self.until(b"\r\n").expect("the end of the chunks") {
                line if line == "\r\n" => return trailers,
                line => trailers += &line,
            }
        }
    }

    /// Reads what follows a head, as its framing says; without any, nothing. Returns the trailer section.
    pub(crate) fn body(&mut self, head: &str, see: &mut dyn FnMut(&[u8])) -> String {
        if let Some(length) = values(head, "content-length").next() {
            self.take(length.parse().unwrap(), see);
        } else if values(head, "transfer-encoding").any(|coding| coding == "chunked") {
            return self.chunks(see);
        }
        String::new()
    }

    /// Reads a message; None if the connection ends before it.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let head = self.head()?;
        let mut body = Vec::new();
        let trailers = self.body(&head, &mut |part| body.extend_from_slice(part));
        Some(Message { head, body, trailers })
    }

    /// Reads to the end of the connection.
    pub(crate) fn end(&mut self) -> End {
        loop {
            match self.fill() {
                Ok(0) => return End::Clean(std::mem::take(&mut self.input)),
                Ok(_) => {}
                Err(_) => return End::Reset(std::mem::take(&mut self.input)),
            }
        }
    }
}

/// Looks at something that gives no notice until it is as it should be.
pub(crate) fn poll<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end, "it did not come to that in time");
        thread::park_timeout(Duration::from_millis(5));
    }
}
