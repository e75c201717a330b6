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

/// Names of which sessions are kept. Where requests say which name it is, they could be any number.
const SERVERS: usize = 1024;

/// The store of one client.
#[derive(Debug)]
pub(super) struct Sessions {
    /// By name of the server, at most [`SERVERS`].
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

    /// What is kept of a server, for something new. Where there are too many, one of them is forgotten, whichever.
    fn add(&self, name: ServerName<'static>, change: impl FnOnce(&mut ServerSessions)) {
        let mut servers = self.servers();
        if servers.len() >= SERVERS
            && !servers.contains_key(&name)
            && let Some(other) = servers.keys().next().cloned()
        {
            servers.remove(&other);
        }
        change(servers.entry(name).or_default());
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, ServerSessions>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.add(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.servers().get(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.add(name, |server| server.session = Some(session));
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
        self.add(name, |ServerSessions { tickets, .. }| {
            if tickets.len() == self.tickets {
                tickets.pop_front();
            }
            tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.servers().get_mut(name)?.tickets.pop_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_names_there_are_a_bounded_number_is_kept() {
        let sessions = Sessions::new(2);
        let name = |number: usize| ServerName::try_from(format!("n{number}.test")).unwrap();
        for number in 0..3 * SERVERS {
            sessions.set_kx_hint(name(number), NamedGroup::X25519);
            assert_eq!(sessions.kx_hint(&name(number)), Some(NamedGroup::X25519));
        }
        assert_eq!(sessions.servers().len(), SERVERS);
    }
}
