//! Making sockets, their options, and waking a ring. Not here: moving bytes.

use std::fmt;
use std::fs::Permissions;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::id::Address;

/// Connections that the kernel queues before they are accepted. The kernel cuts it to net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4096;

/// How long a connection is silent before the kernel sends the first keep-alive probe, and the time between probes (tcp(7)).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long the peer may leave data or probes unacknowledged. The connection ends at the first probe after that: 105 s after the
/// peer was last heard.
const USER_TIMEOUT: Duration = Duration::from_secs(100);

/// How often a Unix-domain socket whose process may just have ended is probed.
const STALE_PROBES: usize = 3;
/// How long one probe waits, and how long [`claim`] tries again in all.
const STALE_PATIENCE: Duration = Duration::from_secs(1);

/// A listening socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{cure}")]
pub struct BindError {
    address: Address,
    source: io::Error,
    cure: &'static str,
}

/// How a listening socket is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// An IPv6 socket takes IPv4 connections, too (ipv6(7), IPV6_V6ONLY).
    pub dual_stack: bool,
    /// Who may connect to a Unix-domain socket.
    pub file: FileAccess,
}

/// Mode and owner of a file; what is None stays as the kernel makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Number of the user.
    pub user: Option<u32>,
    /// Number of the group.
    pub group: Option<u32>,
}

impl fmt::Display for FileAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: Option<u32>| id.map_or("-".to_owned(), |id| id.to_string());
        match self.mode {
            Some(mode) => write!(f, "{mode:04o} {}:{}", id(self.user), id(self.group)),
            None => write!(f, "- {}:{}", id(self.user), id(self.group)),
        }
    }
}

/// Ends the wait of one ring from any thread (eventfd(2)).
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

/// Makes sure that no other process listens on `address`: with SO_REUSEPORT the kernel would spread connections over both processes
/// and report no error. Tries again for `STALE_PATIENCE`, because the sockets of a killed process stay open until the kernel has freed
/// its rings.
///
/// # Errors
/// As [`bind`].
pub fn claim(address: &Address, options: BindOptions) -> Result<(), BindError> {
    let Address::Inet(inet) = address else { return Ok(()) };
    let attempt = || {
        let socket = Socket::new(Domain::for_address(*inet), Type::STREAM.cloexec(), None)?;
        socket.set_reuse_address(true)?;
        if inet.is_ipv6() {
            socket.set_only_v6(!options.dual_stack)?;
        }
        socket.bind(&SockAddr::from(*inet))?;
        socket.listen(1)
    };
    let mut outcome = attempt();
    for _ in 0..STALE_PROBES * 10 {
        if !outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
        #[allow(
            clippy::disallowed_methods,
            reason = "on a thread that may block: at start, or beside the control thread"
        )]
        std::thread::sleep(STALE_PATIENCE / 30);
        outcome = attempt();
    }
    outcome.map_err(|source| blame(address, source))
}

/// A socket that listens on `address`. TCP sockets share their port with those of other workers (SO_REUSEPORT, socket(7)), and
/// accepted connections inherit TCP_NODELAY and the keep-alive times.
///
/// # Errors
/// With the address, the kernel's reason, and what to do about it.
pub fn bind_with(address: &Address, options: BindOptions) -> Result<OwnedFd, BindError> {
    let socket = match address {
        Address::Inet(inet) => inet_listener(*inet, options.dual_stack),
        Address::Unix(path) => unix_listener(path, options.file),
    };
    socket.map(OwnedFd::from).map_err(|source| blame(address, source))
}

/// The same for both families, where the address stands for all.
///
/// # Errors
/// As [`bind_with`].
pub fn bind(address: &Address) -> Result<OwnedFd, BindError> {
    bind_with(address, BindOptions { dual_stack: true, ..BindOptions::default() })
}

/// Sets mode and owner of the file of a Unix-domain socket that is bound.
///
/// # Errors
/// With the address, the kernel's reason, and what to do about it.
pub fn permit(address: &Address, options: BindOptions) -> Result<(), BindError> {
    let Address::Unix(path) = address else { return Ok(()) };
    set_access(path, options.file).map_err(|source| blame(address, source))
}

/// A socket that listens at `path`, to which only the user of this process may connect.
///
/// # Errors
/// With the kernel's reason.
pub fn bind_private(path: &Path) -> io::Result<OwnedFd> {
    unix_listener(path, FileAccess { mode: Some(0o600), ..FileAccess::default() }).map(OwnedFd::from)
}

fn blame(address: &Address, source: io::Error) -> BindError {
    let cure = match source.kind() {
        io::ErrorKind::AddrInUse => "; another process holds it: stop that one or choose another `bind`",
        io::ErrorKind::PermissionDenied if matches!(address, Address::Unix(_)) => {
            "; the user of this process has to be allowed to write to its directory, and `owner` needs root (CAP_CHOWN)"
        }
        io::ErrorKind::NotFound if matches!(address, Address::Unix(_)) => "; make its directory first",
        io::ErrorKind::PermissionDenied => "; give the binary CAP_NET_BIND_SERVICE or use a port above 1023",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    };
    BindError { address: address.clone(), source, cure }
}

fn inet_listener(address: SocketAddr, dual_stack: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    notice_silence(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Has the kernel notice within two minutes that the peer has disappeared without FIN or RST, whether or not data is to be sent to it
/// (tcp(7)). A peer that is only slow answers the probes; one whose window stays closed for so long counts as gone.
fn notice_silence(socket: &Socket) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Without a mode, that of the socket file is 0777 without the bits of the umask.
fn unix_listener(path: &Path, file: FileAccess) -> io::Result<Socket> {
    let name = SockAddr::unix(path)?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    if let Some(mode) = file.mode {
        // Set before bind(2), which gives the file the mode of the socket: at no moment can other users connect (unix(7)).
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode & 0o600))?;
    }
    socket.bind(&name)?;
    let ready = set_access(path, file).and_then(|()| socket.listen(BACKLOG));
    ready.inspect_err(|_| drop(std::fs::remove_file(path)))?;
    Ok(socket)
}

/// Sets mode and owner of a socket file. Does not follow a link that somebody has put in its place.
fn set_access(path: &Path, file: FileAccess) -> io::Result<()> {
    let FileAccess { mode, user, group } = file;
    if file == FileAccess::default() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !opened.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("what stands there is no socket any more"));
    }
    let same = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string());
    if user.is_some() || group.is_some() {
        std::os::unix::fs::chown(&same, user, group)?;
    }
    mode.map_or(Ok(()), |mode| std::fs::set_permissions(&same, Permissions::from_mode(mode)))
}

/// Removes the socket file of a process that has ended; fails with AddrInUse if a process still listens. The kernel frees the ring
/// of a killed process, and with it its sockets, only after the process: until then connecting succeeds, and the connection is
/// closed without a byte. Such a socket is probed again.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    for _ in 0..STALE_PROBES {
        let Ok(mut probe) = UnixStream::connect(path) else { return std::fs::remove_file(path) };
        probe.set_read_timeout(Some(STALE_PATIENCE))?;
        match probe.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            _ => break,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// A fresh socket for a connection to an endpoint, with the address in the kernel's form.
pub(super) fn endpoint_socket(address: &Address) -> io::Result<(OwnedFd, SockAddr)> {
    let name = socket_address(address)?;
    let socket = match address {
        Address::Inet(_) => Socket::new_raw(name.domain(), Type::STREAM.cloexec(), Some(Protocol::TCP))?,
        Address::Unix(_) => Socket::new_raw(Domain::UNIX, Type::STREAM.cloexec(), None)?,
    };
    if matches!(address, Address::Inet(_)) {
        socket.set_tcp_nodelay(true)?;
        notice_silence(&socket)?;
    }
    Ok((socket.into(), name))
}

/// Accepts the connections in the backlog of a listening socket.
pub(super) fn accept_waiting(listener: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let listener = SockRef::from(&listener);
    if listener.set_nonblocking(true).is_err() {
        return Vec::new();
    }
    std::iter::from_fn(|| listener.accept().ok()).map(|(socket, _)| socket.into()).collect()
}

/// Makes the next close of the socket send RST.
pub(super) fn reset_on_close(socket: BorrowedFd<'_>) {
    // If this fails, closing sends FIN.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Sends FIN (shutdown(2)). Not through the ring: IORING_OP_SHUTDOWN always runs on a kernel thread, which looks up its
/// descriptor only then, when it may have been closed and reused for another connection.
pub(super) fn shut_down(socket: BorrowedFd<'_>) {
    // A failure means that the connection has ended, which its receive reports.
    let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Write);
}

/// Whether the peer's FIN has arrived and everything before it was read.
pub(super) fn has_ended(socket: BorrowedFd<'_>) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    matches!(SockRef::from(&socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT), Ok(0))
}

/// IP address and port of a connection's other end; None for a Unix-domain socket.
pub(super) fn peer(socket: BorrowedFd<'_>) -> io::Result<Option<(IpAddr, u16)>> {
    let address = SockRef::from(&socket).peer_addr()?.as_socket();
    Ok(address.map(|address| (address.ip().to_canonical(), address.port())))
}

/// IP address and port of a connection's own end; None for a Unix-domain socket.
pub(super) fn local(socket: BorrowedFd<'_>) -> Option<(IpAddr, u16)> {
    let address = SockRef::from(&socket).local_addr().ok()?.as_socket();
    address.map(|address| (address.ip().to_canonical(), address.port()))
}

fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(address) => Ok(SockAddr::from(*address)),
        Address::Unix(path) => SockAddr::unix(path),
    }
}

impl Waker {
    /// A waker for a new ring.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    /// Ends the ring's current wait, or its next one.
    pub fn wake(&self) {
        // The write fails only when the counter is at its maximum: then a wake-up is pending already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The port that a listening socket is bound to; None for a Unix-domain socket.
#[must_use]
pub fn local_port(descriptor: &OwnedFd) -> Option<u16> {
    Some(SockRef::from(descriptor).local_addr().ok()?.as_socket()?.port())
}

/// Another descriptor for the same listening socket.
///
/// # Errors
/// When no descriptor is left.
pub fn share(descriptor: &OwnedFd, address: &Address) -> Result<OwnedFd, BindError> {
    descriptor.try_clone().map_err(|source| BindError { address: address.clone(), source, cure: "; raise `ulimit -n`" })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Accepted connections inherit the options of the listening socket, so that no call is needed for each.
    #[test]
    fn silent_peers_are_noticed_on_every_tcp_socket() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = bind(&any.parse().unwrap()) else { continue };
            let port = local_port(&listener).unwrap();
            let address: Address = any.replace(":0", &format!(":{port}")).parse().unwrap();
            let (upstream, name) = endpoint_socket(&address).unwrap();
            SockRef::from(&upstream).connect(&name).unwrap();
            let accepted = SockRef::from(&listener).accept().unwrap().0;
            for socket in [SockRef::from(&upstream), SockRef::from(&accepted)] {
                assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
                let (idle, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
                let patience = socket.tcp_user_timeout().unwrap().unwrap();
                // The first probe that goes out later than `patience` after the last word finds the peer gone.
                let probes = (patience - idle).as_secs().div_ceil(interval.as_secs()) as u32;
                assert!(idle + interval * probes < Duration::from_secs(120));
            }
        }
    }

    #[test]
    fn a_private_socket_takes_the_place_of_a_stale_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(bind(&Address::Unix(path.clone())).unwrap());
        let socket = bind_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        let path = folder.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind_private(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
