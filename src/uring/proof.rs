//! What some kernels get wrong, tried out once a process before anything relies on it. Not here: doing without, which is a
//! branch where the matter comes up.
//!
//! * Linux 6.13.11 to 6.14.8, and some of 6.12, went on filling a bundle of buffers after a receive that had left a buffer partly
//!   used: its rest would be taken for data ("io_uring/net: only retry recv bundle for a full transfer").
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

/// What to do without, by these names, whatever the kernel proves; for tests.
const SWITCH: &str = "CAIRN_WORKAROUNDS";
const NO_BUNDLES: &str = "no-bundles";
const PEEK_FIN: &str = "peek-fin";

/// The one group of buffers of a trial.
const GROUP: u16 = 0;
/// Buffers of a trial and their bytes, 80 of which are kept free around what the kernel writes.
const BUFFERS: usize = 16;
const BUFFER_BYTES: usize = 1024 + MARGINS.0 + MARGINS.1;
const MARGINS: (usize, usize) = (64, 16);
/// How long a trial waits for what a sound kernel reports at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes in front of a mark at which a receive stops, and behind it: less than a buffer, as much, more.
const ROUNDS: [(usize, usize); 4] = [(100, 300), (1000, 3000), (1024, 100), (2000, 5000)];

/// What is done without on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workarounds {
    /// A receive fills one buffer at a time.
    pub(super) no_bundles: Option<Cause>,
    /// After each receive the socket is asked whether a FIN has come with it.
    pub(super) peek_fin: Option<Cause>,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Forced,
    /// The kernel failed the trial.
    Broken,
    /// The trial could not be made, for want of a loopback interface for one.
    Unproven,
}

impl Workarounds {
    /// What this kernel needs and [`SWITCH`] asks for. The trials are made with the first call.
    ///
    /// # Errors
    /// When the switch names what does not exist.
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

    /// Whether nothing is.
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

/// Whether a bundle holds what was sent and nothing else after a receive that stopped early, though more had arrived: TCP stops
/// at the mark of urgent data (tcp(7)).
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

/// Whether a FIN is told that has come with data.
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
        // Somebody else was faster; what it sends proves nothing.
        let _ = ours.read(&mut []);
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok((peer, ours))
}

/// A small ring with few buffers; its memory stays mapped, because the kernel may still write to it (`buffer`).
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
        // SAFETY: it points to no memory but that of the buffer ring.
        unsafe { self.uring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.uring.submit()?;
        Ok(())
    }

    /// What is received until there is so much of it and, if `end` is waited for, that; and whether it came.
    fn collect(&mut self, count: usize, end: bool) -> io::Result<(Vec<u8>, bool)> {
        let (mut received, mut ended) = (Vec::new(), false);
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
                        // What does not fit together is not what was sent.
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
