//! Where lines of the access log go: standard output, a file, a FIFO, a syslog daemon. Writing waits for a reader for no more than a
//! moment at a time. Not here: what is written, and what becomes of lines that are not taken (`writer`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{AccessLogSpec, LogTarget};

/// Bytes that are written at once to what may block: a pipe that poll(2) reports has room for them (pipe(7), PIPE_BUF).
const BLOCKING_BYTES: usize = 4096;
/// How long a reader is waited for at a time, nanoseconds.
const WAIT: i64 = 20_000_000;
/// Mode of a log file that is made: requests tell of persons.
const MODE: u32 = 0o640;

/// The access log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the access log cannot be written to {place}: {source}; {cure}")]
pub struct LogError {
    place: String,
    source: io::Error,
    cure: &'static str,
}

/// Where lines go.
#[derive(Debug)]
pub struct Sink(Kind);

#[derive(Debug)]
enum Kind {
    /// Bytes. `blocking`: a write may block unless poll(2) has reported room.
    Stream { file: File, blocking: bool },
    /// A datagram for each line.
    UnixSyslog(UnixDatagram),
    /// The same.
    UdpSyslog(UdpSocket),
}

impl AccessLogSpec {
    /// Opens the place where lines go. May block on a file system.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self) -> Result<Sink, LogError> {
        let fail = |place: String, cure| move |source| LogError { place, source, cure };
        match &self.target {
            LogTarget::Stdout => {
                stdout().map_err(fail("standard output".to_owned(), "name a file in [log] access, or turn it \"off\""))
            }
            LogTarget::File(path) => {
                let cure = "[log] access names a file in a directory that exists, which this user may write";
                file(path).map_err(fail(path.display().to_string(), cure))
            }
            LogTarget::SyslogSocket(path) => {
                let cure = "does a syslog daemon run? [log] access = \"syslog:/dev/log\" names its socket";
                unix(path).map(Kind::UnixSyslog).map(Sink).map_err(fail(path.display().to_string(), cure))
            }
            LogTarget::SyslogAddress(address) => {
                let cure = "[log] access = \"syslog:IP:PORT\" names a syslog daemon that takes UDP";
                udp(*address).map(Kind::UdpSyslog).map(Sink).map_err(fail(address.to_string(), cure))
            }
        }
    }
}

fn file(path: &Path) -> io::Result<Sink> {
    // A FIFO without a reader is an error, not a reason to wait.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags.bits() as i32).open(path)?;
    Ok(Sink(Kind::Stream { file, blocking: false }))
}

/// Standard output. Other processes may share the open file and must not find it non-blocking: a pipe is opened again.
fn stdout() -> io::Result<Sink> {
    let own = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    if own.metadata()?.file_type().is_fifo()
        && let Ok(Sink(kind)) = file(Path::new("/proc/self/fd/1"))
    {
        return Ok(Sink(kind));
    }
    let blocking = !own.metadata()?.is_file();
    Ok(Sink(Kind::Stream { file: own, blocking }))
}

fn unix(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Sink {
    /// Writes some of `lines`, which ends with a whole line, and returns how many bytes; 0: the reader has taken none for a moment.
    pub(super) fn write(&mut self, lines: &[u8], prefix: &[u8]) -> io::Result<usize> {
        let written = match &mut self.0 {
            Kind::Stream { file, blocking: false } => file.write(lines),
            Kind::Stream { file, blocking: true } => {
                if !is_writable(file.as_fd()) {
                    return Ok(0);
                }
                return file.write(&lines[..lines.len().min(BLOCKING_BYTES)]);
            }
            Kind::UnixSyslog(socket) => datagram(lines, prefix, |bytes| socket.send(bytes)),
            Kind::UdpSyslog(socket) => datagram(lines, prefix, |bytes| socket.send(bytes)),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                is_writable(self.descriptor());
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            written => written,
        }
    }

    /// Whether it is a file, which may be renamed.
    pub(super) fn is_file(&self) -> bool {
        matches!(&self.0, Kind::Stream { file, .. } if file.metadata().is_ok_and(|metadata| metadata.is_file()))
    }

    /// Whether each line is a message of its own, with a header.
    pub(super) fn is_syslog(&self) -> bool {
        !matches!(self.0, Kind::Stream { .. })
    }

    /// Whether a daemon on this machine reads it, in the form that these expect (RFC 3164).
    pub(super) fn is_local(&self) -> bool {
        matches!(self.0, Kind::UnixSyslog(_))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Stream { file, .. } => file.as_fd(),
            Kind::UnixSyslog(socket) => socket.as_fd(),
            Kind::UdpSyslog(socket) => socket.as_fd(),
        }
    }
}

/// Sends the first line, without its newline, behind `prefix`.
fn datagram(lines: &[u8], prefix: &[u8], send: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    let length = lines.iter().position(|byte| *byte == b'\n').unwrap_or(lines.len());
    send(&[prefix, &lines[..length]].concat())?;
    Ok((length + 1).min(lines.len()))
}

/// Waits for a moment until something can be written.
fn is_writable(descriptor: BorrowedFd<'_>) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    let wait = Timespec { tv_sec: 0, tv_nsec: WAIT };
    match poll(&mut ready, Some(&wait)) {
        Ok(count) => count > 0,
        Err(Errno::INTR) => false,
        // Writing says what is wrong.
        Err(_) => true,
    }
}
