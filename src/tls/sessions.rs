//! Sessions and tickets of servers, for resumption: as many tickets as connections may need at a time, where the store that comes
//! with rustls keeps eight. Not here: when to resume, and keys of our own tickets (`tickets`).
#![expect(
    clippy::disallowed_types,
    reason = "rustls wants a store that can be shared; each thread has its own, so no lock waits"
)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// The store of one client.
#[derive(Debug)]
pub(super) struct Sessions {
    /// By name of the server. The configuration bounds their number.
    all: Mutex<HashMap<ServerName<'static>, ServerSessions>>,
    /// Most tickets kept per server; the oldest are dropped first.
    tickets: usize,
}

/// What one server has sent for resumption.
#[derive(Debug, Default)]
struct ServerSessions {
    group: Option<NamedGroup>,
    /// Session of TLS 1.2, which may be resumed any number of times.
    session: Option<Tls12ClientSessionValue>,
    /// Tickets of TLS 1.3, each used once (RFC 8446 appendix C.4), the newest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    /// A store of `tickets` tickets per server.
    pub(super) fn new(tickets: usize) -> Self {
        Self { all: Mutex::default(), tickets }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, ServerSessions>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.servers().entry(name).or_default().group = Some(group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.servers().get(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.servers().entry(name).or_default().session = Some(session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.servers().get(name)?.session.clone()
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(server) = self.servers().get_mut(name) {
            server.session = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut servers = self.servers();
        let tickets = &mut servers.entry(name).or_default().tickets;
        if tickets.len() == self.tickets {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.servers().get_mut(name)?.tickets.pop_back()
    }
}
