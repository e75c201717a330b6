//! 1: accept. Opens the listening sockets: one a worker and TCP listener, one for all where the kernel cannot spread
//! connections (Unix-domain sockets). Not here: what becomes of a connection.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::id::{Address, ListenerId};
use crate::snapshot::ListenerSpec;
use crate::uring::{self, BindError};

/// The listening sockets of one worker.
pub type Sockets = Vec<(ListenerId, OwnedFd)>;

/// Opens every listener for `workers` workers before any of them accepts. Returns the sockets by worker, and the addresses
/// bound: with port 0, the port that the kernel chose.
///
/// # Errors
/// The first that cannot be opened; then none is.
pub fn open(listeners: &[ListenerSpec], workers: usize) -> Result<(Vec<Sockets>, Vec<Address>), BindError> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let id = ListenerId(index as u16);
        uring::claim(&listener.bind)?;
        let first = uring::bind(&listener.bind)?;
        let address = match &listener.bind {
            Address::Inet(address) => {
                Address::Inet(uring::local_port(&first).map_or(*address, |port| SocketAddr::new(address.ip(), port)))
            }
            unix @ Address::Unix(_) => unix.clone(),
        };
        for worker in &mut sockets[1..] {
            let socket = match &address {
                Address::Inet(_) => uring::bind(&address)?,
                Address::Unix(_) => uring::share(&first, &address)?,
            };
            worker.push((id, socket));
        }
        sockets[0].push((id, first));
        bound.push(address);
    }
    Ok((sockets, bound))
}
