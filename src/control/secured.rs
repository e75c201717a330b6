//! The address of the admin interface where it speaks TLS: handshakes, beside each other. Not here: what is answered (`admin`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::tls::{Accepted, Acceptor};

/// Most handshakes at a time; further clients wait in the kernel.
const HANDSHAKES: usize = 64;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections whose handshake is done.
pub(super) struct Secured {
    listener: TcpListener,
    acceptor: Acceptor,
    handshakes: JoinSet<Option<(Accepted<TcpStream>, SocketAddr)>>,
}

impl Secured {
    pub(super) fn new(listener: TcpListener, acceptor: Acceptor) -> Self {
        Self { listener, acceptor, handshakes: JoinSet::new() }
    }
}

impl Listener for Secured {
    type Io = Accepted<TcpStream>;
    type Addr = SocketAddr;

    /// Can be dropped and called again: what is under way stays.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    // A client that is turned away has been told why by an alert.
                    if let Ok(Some(secured)) = done {
                        return secured;
                    }
                }
                (stream, address) = Listener::accept(&mut self.listener), if self.handshakes.len() < HANDSHAKES => {
                    let acceptor = self.acceptor.clone();
                    self.handshakes.spawn(async move {
                        let secured = timeout(HANDSHAKE, acceptor.accept(stream)).await.ok()?.ok()?;
                        Some((secured, address))
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
