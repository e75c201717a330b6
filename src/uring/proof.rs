//! Tests for two kernel defects, run once a process, before anything relies on the features. Not here: the workarounds, which are
//! branches where the features are used.
//!
//! * Linux 6.13.11 to 6.14.8, and some of 6.12, went on filling a bundle of buffers after a receive that had left a buffer partly
//!   used: the unused rest would be taken for data ("io_uring/net: only retry recv bundle for a full transfer").
//! * Until March 2026 a multishot receive lost a FIN that came right behind data ("io_uring/poll: fix multishot recv missing EOF on
//!   wakeup race").

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::SockRef;

use super::StartError;
use super::start::setup;
use crate::buffer::{Pool, ProvidedRing};

/// Environment variable that forces workarounds on, whatever the trials find; for tests. Comma-separated names.
const SWITCH: &str = "CAIRN_WORKAROUNDS";
const NO_BUNDLES: &str = "no-bundles";
const PEEK_FIN: &str = "peek-fin";

/// The one group of buffers of a trial.
const GROUP: u16 = 0;
/// Number of buffers of a trial.
const BUFFERS: usize = 16;
/// Bytes of one buffer: 1024 that the kernel may write, and the margins.
const BUFFER_BYTES: usize = 1024 + MARGINS.0 + MARGINS.1;
/// Bytes that the kernel must not write, in front of and behind those that it may write.
const MARGINS: (usize, usize) = (64, 16);
/// How long a trial waits for what a kernel without the defect reports at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes sent before the mark of urgent data, at which a receive stops, and bytes sent behind it. The bytes before the mark fill a
/// tenth of a buffer, nearly one, exactly one, and nearly two.
const ROUNDS: [(usize, usize); 4] = [(100, 300), (1000, 3000), (1024, 100), (2000, 5000)];

/// The workarounds in use on this machine, each with its cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workarounds {
    /// A receive fills one buffer at a time.
    pub(super) no_bundles: Option<Cause>,
    /// After each receive, the socket is asked whether a FIN has arrived too.
    pub(super) peek_fin: Option<Cause>,
}

/// Why a workaround is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// [`SWITCH`] asks for it.
    Forced,
    /// The kernel failed the trial.
    Broken,
    /// The trial could not be run, for example without a loopback interface.
    Unproven,
}

impl Workarounds {
    /// The workarounds that this kernel needs, and those that [`SWITCH`] asks for. The first call runs the trials.
    ///
    /// # Errors
    /// When the switch names an unknown workaround.
    pub fn needed() -> Result<Self, StartError> {
        static NEEDED: OnceLock<Workarounds> = OnceLock::new();
        if let Some(needed) = NEEDED.get() {
            return Ok(*needed);
        }
        let forced = Self::forced(&std::env::var(SWITCH).unwrap_or_default())?;
        Ok(*NEEDED.get_or_init(|| Self {
            no_bundles: forced.no_bundles.or_else(|| verdict(bundles_are_whole())),
            peek_fin: forced.peek_fin.or_else(|| verdict(ends_are_told())),
        }))
    }

    fn forced(names: &str) -> Result<Self, StartError> {
        let mut forced = Self::default();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                NO_BUNDLES => forced.no_bundles = Some(Cause::Forced),
                PEEK_FIN => forced.peek_fin = Some(Cause::Forced),
                other => return Err(StartError::Switch(other.to_owned())),
            }
        }
        Ok(forced)
    }

    /// Whether no workaround is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Workarounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(NO_BUNDLES, self.no_bundles), (PEEK_FIN, self.peek_fin)];
        let on = all.into_iter().filter_map(|(name, cause)| Some((name, cause?)));
        for ((name, cause), at) in on.zip(0..) {
            let cause = match cause {
                Cause::Forced => "as CAIRN_WORKAROUNDS says",
                Cause::Broken => "this kernel has a defect",
                Cause::Unproven => "the kernel could not be tried",
            };
            write!(f, "{}{name} ({cause})", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn verdict(sound: io::Result<bool>) -> Option<Cause> {
    match sound {
        Ok(true) => None,
        Ok(false) => Some(Cause::Broken),
        Err(_) => Some(Cause::Unproven),
    }
}

/// Whether a bundle holds exactly the bytes that were sent when a receive stops early although more have arrived. The mark of urgent
/// data makes it stop (tcp(7)).
fn bundles_are_whole() -> io::Result<bool> {
    let mut bench = Bench::new()?;
    if !bench.uring.params().is_feature_recvsend_bundle() {
        return Ok(true);
    }
    for (before, behind) in ROUNDS {
        let (mut peer, ours) = tcp_pair()?;
        let sent: Vec<u8> = (0..before + behind).map(|at| (at % 251) as u8 + 1).collect();
        SockRef::from(&ours).set_out_of_band_inline(true)?;
        peer.write_all(&sent[..before])?;
        SockRef::from(&peer).send_out_of_band(&sent[before..=before])?;
        peer.write_all(&sent[before + 1..])?;
        bench.arm(&ours, true)?;
        let (received, _) = bench.collect(sent.len(), false)?;
        if received != sent {
            return Ok(false);
        }
        bench = Bench::new()?;
    }
    Ok(true)
}

/// Whether the kernel reports a FIN that came with data.
fn ends_are_told() -> io::Result<bool> {
    let (mut peer, ours) = UnixStream::pair()?;
    let mut bench = Bench::new()?;
    bench.arm(&ours, false)?;
    peer.write_all(b"x")?;
    peer.shutdown(Shutdown::Write)?;
    if bench.collect(1, true)? != (Vec::from(b"x"), true) {
        return Ok(false);
    }
    let (mut peer, ours) = tcp_pair()?;
    let mut bench = Bench::new()?;
    bench.arm(&ours, false)?;
    peer.write_all(b"x")?;
    peer.shutdown(Shutdown::Write)?;
    Ok(bench.collect(1, true)? == (Vec::from(b"x"), true))
}

fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let peer = TcpStream::connect(listener.local_addr()?)?;
    peer.set_nodelay(true)?;
    peer.set_write_timeout(Some(PATIENCE))?;
    let (mut ours, address) = listener.accept()?;
    if address != peer.local_addr()? {
        // Another process has connected first; what it sends proves nothing.
        let _ = ours.read(&mut []);
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok((peer, ours))
}

/// A small ring with few buffers for one trial. The buffers stay mapped, because the kernel may still write to them (`buffer`).
struct Bench {
    uring: IoUring,
    provided: ProvidedRing,
}

impl Bench {
    fn new() -> io::Result<Self> {
        let uring = setup(64, 8)?;
        let pool = Pool::new(BUFFERS, BUFFER_BYTES, MARGINS.0, MARGINS.1).map_err(io::Error::other)?;
        let mut provided = ProvidedRing::new(pool, BUFFERS)?;
        let (address, entries) = provided.registration();
        // SAFETY: the mapping is page-aligned, holds `entries` entries and is never unmapped.
        unsafe { uring.submitter().register_buf_ring_with_flags(address, entries, GROUP, 0) }?;
        provided.refill(BUFFERS, 0);
        Ok(Self { uring, provided })
    }

    /// Begins to receive.
    fn arm(&mut self, socket: &impl AsFd, bundle: bool) -> io::Result<()> {
        let descriptor = Fd(socket.as_fd().as_raw_fd());
        let entry = if bundle {
            opcode::RecvMultiBundle::new(descriptor, GROUP).build()
        } else {
            opcode::RecvMulti::new(descriptor, GROUP).build()
        };
        // SAFETY: the entry points to no memory but that of the buffer ring, which is never unmapped.
        unsafe { self.uring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.uring.submit()?;
        Ok(())
    }

    /// Receives until `count` bytes have come and, if `end`, a FIN, or until `PATIENCE` is over. Returns the bytes, and whether a
    /// FIN has come.
    fn collect(&mut self, count: usize, end: bool) -> io::Result<(Vec<u8>, bool)> {
        let mut received = Vec::new();
        let mut ended = false;
        let time = Timespec::new().sec(PATIENCE.as_secs()).nsec(PATIENCE.subsec_nanos());
        while received.len() < count || (end && !ended) {
            match self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time)) {
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => drop(outcome?),
            }
            for entry in self.uring.completion() {
                let (result, buffer) = (entry.result(), cqueue::buffer_select(entry.flags()));
                match (result, buffer) {
                    (0, _) => ended = true,
                    (1.., Some(buffer)) => {
                        let each = |lease: crate::buffer::Lease| received.extend_from_slice(lease.bytes());
                        // After an inconsistent completion, `received` differs from what was sent, which the caller notices.
                        let _ = self.provided.claim(buffer, result as usize, each);
                    }
                    _ => return Err(io::Error::from_raw_os_error(-result)),
                }
            }
        }
        Ok((received, ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_can_be_tried() {
        assert!(bundles_are_whole().is_ok());
        assert!(ends_are_told().is_ok());
    }

    #[test]
    fn the_switch_takes_known_names_alone() {
        let [none, both] = ["", "peek-fin,no-bundles"].map(|names| Workarounds::forced(names).unwrap());
        assert!(none.is_empty());
        let said = "no-bundles (as CAIRN_WORKAROUNDS says), peek-fin (as CAIRN_WORKAROUNDS says)";
        assert_eq!(both.to_string(), said);
        let error = Workarounds::forced("bundles").unwrap_err().to_string();
        assert!(error.contains("`bundles`") && error.contains("no-bundles"), "{error}");
        assert_eq!(verdict(Ok(false)), Some(Cause::Broken));
        assert_eq!(verdict(Err(io::ErrorKind::NotFound.into())), Some(Cause::Unproven));
    }
}
