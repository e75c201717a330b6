//! Opens the listening sockets: one a worker and TCP listener, one for all where the kernel cannot spread
//! connections (Unix-domain sockets). Not here: connections (`downstream`).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::id::{Address, ListenerId};
use crate::snapshot::ListenerSpec;
use crate::uring::{self, BindError};

/// The listening sockets of one worker.
pub type Sockets = Vec<(ListenerId, OwnedFd)>;

/// The bound addresses of listeners; for port 0, with the port that the kernel has chosen.
pub type BoundAddresses = Vec<(ListenerId, Address)>;

/// Opens listeners for `workers` workers before any of them accepts. Returns the sockets by worker, and the addresses bound.
/// `held` are the addresses that this process has bound before.
///
/// # Errors
/// The first listener that cannot be opened. Then none is open.
pub fn open<'a>(
    listeners: impl Iterator<Item = (ListenerId, &'a ListenerSpec)>,
    workers: usize,
    held: &BoundAddresses,
) -> Result<(Vec<Sockets>, BoundAddresses), BindError> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    let listeners: Vec<_> = listeners.collect();
    // All before the first is bound: only sockets of other processes are in the way, for 0.0.0.0:80 may stand beside 127.0.0.1:80.
    for (_, listener) in &listeners {
        if !held.iter().any(|(_, own)| same_port(own, &listener.bind)) {
            uring::claim(&listener.bind, listener.options)?;
        }
    }
    for (id, listener) in listeners {
        let first = uring::bind_with(&listener.bind, listener.options).inspect_err(|_| remove_files(&bound))?;
        let address = match &listener.bind {
            Address::Inet(address) => {
                Address::Inet(uring::local_port(&first).map_or(*address, |port| SocketAddr::new(address.ip(), port)))
            }
            unix @ Address::Unix(_) => unix.clone(),
        };
        for worker in &mut sockets[1..] {
            let socket = match &address {
                Address::Inet(_) => uring::bind_with(&address, listener.options)?,
                Address::Unix(_) => uring::share(&first, &address)?,
            };
            worker.push((id, socket));
        }
        sockets[0].push((id, first));
        bound.push((id, address));
    }
    Ok((sockets, bound))
}

/// Sets mode and owner of the socket file of a listener that is open.
///
/// # Errors
/// As [`open`].
pub fn permit(listener: &ListenerSpec) -> Result<(), BindError> {
    uring::permit(&listener.bind, listener.options)
}

/// Removes the files of Unix-domain sockets that nobody accepts from any more: a connection would be refused, not absent.
pub fn remove_files(bound: &BoundAddresses) {
    for (_, address) in bound {
        if let Address::Unix(path) = address {
            // An operator may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn same_port(a: &Address, b: &Address) -> bool {
    matches!((a, b), (Address::Inet(a), Address::Inet(b)) if a.port() == b.port())
}
